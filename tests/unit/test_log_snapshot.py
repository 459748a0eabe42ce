"""An evidence archive takes the log as it was when its checkpoint was read, while the log goes on."""

from pathlib import Path

from services.api.adapters import LogSnapshot
from services.core import logfile, tlog
from services.core.logcheck import check_log
from services.core.tls import service_id
from tests import signing as world
from tests.audit import events
from tests.fakes.log_store import MemoryLogStore
from tests.registry import Rig

OTHER = service_id("router")


def _grow(rig: Rig, size: int) -> None:
    """Publishes the log of that many entries."""
    held = rig.audit.size()
    known = len([entry for entry in rig.audit.search(limit=1000) if entry.event["source"] == OTHER])
    rig.audit.append(events(size - held, known + 1, OTHER))
    rig.audit.publish()


def test_snapshot_is_whole_though_the_log_grew_past_a_full_tile_meanwhile(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    _grow(rig, 250)
    taking = LogSnapshot(rig.audit, rig.relay).snapshot()
    first = next(taking)
    _grow(rig, 300)
    files = dict([first, *taking])
    assert set(files) == {logfile.CHECKPOINT, *logfile.paths(250)}
    report = check_log(MemoryLogStore(files), tlog.parse_vkey(world.VKEY))
    assert (report.size, report.problems) == (250, ())
    rig.close()
