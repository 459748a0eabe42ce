"""A run's folder: all that compute is told, and all that it answers. Two sides, so that training code can be kept off its inputs.

    in/order.json    what to run                      out/started       the driver took the run
    in/source/       the unpacked archive             out/events.jsonl  metrics of each epoch
    in/datasets/N/   the files of one data set        out/checkpoints/  Ray Train's; a later attempt goes on there
    in/attempt       a name for the present attempt   out/output/       what rank 0 wrote
    in/job           what its job does, a digest      out/result.json   {"attempt", "state", "error", "startedAt", "finishedAt"}
    in/refused       why the run must not go on

`in` is written by the backend alone; `out` by training, whose code is a stranger's. So nothing in `out` is read or copied through
a symbolic link or a pipe, and what it says is believed of this run only.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from services.core.canonical import parse
from services.core.digests import CHUNK
from services.core.errors import BadJson
from services.core.ids import new_id
from services.core.objects import ObjectStore
from services.training import source
from services.training.domain import MAX_OUTPUTS
from services.training.errors import BadJob
from services.training.ports import Order, Progress, Usage

INPUTS: Final = "in"
WORK: Final = "out"
MAX_EVENTS_BYTES = 16 << 20
MAX_RESULT_BYTES = 1 << 20
MAX_REASON = 2000
MAX_TIME = 253_402_300_799_999
"""Epoch milliseconds: the last of the year 9999."""


class RunFolder:
    """One run's folder, which need not be there yet. Methods are the backend's but for those that `driving` needs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs, self.work = path / INPUTS, path / WORK
        self.output = self.work / "output"

    def prepare(self, order: Order, store: ObjectStore) -> None:
        """Brings every input here, and begins a new attempt. Inputs that are whole already are kept.

        Raises:
            BadJob: the archive cannot be unpacked. NoSuchObject, CorruptObject: do not retry. Unavailable.
        """
        self.reopen()
        spoken = json.dumps(_spoken(order))
        # 1. The inputs; order.json is written last, and with it they are whole. A crash before leaves a part, which is replaced.
        if self._own("order.json") != spoken:
            shutil.rmtree(self.inputs, ignore_errors=True)
            source.unpack(store.get(order.source), self.inputs / "source")
            for reference, place in _places(order).items():
                for path, digest in order.datasets[reference].items():
                    target = self.inputs / place / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    store.copy_to(digest, target)
            self._write("order.json", spoken)
        self.work.mkdir(parents=True, exist_ok=True)
        # 2. The attempt. What a driver of an earlier one may still write is not taken for the end of this one.
        self._write("attempt", new_id("att"))

    def reopen(self) -> None:
        """Forgets how the last attempt ended; its checkpoints and metrics stay."""
        (self.inputs / "attempt").unlink(missing_ok=True)
        mark = self.work / "started"
        if mark.is_dir() and not mark.is_symlink():  # training's work: a driver makes a file
            shutil.rmtree(mark)
        else:
            mark.unlink(missing_ok=True)

    def attempt(self) -> str | None:
        """None: there is none, or it was forgotten."""
        return self._own("attempt")

    def order(self) -> dict[str, Any]:
        """order.json of a prepared run."""
        found: dict[str, Any] = json.loads((self.inputs / "order.json").read_text())
        return found

    def expect(self, job: str) -> None:
        """Notes what the job of this attempt is made to do, before there is one. Of a prepared run."""
        self._write("job", job)

    def expected(self) -> str | None:
        return self._own("job")

    def refuse(self, reason: str) -> None:
        """From now on the run is failed for good, whatever becomes of what works on it."""
        self.inputs.mkdir(parents=True, exist_ok=True)
        self._write("refused", reason)

    def refusal(self) -> str | None:
        return self._own("refused")

    def started(self) -> bool:
        return os.path.lexists(self.work / "started")

    def result(self) -> dict[str, Any] | None:
        """{"state", "error", "startedAt", "finishedAt"} of the attempt's driver, once it came to its end; None before.

        Raises:
            BadJob: there is one, and it is not what a driver writes.
        """
        data, attempt = self._read("result.json", MAX_RESULT_BYTES), self.attempt()
        if data is None or attempt is None:
            return None
        try:
            found = json.loads(data)
            return (
                None
                if found["attempt"] != attempt
                else {
                    "state": {"completed": "completed", "failed": "failed"}[found["state"]],
                    "error": None if found["error"] is None else str(found["error"])[:MAX_REASON],
                    "startedAt": _time(found["startedAt"]),
                    "finishedAt": _time(found["finishedAt"]),
                }
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadJob(f"result.json is not what a driver writes: {type(error).__name__}") from error

    def progress(self) -> Progress | None:
        """`result` as the port says it. Raises BadJob."""
        found = self.result()
        return None if found is None else Progress(found["state"], found["finishedAt"], found["error"])

    def usage(self) -> Usage | None:
        """From a driver's start to its end, where there is one. Raises BadJob."""
        found = self.result()
        return None if found is None else self.usage_of(max(0, found["finishedAt"] - found["startedAt"]) // 1000)

    def usage_of(self, seconds: int) -> Usage:
        """Of a prepared run whose workers had their places so long."""
        said = self.order()
        return Usage(seconds=seconds, workers=said["workers"], gpus=said["gpus"], spot=said["spot"])

    def events(self, after: int) -> list[dict[str, Any]]:
        """As ComputeBackend.events. Raises BadJob."""
        *lines, _torn = (self._read("events.jsonl", MAX_EVENTS_BYTES) or b"").split(b"\n")
        # A later attempt may report the epoch of the last checkpoint again.
        by_epoch = {event["epoch"]: event for event in map(_event, lines)}
        return [by_epoch[epoch] for epoch in sorted(by_epoch)][after:]

    def copy_output(self, target: Path) -> None:
        """Copies the files that the run wrote into a folder of the caller's own, which then is whole or not there.

        Raises:
            BadJob: among them is a link, a device or a pipe, there are more than a job may list, or they are too large.
        """
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        # A file can say any size and cost its writer nothing; the log is on the same disk.
        room = shutil.disk_usage(partial).free // 2
        if self.output.is_symlink():
            raise BadJob("the output folder is a link: outputs are plain files")
        count = 0
        # fwalk compares each folder that it opens with what it saw: code that still runs cannot put a link in its place.
        for folder, folders, names, handle in os.fwalk(self.output, follow_symlinks=False):
            here = partial / Path(folder).relative_to(self.output)
            here.mkdir(exist_ok=True)
            for name in folders + names:
                kind = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                count += 1
                if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or count > 2 * MAX_OUTPUTS:
                    raise BadJob(f"{name}: outputs are plain files, at most {MAX_OUTPUTS}")
            for name in names:
                with _plain(name, handle) as file, (here / name).open("xb") as copy:
                    room -= (size := os.fstat(file.fileno()).st_size)
                    if room < 0:
                        raise BadJob(f"{name}: outputs take more than half of what is free on the disk that they are copied to")
                    _copy(file, copy, size)
        partial.rename(target)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _own(self, name: str) -> str | None:
        """A small file in `in`; None if there is none."""
        path = self.inputs / name
        return path.read_text() if path.exists() else None

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all."""
        aside = self.inputs / f"{name}.new"
        aside.write_text(text)
        aside.rename(self.inputs / name)

    def _read(self, name: str, limit: int) -> bytes | None:
        """The first bytes of a file in `out`; None if there is none. Raises BadJob: a link, a device or a pipe."""
        try:
            handle = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            with _plain(name, handle) as file:
                return file.read(limit)
        except FileNotFoundError:
            return None
        finally:
            os.close(handle)


@contextmanager
def _plain(name: str, folder: int) -> Iterator[IO[bytes]]:
    """A plain file in an open folder. Raises BadJob, FileNotFoundError."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadJob(f"{name} is no plain file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadJob(f"{name} is no plain file")
    with os.fdopen(handle, "rb") as file:
        yield file


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """The first bytes of a file, which may still grow."""
    while size > 0 and (data := source.read(min(size, CHUNK))):
        target.write(data)
        size -= len(data)


def _places(order: Order) -> dict[str, str]:
    """Data set → folder below `in`."""
    return {reference: f"datasets/{number}" for number, reference in enumerate(sorted(order.datasets))}


def _spoken(order: Order) -> dict[str, Any]:
    """order.json."""
    return {
        "source": order.source,
        "directory": order.directory,
        "entrypoint": order.entrypoint,
        "workers": order.workers,
        "gpus": order.gpus,
        "spot": order.spot,
        "seed": order.seed,
        "hyperparameters": order.hyperparameters,
        "datasets": _places(order),
        "files": {name: dict(files) for name, files in order.datasets.items()},
    }


def _time(value: Any) -> int:
    """Raises ValueError: no epoch milliseconds that RFC 3339 can say."""
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise ValueError("no time")
    return value


def _event(line: bytes) -> dict[str, Any]:
    """One epoch's metrics.

    Raises:
        BadJob: not what a training function may report: an object with an integer `epoch` and finite numbers.
    """
    try:
        event = parse(line)
    except BadJson as error:
        raise BadJob(f"reported metrics {line[:200].decode(errors='replace')}: {error}") from error
    if not isinstance(event, dict) or type(event.get("epoch")) is not int:
        raise BadJob("reported metrics have no integer `epoch`")
    return event
