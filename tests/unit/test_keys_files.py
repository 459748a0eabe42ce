"""Private keys on disk: made once, readable by their owner only."""

import os
from pathlib import Path

import pytest

from services.core import keys
from services.core.errors import BadSetting


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = keys.generate_p256()
    keys.write_private_pem(tmp_path / "k.pem", key)
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    assert keys.private_pem(keys.read_private_pem(tmp_path / "k.pem")) == keys.private_pem(key)


def test_a_key_file_is_never_replaced(tmp_path: Path) -> None:
    keys.write_private_pem(tmp_path / "k.pem", keys.generate_p256())
    before = (tmp_path / "k.pem").read_bytes()
    with pytest.raises(BadSetting, match="already"):
        keys.write_private_pem(tmp_path / "k.pem", keys.generate_p256())
    assert (tmp_path / "k.pem").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_open_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    keys.write_private_pem(tmp_path / "k.pem", keys.generate_p256())
    (tmp_path / "k.pem").chmod(mode)
    with pytest.raises(BadSetting, match="chmod 600"):
        keys.read_private_pem(tmp_path / "k.pem")


def test_a_missing_key_and_a_link_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        keys.read_private_pem(tmp_path / "k.pem")
    keys.write_private_pem(tmp_path / "k.pem", keys.generate_p256())
    os.symlink(tmp_path / "k.pem", tmp_path / "link.pem")
    with pytest.raises(BadSetting):
        keys.read_private_pem(tmp_path / "link.pem")
