"""The offline verifier on an evidence archive: as written it holds; any change of any byte of it is found."""

import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from services.core import archive as layout
from services.core.canonical import canonical, parse
from services.verify.service import verify
from tests.archives import Members, edited, flipped, read, write
from tests.registry import WEIGHTS, Rig, opened, trust

LINKS = [
    "archive", "log checkpoint", "log entries", "manifest signature", "log inclusion", "weights", "model signature",
    "request and quorum", "decision", "policies", "decision facts", "decision re-executed", "evaluation", "provenance",
    "data sets and licences", "every byte accounted for",
]  # fmt: skip
ACCOUNTED = ("every byte accounted for", "policies")
"""Links that look at more than signatures cover."""
TRUST = trust()
FOLDERS = (layout.MODEL, layout.DATASETS, layout.DATASET_APPROVALS, layout.LOG)



@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as rig:
        rig.promoted()
        yield rig


@pytest.fixture(scope="module")
def whole(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.archive(tmp_path_factory.mktemp("archive") / "evidence.zip")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of the same version, promoted on another platform with the same keys."""
    folder = tmp_path_factory.mktemp("other")
    with opened(folder) as rig:
        rig.now += 1
        rig.evaluate()
        rig.promoted()
        yield rig.archive(folder / "evidence.zip")


@pytest.fixture(scope="module")
def light(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without weights."""
    return rig.archive(tmp_path_factory.mktemp("archive") / "light.zip", weights=False)


def broken_link(path: Path, model: Path | None = None) -> str | None:
    broken = verify(path, TRUST, model).broken
    return broken.name if broken else None


def weights_in(folder: Path) -> Path:
    for path, data in WEIGHTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_an_archive_as_written_holds_link_by_link(whole: Path) -> None:
    report = verify(whole, TRUST)
    assert report.broken is None
    assert [(link.name, link.status) for link in report.links] == [
        *((name, "ok") for name in LINKS), ("watermark", "not claimed"), ("log is not forked or cut", "not checkable"),
    ]  # fmt: skip
    assert report.to_json()["verified"] is True


def test_the_archive_of_a_later_promotion_holds_too(tmp_path: Path) -> None:
    with opened(tmp_path) as rig:
        rig.promoted(to="staging")
        rig.promoted(to="prod")
        rig.approve_dataset(rig.dataset("later", pii="present"))
        rig.flag()
        report = verify(rig.archive(tmp_path / "e.zip"), rig.trust)
        assert (report.broken, report.subject) == (None, "digits@1 in prod")


def test_every_kind_of_member_is_in_the_archive_under_test(whole: Path) -> None:
    names = read(whole).keys()
    assert set(layout.FIXED) <= names
    assert all(any(name.startswith(folder) for name in names) for folder in FOLDERS)
    assert {name.removeprefix(layout.MODEL) for name in names if name.startswith(layout.MODEL)} == {*WEIGHTS, "model.sig"}


@cache
def labels() -> tuple[str, ...]:
    """Members by names that are the same in every run: fixed ones, and the n-th of each folder."""
    counted = {layout.DATASETS: 2, layout.DATASET_APPROVALS: 1, f"{layout.LOG}tile/": 2, layout.MODEL: len(WEIGHTS)}
    return (*layout.FIXED, *(f"{folder}#{number}" for folder, count in counted.items() for number in range(count)))


def member(members: Members, label: str) -> str:
    folder, mark, number = label.partition("#")
    return sorted(name for name in members if name.startswith(folder) and name not in layout.FIXED)[int(number)] if mark else label


def test_the_labels_below_name_every_member(whole: Path) -> None:
    members = read(whole)
    assert sorted(member(members, label) for label in labels()) == sorted(members)


@pytest.mark.parametrize("label", labels())
def test_a_changed_byte_in_any_member_breaks_it(whole: Path, tmp_path: Path, label: str) -> None:
    def change(members: Members) -> None:
        name = member(members, label)
        members[name] = flipped(members[name])

    assert broken_link(edited(whole, tmp_path / "e.zip", change)) is not None


@pytest.mark.parametrize("label", labels())
def test_bytes_appended_to_any_member_break_it(whole: Path, tmp_path: Path, label: str) -> None:
    def change(members: Members) -> None:
        members[member(members, label)] += b"\n"

    assert broken_link(edited(whole, tmp_path / "e.zip", change)) is not None


@pytest.mark.parametrize("label", labels())
def test_a_missing_member_breaks_it(whole: Path, tmp_path: Path, label: str) -> None:
    assert broken_link(edited(whole, tmp_path / "e.zip", lambda members: members.pop(member(members, label)))) is not None


@pytest.mark.parametrize("label", [label for label in labels() if label.endswith(".dsse.json")])
def test_even_a_key_id_that_no_signature_covers_cannot_be_changed(whole: Path, tmp_path: Path, label: str) -> None:
    def change(members: Members) -> None:
        value = parse(members[label])
        value["signatures"][-1]["keyid"] = "someone"
        members[label] = canonical(value)

    assert broken_link(edited(whole, tmp_path / "e.zip", change)) in ACCOUNTED


@pytest.mark.parametrize("label", [label for label in labels() if label.endswith(".dsse.json")])
def test_the_same_envelope_in_other_bytes_is_not_taken(whole: Path, tmp_path: Path, label: str) -> None:
    def change(members: Members) -> None:
        members[label] = members[label].replace(b'":', b'": ', 1)

    assert broken_link(edited(whole, tmp_path / "e.zip", change)) in ACCOUNTED


@pytest.mark.parametrize(
    "name", ["datasets/" + "0" * 64 + ".json", "log/notes.txt", "log/tile/9/000", "dataset-approvals/x.dsse.json"]
)
def test_a_member_that_nothing_refers_to_breaks_it(whole: Path, tmp_path: Path, name: str) -> None:
    path = edited(whole, tmp_path / "e.zip", lambda members: members.update({name: b"{}"}))
    assert broken_link(path) in (*ACCOUNTED, "decision facts")


@pytest.mark.parametrize("name", ["model/extra.bin", "model/MODEL.safetensors"])
def test_an_extra_file_of_the_model_breaks_it(whole: Path, tmp_path: Path, name: str) -> None:
    assert broken_link(edited(whole, tmp_path / "e.zip", lambda members: members.update({name: b"x"}))) == "weights"


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "model/../../evil", "model\\evil", "readme.txt", "model/", "evidence.json/x"]
)
def test_a_member_with_a_name_that_no_archive_has_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    assert broken_link(edited(whole, tmp_path / "e.zip", lambda members: members.update({name: b"x"}))) == "archive"


def test_a_member_that_stands_there_twice_is_refused(whole: Path, tmp_path: Path) -> None:
    path = shutil.copy(whole, tmp_path / "e.zip")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as target:
        warnings.simplefilter("ignore")
        target.writestr(layout.MANIFEST, b"{}")
    assert "twice" in verify(path, TRUST).links[0].detail


def test_a_zip_bomb_is_refused_before_it_is_unpacked(whole: Path, tmp_path: Path) -> None:
    path = edited(whole, tmp_path / "e.zip", lambda members: members.update({"model/zeros": bytes(30 << 20)}))
    assert "refused" in verify(path, TRUST).links[0].detail


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip", b"PK\x05\x06" + bytes(18)], ids=repr)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "e.zip").write_bytes(data)
    assert broken_link(tmp_path / "e.zip") == "archive"


def test_an_absent_archive_is_refused(tmp_path: Path) -> None:
    assert broken_link(tmp_path / "none.zip") == "archive"


def test_a_damaged_zip_file_never_ends_in_a_stack_trace(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 60)):
        (tmp_path / "e.zip").write_bytes(flipped(data, at))
        verify(tmp_path / "e.zip", TRUST)
    for size in range(0, len(data), max(1, len(data) // 30)):
        (tmp_path / "e.zip").write_bytes(data[:size])
        assert broken_link(tmp_path / "e.zip") == "archive"


def test_an_archive_without_weights_holds_with_the_folder_beside_it(light: Path, tmp_path: Path) -> None:
    assert not any(name in WEIGHTS for name in read(light))
    assert broken_link(light, weights_in(tmp_path)) is None


def test_the_exported_folder_may_hold_its_signature(light: Path, tmp_path: Path) -> None:
    (weights_in(tmp_path) / "model.sig").write_bytes(b"judged by stock tools")
    assert broken_link(light, tmp_path) is None


@pytest.mark.parametrize("change", ["edited", "extra", "missing", "link", "empty"])
def test_a_folder_that_is_not_the_model_breaks_the_weights(light: Path, tmp_path: Path, change: str) -> None:
    folder = weights_in(tmp_path / "model")
    if change == "edited":
        (folder / "config.json").write_bytes(flipped(WEIGHTS["config.json"]))
    elif change == "extra":
        (folder / "extra").touch()
    elif change == "missing":
        (folder / "config.json").unlink()
    elif change == "link":
        (folder / "config.json").rename(tmp_path / "elsewhere")
        (folder / "config.json").symlink_to(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    assert broken_link(light, folder) == "weights"


def test_without_weights_and_without_a_folder_the_weights_are_broken(light: Path) -> None:
    assert broken_link(light) == "weights"


def test_a_folder_given_beside_an_archive_with_weights_is_checked_too(whole: Path, tmp_path: Path) -> None:
    folder = weights_in(tmp_path)
    assert broken_link(whole, folder) is None
    (folder / "config.json").write_bytes(b"{}")
    assert broken_link(whole, folder) == "weights"


def test_an_archive_that_lies_about_its_weights_is_broken(whole: Path, light: Path, tmp_path: Path) -> None:
    def lie(members: Members) -> None:
        value = parse(members[layout.INDEX])
        members[layout.INDEX] = canonical(value | {"weights": not value["weights"]})

    assert broken_link(edited(whole, tmp_path / "a.zip", lie), weights_in(tmp_path / "model")) == "weights"
    assert broken_link(edited(light, tmp_path / "b.zip", lie), tmp_path / "model") == "weights"


@pytest.mark.parametrize(
    "index",
    [b"{}", b"[]", b"7", b'{"version":2}', b'{"decision":{},"environment":[],"model":1,"number":"x","version":1,"weights":true}'],
    ids=repr,
)
def test_an_index_of_another_shape_is_broken(whole: Path, tmp_path: Path, index: bytes) -> None:
    assert broken_link(edited(whole, tmp_path / "e.zip", lambda members: members.update({layout.INDEX: index}))) is not None


@pytest.mark.parametrize(
    "name", [layout.REQUEST, layout.DECISION, layout.DECISION_INPUT, layout.MANIFEST, layout.CHECKPOINT, layout.EVALUATION]
)
def test_a_member_of_another_promotion_does_not_pass_for_this_ones(other: Path, whole: Path, tmp_path: Path, name: str) -> None:
    own, foreign = read(whole), read(other)
    assert own[name] != foreign[name]
    assert broken_link(write(tmp_path / "e.zip", own | {name: foreign[name]})) is not None


def test_the_verifier_loads_nothing_of_the_platform_but_core() -> None:
    code = "import sys, services.verify.service; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("services.")}
    assert {name for name in ours if not name.startswith(("services.core", "services.verify"))} == set()
    assert {"sqlalchemy", "fastapi", "httpx", "uvicorn", "alembic"} & {name.split(".")[0] for name in loaded} == set()


