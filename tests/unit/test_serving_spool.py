"""Records of a predictor in a cluster: on its disk until the API has them, whatever is killed."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import BadInput, NotFound, Refused, Unavailable
from services.serving.predictor.sender import Sender
from services.serving.predictor.spool import BLOCK, Spool
from services.serving.records import BATCH_MS, BATCH_RECORDS

DEPLOYMENT = "dep-1"


class Pod:
    """A pod's folder. now: epoch milliseconds; taken: what the API got; away: what it raises instead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.taken = folder, 1_000_000, list[dict[str, Any]]()
        self.away: Exception | None = None

    def start(self, limit: int = 1 << 20) -> tuple[Spool, Sender]:
        spool = Spool(self.folder, lambda: self.now, limit)
        return spool, Sender(spool, DEPLOYMENT, self._take)

    def _take(self, batch: dict[str, Any]) -> None:
        if self.away is not None:
            raise self.away
        self.taken.append(batch)

    @property
    def told(self) -> list[tuple[list[int], bool, int]]:
        return [([record["n"] for record in batch["records"]], batch["recovered"], batch["lost"]) for batch in self.taken]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path / "records")


def write(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.expect()
        spool.append({"n": number})


def test_a_batch_is_handed_on_once_it_is_old_enough(pod: Pod) -> None:
    spool, sender = pod.start()
    write(spool, 1, 2)
    sender.step()
    assert pod.taken == []
    pod.now += BATCH_MS
    sender.step()
    sender.step()
    assert pod.told == [([1, 2], False, 0)]
    assert pod.taken[0]["deployment"] == DEPLOYMENT


def test_a_full_batch_does_not_wait(pod: Pod) -> None:
    spool, sender = pod.start()
    write(spool, *range(BATCH_RECORDS + 1))
    sender.step()
    assert [len(batch["records"]) for batch in pod.taken] == [BATCH_RECORDS]


def test_what_the_api_does_not_take_is_handed_on_again_in_order(pod: Pod) -> None:
    spool, sender = pod.start()
    pod.away = Unavailable("the API is away")
    for number in (1, 2):
        write(spool, number)
        pod.now += BATCH_MS
        sender.step()
    assert sender.behind_s > 0
    pod.away = None
    sender.step()
    assert pod.told == [([1], False, 0), ([2], False, 0)]
    assert sender.behind_s == 0


def test_what_the_api_will_never_take_is_put_aside_told_as_lost_and_holds_up_nothing(pod: Pod) -> None:
    spool, sender = pod.start()
    write(spool, 1, 2)
    pod.now += BATCH_MS
    pod.away = BadInput("a record of another form")
    sender.step()
    pod.away = None
    write(spool, 3)
    sender.step(all_of_them=True)
    assert pod.told == [([3], False, 0), ([], True, 2)]
    assert len(list(pod.folder.glob("*.refused"))) == 1


def test_what_may_be_taken_later_stays_and_nothing_overtakes_it(pod: Pod) -> None:
    spool, sender = pod.start()
    for number, away in ((1, Refused("not now", [])), (2, NotFound("no such deployment"))):
        write(spool, number)
        pod.now += BATCH_MS
        pod.away = away
        sender.step()
    pod.away = None
    sender.step()
    assert pod.told == [([1], False, 0), ([2], False, 0)]


def test_a_clock_that_is_set_back_does_not_keep_a_batch_open(pod: Pod) -> None:
    spool, sender = pod.start()
    write(spool, 1)
    pod.now -= 3_600_000
    sender.step()
    assert pod.told == [([1], False, 0)]


def test_without_a_file_for_another_batch_the_open_one_goes_on_and_nothing_is_written_elsewhere(pod: Pod) -> None:
    spool, sender = pod.start()
    write(spool, 1)
    pod.now += BATCH_MS
    with no_more_files():
        write(spool, 2)
        sender.step()
    sender.step()
    assert pod.told == [([1, 2], False, 0)]


@contextmanager
def no_more_files() -> Iterator[None]:
    """As many descriptors as are open, and one: that of whoever reads or lists."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for file in held:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_orderly_end_hands_on_the_rest_and_owes_nothing(pod: Pod) -> None:
    spool, sender = pod.start()
    sender.start()
    write(spool, 1)
    sender.stop()
    spool.close()
    assert pod.told == [([1], False, 0)]
    _, after = pod.start()
    after.step(all_of_them=True)
    assert len(pod.taken) == 1


def test_too_many_that_wait_refuse_the_next_one_however_small(pod: Pod) -> None:
    spool, sender = pod.start(limit=2 * BLOCK)
    pod.away = Unavailable("the API is away")
    for number in (1, 2):
        write(spool, number)
        pod.now += BATCH_MS
        sender.step()
    spool.expect()
    with pytest.raises(Unavailable, match="too many records wait") as refused:
        spool.append({"n": 3})
    assert refused.value.retryable
    pod.away = None
    sender.step(all_of_them=True)
    write(spool, 4)
    sender.step(all_of_them=True)
    assert pod.told == [([1], False, 0), ([2], False, 0), ([4], False, 0)]


KILLED = """
import os, signal, sys
from pathlib import Path
from services.serving.predictor.spool import Spool
spool = Spool(Path(sys.argv[1]), lambda: 1_000_000)
for number in (1, 2):
    spool.expect()
    spool.append({"n": number})
spool.expect()  # begun, never written
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(pod: Pod) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(pod.folder)]).returncode == -signal.SIGKILL


def test_a_killed_predictor_loses_only_what_it_had_not_written_and_says_so(pod: Pod) -> None:
    killed(pod)
    spool, sender = pod.start()
    write(spool, 3)
    sender.step()
    assert pod.told == [([1, 2], True, 0), ([], True, 1)]
    sender.step(all_of_them=True)
    assert pod.told[2:] == [([3], False, 0)]


def test_a_torn_line_is_cut_off_and_an_empty_batch_goes(pod: Pod) -> None:
    killed(pod)
    (left,) = pod.folder.glob("*.jsonl")
    with left.open("ab") as file:
        file.write(b'{"n":3')
    (pod.folder / "0000000002-bat-2.jsonl").write_bytes(b"")
    _, sender = pod.start()
    sender.step(all_of_them=True)
    assert pod.told == [([1, 2], True, 0), ([], True, 1)]


def test_losses_are_not_forgotten_by_another_kill_nor_told_twice_by_a_repeat(pod: Pod) -> None:
    killed(pod)
    pod.away = Unavailable("the API is away")
    _, sender = pod.start()
    sender.step()
    killed(pod)
    pod.away = None
    _, sender = pod.start()
    sender.step()
    sender.step()
    told = [batch for batch in pod.taken if not batch["records"]]
    assert sum(batch["lost"] for batch in told) == 2
    assert len({batch["id"] for batch in told}) == len(told)


def test_lost_records_are_told_of_although_there_is_no_other_one(pod: Pod) -> None:
    spool, _ = pod.start()
    spool.expect()
    _, sender = pod.start()
    sender.step()
    sender.step()
    assert pod.told == [([], True, 1)]


def test_a_disk_that_takes_nothing_is_a_retryable_error(pod: Pod) -> None:
    script = """
import resource, sys
from pathlib import Path
from services.core.errors import Unavailable
from services.serving.predictor.spool import Spool
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]), lambda: 1_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
refused = 0
for number in range(5):
    spool.expect()
    try:
        spool.append({"n": number})
    except Unavailable:
        refused += 1
print(refused)
"""
    found = subprocess.run([sys.executable, "-c", script, str(pod.folder)], capture_output=True, text=True, check=True)
    assert int(found.stdout) == 3
    _, sender = pod.start()
    sender.step()
    # No answer was given to the others: nothing is owed.
    assert pod.told == [([0, 1], True, 0)]
