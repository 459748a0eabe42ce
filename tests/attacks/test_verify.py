"""Archives and names that were made to deceive the offline verifier or the terminal of whoever runs it."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.commands.common import plain
from services.commands.verify import draw
from services.core.errors import TooLarge
from services.verify import zipreader
from services.verify.report import BROKEN, Link, Report
from services.verify.service import verify
from services.verify.zipreader import BadArchive
from tests.registry import Rig, opened, trust


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as found:
        found.promoted()
        yield found


@pytest.fixture
def archive(rig: Rig, tmp_path: Path) -> bytes:
    return rig.archive(tmp_path / "evidence.zip").read_bytes()


def test_bytes_around_the_members_are_refused(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "changed.zip"
    path.write_bytes(archive)
    assert verify(path, trust()).broken is None
    commented = io.BytesIO(archive)
    with zipfile.ZipFile(commented, "a") as target:
        target.comment = b"trust me"
    for changed in (b"#!/bin/sh\n" + archive, archive + b"x", archive + archive, commented.getvalue()):
        path.write_bytes(changed)
        with pytest.raises(BadArchive, match="before or behind"):
            zipreader.read(path)


def test_many_small_members_do_not_fill_the_memory(archive: bytes, tmp_path: Path) -> None:
    bomb = io.BytesIO(archive)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for number in range(100):
            target.writestr(f"model/{number}", bytes(1 << 20))
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb.getvalue())
    with pytest.raises(TooLarge, match="unpacks to"):
        zipreader.read(path)


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    link = Link("manifest signature", BROKEN, "of \x1b]0;x\x07another\nverified")
    draw(Report("\x1b[2J\x1b[Hdigits@1\nverified\x1b[8m", (link,)))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert [line for line in told.splitlines() if line.strip() == "verified"] == []
    assert plain("é ✓ \x1b[8m\u202e\u200b") == "é ✓ \\x1b[8m\\u202e\\u200b"


def test_an_unreadable_model_folder_is_a_broken_link(archive: bytes, tmp_path: Path) -> None:
    path, folder = tmp_path / "evidence.zip", tmp_path / "model"
    folder.mkdir()
    os.symlink("/etc/passwd", os.fsencode(folder) + b"/\xff\xfe")
    broken = verify(path, trust(), folder).broken
    assert broken is not None
    plain(broken.detail).encode("utf-8")
    assert (broken.name, "is a link or a device" in broken.detail) == ("weights", True)
