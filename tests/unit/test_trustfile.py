"""The trust file of a running process: a revocation counts at once, and a file that became wrong stops every check."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import BadSetting, Unavailable
from services.core.trustfile import TrustFile
from tests import signing as world
from tests.registry import Rig, opened


def write(path: Path, **changes: Any) -> Path:
    path.write_bytes(world.trust(**changes).to_bytes())
    return path


def test_a_revocation_counts_with_the_next_check_even_within_one_tick_of_the_clock(tmp_path: Path) -> None:
    path = write(tmp_path / "trust.json")
    trust, times = TrustFile(path), path.stat()
    assert world.signer_of("ada") in trust().people_keys()
    assert trust() is trust()
    write(path, revoked={world.signer_of("ada"): 7})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert world.signer_of("ada") not in trust().people_keys()


@pytest.mark.parametrize("data", [b"", b"{}", None], ids=["empty", "no field", "gone"])
def test_a_wrong_file_stops_the_start_and_every_check_until_it_is_mended(tmp_path: Path, data: bytes | None) -> None:
    path = write(tmp_path / "trust.json")
    trust = TrustFile(path)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(Unavailable, match="trust file"):
        trust()
    with pytest.raises(BadSetting, match="trust file"):
        TrustFile(path)
    assert world.signer_of("ada") in TrustFile(write(path))().people_keys()
    assert world.signer_of("ada") in trust().people_keys()


def test_another_log_needs_a_restart(tmp_path: Path) -> None:
    path = write(tmp_path / "trust.json")
    trust = TrustFile(path)
    value = json.loads(path.read_bytes())
    value["log"] |= {"origin": "other/log", "vkey": "other/log+00000000+AAAA"}
    path.write_text(json.dumps(value))
    with pytest.raises(Unavailable, match="another log"):
        trust()


def test_a_revoked_approver_is_not_counted_by_a_registry_that_runs(tmp_path: Path) -> None:
    with opened(tmp_path) as rig:
        approved_by = _approved(rig)
        rig.trust = world.trust(world.VKEY, revoked={world.signer_of("ada"): 0})
        assert (approved_by(), len(approved_by())) == (["ben"], 1)


def _approved(rig: Rig) -> Any:
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben")
    return lambda: [person.rsplit("/", 1)[-1] for person in rig.promotions.approvals(promotion)["approvedBy"]]
