"""Bundles made to end or to stop the process that evaluates them, from people who may simulate or publish one; refused calls that
are to hide another."""

from pathlib import Path

import pytest

from services.core.bundle import Bundle, to_tar
from services.core.errors import BadInput
from services.core.events import Subject
from services.core.keys import generate_p256
from services.core.tls import person_id
from services.sentinelnet.errors import Denied
from services.sentinelnet.refusals import RECORDED
from services.sentinelnet.trial import TrialFailed, tried
from tests.sentinelnet import BUNDLE, GOOD, SAM, Platform, edited, signed

STAGE = "serving/stage/stage.rego"
JOB = Subject("run", "run-1")


def _with(rule: str) -> Bundle:
    """Our bundle, whose decision has another rule."""
    return edited({"decision.rego": BUNDLE.files["decision.rego"] + f"\n{rule}\n".encode()})


def _reporting(value: str) -> Bundle:
    """A bundle that has to compute a value whenever it decides."""
    report = '{"rule": "x", "verdict": "pass", "reasons": []}'
    return _with(f"decision contains report if {{\n\t{value} == 77\n\treport := {report}\n}}")


DEEP = _with(f"deep := {'[' * 20_000}1{']' * 20_000}")
ENDLESS = _reporting("count([1 | " + "; ".join(f"some {name} in numbers.range(1, 999)" for name in "abc") + "])")
LARGE = _reporting("count(numbers.range(1, 9000000))")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(tmp_path)
    made.publish()
    return made


@pytest.mark.parametrize(("bundle", "why"), [(DEEP, "ended with status"), (ENDLESS, "takes too long")], ids=["deep", "endless"])
def test_simulated_bundle_cannot_end_or_stop_the_platform(bundle: Bundle, why: str) -> None:
    with pytest.raises(TrialFailed, match=why):
        tried(bundle, [], timeout_s=3)


def test_simulated_bundle_cannot_take_all_memory() -> None:
    with pytest.raises(TrialFailed, match="bytes of memory"):
        tried(LARGE, [], max_memory=150 << 20)


def test_simulation_of_what_ends_the_engine_is_refused_and_decisions_go_on(platform: Platform) -> None:
    with pytest.raises(BadInput, match="cannot be simulated"):
        platform.oversight.simulate(to_tar(DEEP))
    assert platform.net.decide("train", GOOD["train"], JOB, SAM).verdict.passed


def test_metadata_that_grows_as_it_is_read_stays_in_its_process(platform: Platform) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12))]
    bomb = "\n".join(["# METADATA", *(f"# {line}" for line in levels), "# custom:", "#   reads: [*a11, input.absent]", ""])
    text = BUNDLE.modules[STAGE]
    bundle = edited({STAGE: (bomb + text[text.index("package") :]).encode()})
    assert tried(bundle, []).reads["serving.stage"] == ["input.absent"]


@pytest.mark.parametrize("borrowed", [False, True], ids=["unknown key", "signature of the active bundle"])
def test_bundle_that_security_did_not_sign_is_never_evaluated(borrowed: bool, platform: Platform) -> None:
    envelope = signed(BUNDLE, 2) if borrowed else signed(DEEP, 2, generate_p256())
    with pytest.raises(Denied, match=r"signing\.bundle"):
        platform.net.publish(to_tar(DEEP), envelope, SAM)


def test_many_refused_calls_do_not_hide_another_one(platform: Platform) -> None:
    actor = person_id("mallory")
    for operation in (*["train.start"] * (RECORDED + 5), "policy.publish", "policy.publish", "train.start"):
        with pytest.raises(Denied):
            platform.net.authorise(actor, operation)
    told = [event["subject"]["id"] for event in platform.events() if event["actor"] == actor]
    assert (len(told), told[-1]) == (RECORDED + 1, "policy.publish")
