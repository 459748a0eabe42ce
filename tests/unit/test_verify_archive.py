"""The offline verifier on an evidence archive: as written it holds; any change of any byte of it is found, and named."""

import ast
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO

import pytest

from services.core import archive as layout
from services.core.canonical import canonical, parse
from services.core.storedzip import BadZip, Reader
from services.verify.service import verify
from services.verify.walk import Own
from tests.archives import Members, edited, flipped, read, write, write_in_order
from tests.predictions import SALT, Served, served
from tests.registry import WEIGHTS, Rig, opened, trust

ABOUT_PREDICTION = [
    "archive", "log checkpoint", "log entries", "prediction record", "batch root", "batch in the log", "deployment",
    "model version", "manifest signature", "log inclusion", "weights", "model signature", "request and quorum", "decision",
    "policies", "decision facts", "decision re-executed", "deployment decision", "evaluation", "run", "code and dependencies",
    "data sets and licences", "every byte accounted for",
]  # fmt: skip
ABOUT_PROMOTION = [
    name for name in ABOUT_PREDICTION
    if name not in ("prediction record", "batch root", "batch in the log", "deployment", "deployment decision")
]  # fmt: skip
ACCOUNTED = ("every byte accounted for", "policies", "deployment decision")
"""Links that look at more than signatures cover."""
TRUST = trust()
FOLDERS = (layout.MODEL, layout.DATASETS, layout.DATASET_APPROVALS, layout.LOG)
RNG = random.Random(20)


@pytest.fixture(scope="module")
def platform() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as found:
        found.predict(seal=False)
        found.predict()
        yield found


@pytest.fixture(scope="module")
def rig(platform: Served) -> Rig:
    return platform.rig


@pytest.fixture(scope="module")
def prediction(platform: Served) -> str:
    """One of three in its batch."""
    ids = [platform.predict(seal=False) for _ in range(3)]
    platform.seal()
    return ids[1]


@pytest.fixture(scope="module")
def whole(platform: Served, prediction: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return platform.archive(prediction, tmp_path_factory.mktemp("archive") / "evidence.zip")


@pytest.fixture(scope="module")
def promotion(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About the version alone."""
    return rig.archive(tmp_path_factory.mktemp("archive") / "promotion.zip")


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
def light(platform: Served, prediction: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without weights: the model is larger than was asked for."""
    return platform.archive(prediction, tmp_path_factory.mktemp("archive") / "light.zip", weights_up_to=100)


def broken_link(path: Path, model: Path | None = None) -> str | None:
    broken = verify(path, TRUST, model).broken
    return broken.name if broken else None


def weights_in(folder: Path) -> Path:
    for path, data in WEIGHTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_an_archive_as_written_holds_link_by_link(whole: Path, prediction: str) -> None:
    report = verify(whole, TRUST)
    assert report.broken is None
    assert [(link.name, link.status) for link in report.links] == [
        *((name, "ok") for name in ABOUT_PREDICTION), ("watermark", "not claimed"),
        ("log is not forked or cut", "not checkable"), ("your input and output", "not checkable"),
    ]  # fmt: skip
    assert (report.to_json()["verified"], report.warnings) == (True, ())
    assert report.subject == f"prediction {prediction} by digits@1 in staging"


def test_an_archive_about_a_promotion_needs_no_prediction(promotion: Path) -> None:
    report = verify(promotion, TRUST)
    assert [link.name for link in report.links if link.status == "ok"] == ABOUT_PROMOTION
    assert (report.broken, report.subject) == (None, "digits@1 in staging")


def test_who_has_input_answer_and_salt_finds_them_in_the_record(platform: Served, tmp_path: Path) -> None:
    path = platform.archive(platform.predict(), tmp_path / "e.zip")
    sent, got = platform.input, platform.output
    for own in (Own(sent, got, SALT), Own(input=sent, salt=SALT), Own(output=got)):
        report = verify(path, TRUST, own=own)
        assert report.broken is None
        assert ("your input and output", "ok") in [(link.name, link.status) for link in report.links]
    wrong = [
        (Own(b"other", got, SALT), "the input is not"), (Own(sent, b"other", SALT), "the output is not"),
        (Own(sent, got, bytes(16)), "the input is not"), (Own(input=sent), "pass --salt"),
    ]  # fmt: skip
    for own, why in wrong:
        broken = verify(path, TRUST, own=own).broken
        assert broken is not None
        assert (broken.name, why in broken.detail) == ("your input and output", True)


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
    assert {*layout.FIXED, *layout.OF_PREDICTION} <= names
    assert all(any(name.startswith(folder) for name in names) for folder in FOLDERS)
    assert {name.removeprefix(layout.MODEL) for name in names if name.startswith(layout.MODEL)} == {*WEIGHTS, "model.sig"}


@cache
def labels() -> tuple[str, ...]:
    """Members by names that are the same in every run: fixed ones, and the n-th of each folder."""
    counted = {layout.DATASETS: 2, layout.DATASET_APPROVALS: 1, f"{layout.LOG}tile/": 2, layout.MODEL: len(WEIGHTS)}
    numbered = (f"{folder}#{number}" for folder, count in counted.items() for number in range(count))
    return (*layout.FIXED, *layout.OF_PREDICTION, *numbered)


def member(members: Members, label: str) -> str:
    folder, mark, number = label.partition("#")
    return sorted(name for name in members if name.startswith(folder) and name not in layout.FIXED)[int(number)] if mark else label


def test_the_labels_below_name_every_member(whole: Path) -> None:
    members = read(whole)
    assert sorted(member(members, label) for label in labels()) == sorted(members)


@pytest.mark.parametrize("place", ["first", "any", "last"])
@pytest.mark.parametrize("label", labels())
def test_a_changed_byte_in_any_member_breaks_a_link_by_name(whole: Path, tmp_path: Path, label: str, place: str) -> None:
    def change(members: Members) -> None:
        name = member(members, label)
        at = {"first": 0, "last": len(members[name]) - 1, "any": RNG.randrange(len(members[name]))}[place]
        members[name] = flipped(members[name], at)

    broken = verify(edited(whole, tmp_path / "e.zip", change), TRUST).broken
    assert broken is not None
    assert broken.name in ABOUT_PREDICTION
    assert broken.detail


SMALL = (
    layout.CHECKPOINT, layout.INDEX, layout.FILES, layout.PREDICTION, layout.PREDICTION_PROOF,
    "log/tile/#0", "model/#0", "model/#1",
)  # fmt: skip
"""Of these every byte is tried: they are short, and their links come early in the walk. The others are tried at places."""


@pytest.mark.parametrize("label", SMALL)
def test_every_byte_of_a_small_member_counts(whole: Path, tmp_path: Path, label: str) -> None:
    members, path = read(whole), tmp_path / "e.zip"
    name = member(members, label)
    held = members[name]
    for at in range(len(held)):
        changed = bytes([held[at] ^ 1 << RNG.randrange(8)])
        assert broken_link(write(path, members | {name: held[:at] + changed + held[at + 1 :]})) in ABOUT_PREDICTION, (at, changed)


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
    "name",
    [
        "../evil", "/etc/passwd", "model/../../evil", "model\\evil", "readme.txt", "model/", "evidence.json/x", "trust.json",
        "keys/log.pem",
    ],
)
def test_a_member_with_a_name_that_no_archive_has_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    broken = verify(edited(whole, tmp_path / "e.zip", lambda members: members.update({name: b"x"})), TRUST).broken
    assert broken is not None
    assert (broken.name, name.rstrip("/").replace("\\", "\\\\") in broken.detail) == ("archive", True)


def test_an_archive_about_a_promotion_has_no_members_of_a_prediction(promotion: Path, whole: Path, tmp_path: Path) -> None:
    record = read(whole)[layout.PREDICTION]
    path = edited(promotion, tmp_path / "e.zip", lambda members: members.update({layout.PREDICTION: record}))
    assert layout.PREDICTION in verify(path, TRUST).links[0].detail


def rewritten(whole: Path, path: Path, change: Callable[[zipfile.ZipInfo], object], packed: int = zipfile.ZIP_STORED) -> Path:
    """The same members, as another program would write them."""
    with zipfile.ZipFile(path, "w", packed) as target:
        for name, data in read(whole).items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = packed, 3, 0o100600 << 16
            change(info)
            target.writestr(info, data)
    return path


def set_to(**values: object) -> Callable[[zipfile.ZipInfo], None]:
    def change(info: zipfile.ZipInfo) -> None:
        for name, value in values.items():
            setattr(info, name, value)

    return change


def test_a_zip_program_that_writes_the_same_form_writes_our_archive(whole: Path, tmp_path: Path) -> None:
    assert rewritten(whole, tmp_path / "e.zip", set_to()).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_to(external_attr=0o120777 << 16), "symbolic link"), (set_to(flag_bits=0), None),
        (set_to(date_time=(2026, 1, 1, 0, 0, 0)), "other headers"), (set_to(extra=b"xx\0\0"), "other headers"),
        (set_to(comment=b"trust me"), "before, between or behind"), (set_to(create_system=0), "before, between or behind"),
    ],
    ids=["symlink", "none", "date", "extra field", "comment", "system"],
)  # fmt: skip
def test_members_in_another_form_are_refused(
    whole: Path, tmp_path: Path, change: Callable[[zipfile.ZipInfo], object], why: str | None
) -> None:
    found = verify(rewritten(whole, tmp_path / "e.zip", change), TRUST).links[0]
    assert (found.status == "ok") is (why is None)
    assert why is None or why in found.detail


def test_an_encrypted_member_is_refused(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "e.zip").write_bytes(data)
    assert "encrypted" in verify(tmp_path / "e.zip", TRUST).links[0].detail


def test_a_zip_bomb_is_refused_before_it_is_unpacked(whole: Path, tmp_path: Path) -> None:
    """Packed members, of whatever ratio, and members that lie on each other: a file of this form holds neither."""
    bomb = rewritten(whole, tmp_path / "e.zip", set_to(), zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        target.writestr("model/zeros", bytes(30 << 20))
    assert "is packed" in verify(bomb, TRUST).links[0].detail


def test_members_that_lie_on_each_other_are_refused(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = bytes(4)  # where the second member begins: at the first one
    (tmp_path / "e.zip").write_bytes(data)
    assert "does not begin where" in verify(tmp_path / "e.zip", TRUST).links[0].detail


def test_a_member_that_stands_there_twice_is_refused(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "e.zip"))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as target:
        warnings.simplefilter("ignore")
        target.writestr(layout.MANIFEST, b"{}")
    assert "twice" in verify(path, TRUST).links[0].detail


def test_the_same_members_in_another_order_are_refused(whole: Path, tmp_path: Path) -> None:
    members, path = read(whole), tmp_path / "e.zip"
    names = list(members)
    for at in range(len(names) - 1):
        swapped = [*names[:at], names[at + 1], names[at], *names[at + 2 :]]
        found = verify(write_in_order(path, {name: members[name] for name in swapped}), TRUST).links[0]
        assert (found.name, found.status, "another order" in found.detail) == ("archive", "broken", True), swapped[at]
    assert broken_link(write_in_order(path, members)) is None


def test_bytes_around_the_members_are_refused(whole: Path, tmp_path: Path) -> None:
    data, path = whole.read_bytes(), tmp_path / "e.zip"
    central = data.index(b"PK\x01\x02")
    commented = data[:-2] + b"\x08\x00trust me"
    between = data[:central] + b"x" + data[central:-6] + (central + 1).to_bytes(4, "little") + data[-2:]
    for changed in (b"#!/bin/sh\n" + data, data + b"x", data + data, commented, between):
        path.write_bytes(changed)
        found = verify(path, TRUST).links[0]
        assert (found.name, found.status, "as it was written" in found.detail) == ("archive", "broken", True)


def test_every_bit_of_the_frame_counts(whole: Path, tmp_path: Path) -> None:
    """Everything that is no member's data: one changed bit and the file is none of ours."""
    path = Path(shutil.copy(whole, tmp_path / "e.zip"))
    with Reader.open(path) as reader:
        data = {at for member in reader.members.values() for at in range(member.offset, member.offset + member.size)}
    frame = [at for at in range(path.stat().st_size) if at not in data]
    assert len(frame) > 2000
    with path.open("r+b", buffering=0) as file:
        for at in frame:
            file.seek(at)
            old = file.read(1)
            _poke(file, at, bytes([old[0] ^ 1 << RNG.randrange(8)]))
            with pytest.raises(BadZip):
                Reader.open(path)
            _poke(file, at, old)
    assert broken_link(path) is None


def _poke(file: IO[bytes], at: int, value: bytes) -> None:
    file.seek(at)
    file.write(value)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip", b"PK\x05\x06" + bytes(18)], ids=repr)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "e.zip").write_bytes(data)
    assert broken_link(tmp_path / "e.zip") == "archive"


def test_an_absent_archive_is_refused(tmp_path: Path) -> None:
    assert broken_link(tmp_path / "none.zip") == "archive"


def test_any_changed_byte_of_the_file_is_found(whole: Path, tmp_path: Path) -> None:
    data, path = whole.read_bytes(), tmp_path / "e.zip"
    for at in [0, len(data) - 1, *(RNG.randrange(len(data)) for _ in range(25))]:
        path.write_bytes(flipped(data, at))
        assert broken_link(path) in ABOUT_PREDICTION, at
    for size in range(0, len(data), len(data) // 30):
        path.write_bytes(data[:size])
        assert broken_link(path) == "archive"


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
    [b"{}", b"[]", b"7", b'{"version":1}', b'{"version":2}',
     b'{"decision":{},"deployDecision":1,"environment":[],"model":1,"number":"x","prediction":2,"version":2,"weights":true}'],
    ids=repr,
)
def test_an_index_of_another_shape_is_broken(whole: Path, tmp_path: Path, index: bytes) -> None:
    assert broken_link(edited(whole, tmp_path / "e.zip", lambda members: members.update({layout.INDEX: index}))) == "archive"


@pytest.mark.parametrize(
    "name", [layout.REQUEST, layout.DECISION, layout.DECISION_INPUT, layout.MANIFEST, layout.CHECKPOINT, layout.EVALUATION]
)
def test_a_member_of_another_promotion_does_not_pass_for_this_ones(other: Path, whole: Path, tmp_path: Path, name: str) -> None:
    own, foreign = read(whole), read(other)
    assert own[name] != foreign[name]
    assert broken_link(write(tmp_path / "e.zip", own | {name: foreign[name]})) is not None


def test_the_verifier_imports_nothing_of_the_platform_but_core() -> None:
    """Its own files, and all of core that they reach: also imports inside functions, which a run might not meet."""
    root = Path(layout.__file__).parents[2]
    todo, seen = [f"services.verify.{path.stem}" for path in (root / "services" / "verify").glob("*.py")], set[str]()
    while todo:
        name = todo.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        todo += [item for item in _imports(ast.parse(path.read_text())) if item.startswith("services.")]
    assert {name for name in seen if not name.startswith(("services.core.", "services.verify."))} == set()
    assert len(seen) > 20


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_command_loads_no_server_no_database_and_no_training(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_bytes(TRUST.to_bytes())
    run = "import sys; from services.cli import app; app(sys.argv[1:], standalone_mode=False); print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", run, "verify", str(whole), "--trust", "trust.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "verified" in loaded
    assert {"torch", "ray", "fastapi", "sqlalchemy", "alembic", "uvicorn", "aiohttp", "httpx", "kserve", "numpy"} & loaded == set()
