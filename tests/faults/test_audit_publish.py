"""Publishing is cut off at each of its steps, before and after the step took effect; the next publish mends it by the same code."""

from pathlib import Path

import pytest

from services.audit.service import AuditLog
from services.core.errors import Unavailable
from tests.audit import Home, append
from tests.fakes.faults import Fault, FaultName, FaultySigner, FaultyStore

STEPS = ["tile/0/", "tile/1/", "tile/entries/", "sign", "checkpoint"]
OLD, NEW = 250, 700


def faulty(home: Home, step: str, fault: Fault) -> AuditLog:
    if step == "sign":
        return home.open(signer=FaultySigner(home.signer, fault))
    return home.open(store=FaultyStore(home.store, fault, lambda path: path.startswith(step)))


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_the_log_survives_a_crash_at_every_step(tmp_path: Path, step: str, at: int, fault: FaultName) -> None:
    home = Home(tmp_path)
    kept = (home.filled(OLD), home.note())[1]
    append(home.open(), NEW - OLD, OLD + 1)
    struck = Fault(fault, at)
    publishing = faulty(home, step, struck)
    if at and step in ("sign", "checkpoint", "tile/1/"):
        # These steps happen once in a publish: the later numbers show that the fault leaves the others alone.
        publishing.publish()
    else:
        with pytest.raises(Unavailable):
            publishing.publish()
        # Readers see the old tree or the new one, whole.
        report = home.check(kept)
        assert (report.size in (OLD, NEW), report.problems) == (True, ())
    # More events arrive before the restarted process publishes.
    append(home.open(), 5, NEW + 1)
    home.open().publish()
    report = home.check(kept)
    assert (report.size, report.problems, report.not_checkable) == (NEW + 5, (), ())


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
def test_the_first_checkpoint_survives_a_crash_too(tmp_path: Path, fault: FaultName) -> None:
    home = Home(tmp_path)
    append(home.open(), 3)
    with pytest.raises(Unavailable):
        faulty(home, "sign", Fault(fault)).publish()
    home.open().publish()
    assert (home.check().size, home.check().problems) == (3, ())


def test_a_file_left_half_written_by_a_crash_is_replaced(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.filled(3)
    append(home.open(), 2, 4)
    (home.folder / "tile/0/000.p/.5.tmp").write_bytes(b"half")
    home.open().publish()
    assert home.check().problems == ()
    assert not (home.folder / "tile/0/000.p/.5.tmp").exists()


def test_a_disk_that_takes_no_file_makes_publishing_unavailable(tmp_path: Path) -> None:
    home = Home(tmp_path)
    append(home.open(), 3)
    home.folder.write_bytes(b"a file where the folder should be")
    with pytest.raises(Unavailable, match="could not be written"):
        home.open().publish()
