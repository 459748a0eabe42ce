"""A run's folder: what the backend brings in, and how little it believes of what training writes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.core.digests import sha256
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.training import source
from services.training.domain import Compute
from services.training.errors import BadJob
from services.training.ports import Order, Progress
from services.training.runfolder import RunFolder
from services.training.source import SourceFile

GPU = Compute(queue="q", priority="p", cpu="1", memory="1Gi", gpus=2, spot=True)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "objects"))


@pytest.fixture
def order(store: ObjectStore) -> Order:
    archive = source.to_tar([SourceFile("train.py", False, b"x = 1\n")])
    return Order(
        run_id="run-1", source=store.put(archive), directory="", entrypoint="train:loop", workers=2, seed=7, hyperparameters={},
        datasets={"b@1": {"rows.csv": store.put(b"rows b\n")}, "a@1": {"deep/rows.csv": store.put(b"rows a\n")}},
        outputs=["model"], compute=GPU,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, order: Order, store: ObjectStore) -> RunFolder:
    found = RunFolder(tmp_path / "run-1")
    found.prepare(order, store)
    found.output.mkdir()
    return found


def end(folder: RunFolder, **more: Any) -> None:
    value = {"attempt": folder.attempt(), "state": "completed", "error": None, "startedAt": 1000, "finishedAt": 9999}
    (folder.work / "result.json").write_text(json.dumps(value | more))


def test_inputs_are_brought_in_and_named(folder: RunFolder) -> None:
    said = folder.order()
    assert said["datasets"] == {"a@1": "datasets/0", "b@1": "datasets/1"}
    files = {path.relative_to(folder.inputs).as_posix(): path.read_bytes() for path in folder.inputs.rglob("*.[cp][sy]*")}
    assert files == {"datasets/0/deep/rows.csv": b"rows a\n", "datasets/1/rows.csv": b"rows b\n", "source/train.py": b"x = 1\n"}


def test_whole_inputs_are_kept_and_others_replaced(folder: RunFolder, order: Order, store: ObjectStore) -> None:
    (folder.inputs / "kept").touch()
    folder.prepare(order, store)
    assert (folder.inputs / "kept").exists()
    folder.prepare(replace(order, seed=8), store)
    assert not (folder.inputs / "kept").exists()
    assert folder.order()["seed"] == 8


def test_inputs_that_are_not_in_the_store_leave_nothing_that_looks_whole(tmp_path: Path, order: Order, store: ObjectStore) -> None:
    found = RunFolder(tmp_path / "run-2")
    with pytest.raises(Exception, match="no object"):
        found.prepare(replace(order, datasets={"a@1": {"x": sha256(b"gone")}}), store)
    assert (found.attempt(), (found.inputs / "order.json").exists()) == (None, False)


def test_the_end_of_an_attempt_is_its_own(folder: RunFolder, order: Order, store: ObjectStore) -> None:
    end(folder)
    assert folder.progress() == Progress("completed", 9999)
    folder.prepare(order, store)
    assert folder.progress() is None
    end(folder, state="failed", error="no memory")
    assert folder.progress() == Progress("failed", 9999, "no memory")
    folder.reopen()
    assert folder.progress() is None


def test_usage_is_what_the_order_says_for_as_long_as_it_took(folder: RunFolder) -> None:
    assert folder.usage() is None
    end(folder)
    found = folder.usage()
    assert found is not None
    assert found.to_json() == {"seconds": 8, "workers": 2, "workerSeconds": 16, "gpuSeconds": 32, "spot": True}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"attempt": 1', '{"attempt": "A", "state": "great"}', '"x"'])
def test_a_result_that_no_driver_writes_is_refused(folder: RunFolder, text: str) -> None:
    (folder.work / "result.json").write_text(text.replace("A", str(folder.attempt())))
    with pytest.raises(BadJob, match=r"result\.json"):
        folder.progress()


@pytest.mark.parametrize("time", [float("inf"), 10**400, 10**18, -1, 1.5, True, "1000"])
@pytest.mark.parametrize("name", ["startedAt", "finishedAt"])
def test_a_time_that_no_clock_says_is_refused(folder: RunFolder, name: str, time: object) -> None:
    end(folder, **{name: time})
    with pytest.raises(BadJob, match=r"result\.json"):
        folder.usage()


def test_a_result_of_brackets_without_end_is_refused(folder: RunFolder) -> None:
    (folder.work / "result.json").write_text("[" * 200_000)
    with pytest.raises(BadJob, match=r"result\.json"):
        folder.progress()


def test_a_folder_in_the_place_of_a_mark_does_not_keep_the_run_from_another_attempt(folder: RunFolder) -> None:
    (folder.work / "started" / "deep").mkdir(parents=True)
    folder.reopen()
    assert not folder.started()


def test_a_later_report_of_an_epoch_replaces_the_earlier_one(folder: RunFolder) -> None:
    lines = ['{"epoch": 1, "loss": 3}', '{"epoch": 2, "loss": 2}', '{"epoch": 2, "loss": 1}', '{"epoch": 3, "lo']
    (folder.work / "events.jsonl").write_text("\n".join(lines))
    assert folder.events(0) == [{"epoch": 1, "loss": 3}, {"epoch": 2, "loss": 1}]
    assert folder.events(1) == [{"epoch": 2, "loss": 1}]


@pytest.mark.parametrize("line", ["x", "[]", '{"loss": 1}', '{"epoch": 1.5}', '{"epoch": true}', '{"epoch": 1, "loss": NaN}'])
def test_a_report_that_is_none_is_refused(folder: RunFolder, line: str) -> None:
    (folder.work / "events.jsonl").write_text(line + "\n")
    with pytest.raises(BadJob):
        folder.events(0)


@pytest.mark.parametrize("name", ["result.json", "events.jsonl"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_is_read_through_a_link_or_a_pipe(folder: RunFolder, tmp_path: Path, name: str, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"epoch": 1}\n')
    _put(folder.work / name, kind, secret)
    with pytest.raises(BadJob, match="plain file"):
        folder.progress() if name == "result.json" else folder.events(0)


def _put(path: Path, kind: str, target: Path) -> None:
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


def test_outputs_are_copied_whole(folder: RunFolder, tmp_path: Path) -> None:
    (folder.output / "deep").mkdir()
    (folder.output / "deep/weights").write_bytes(b"w")
    (folder.output / "config").write_bytes(b"c")
    folder.copy_output(tmp_path / "own/output")
    found = {path.relative_to(tmp_path / "own"): path.read_bytes() for path in (tmp_path / "own").rglob("*") if path.is_file()}
    assert found == {Path("output/deep/weights"): b"w", Path("output/config"): b"c"}


@pytest.mark.parametrize("kind", ["link", "pipe", "link to a folder", "the folder itself"])
def test_outputs_that_lead_elsewhere_are_refused_and_nothing_is_copied(folder: RunFolder, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tls.key").write_text("a secret")
    if kind == "the folder itself":
        folder.output.rmdir()
        folder.output.symlink_to(elsewhere)
    else:
        _put(folder.output / "x", kind.split()[0], elsewhere if "folder" in kind else elsewhere / "tls.key")
    with pytest.raises(BadJob):
        folder.copy_output(tmp_path / "own/output")
    assert not (tmp_path / "own/output").exists()


def test_outputs_that_would_fill_the_disk_are_refused_before_they_are_copied(folder: RunFolder, tmp_path: Path) -> None:
    with (folder.output / "weights").open("wb") as file:
        file.truncate(1 << 43)  # 8 TiB that take no room here
    with pytest.raises(BadJob, match="weights: outputs take more than half of what is free"):
        folder.copy_output(tmp_path / "own/output")
    assert not (tmp_path / "own/output").exists()


def test_a_refusal_outlasts_a_retry(folder: RunFolder, order: Order, store: ObjectStore) -> None:
    folder.refuse("changed by somebody")
    folder.reopen()
    folder.prepare(order, store)
    assert folder.refusal() == "changed by somebody"
