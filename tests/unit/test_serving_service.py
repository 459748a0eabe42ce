"""Deployments and rollouts over a scripted backend: what is refused, what each look decides, that every change has its event."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.exc import IntegrityError

from services.core.database import open_engine
from services.core.digests import FileEntry, sha256
from services.core.errors import BadInput, Refused, Unavailable
from services.core.events import EventDraft
from services.core.outbox import Outbox, outbox_table
from services.serving import canary, tables
from services.serving.canary import Counts, Phase
from services.serving.controller import Controller
from services.serving.domain import DeploymentSpec, Probe, Reference, RolloutSpec, Servable
from services.serving.errors import AlreadyServed, NotUndecided, Quarantined, RolloutRunning, UnknownDeployment, UnknownRollout
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from tests import databases
from tests.fakes.serving import AllowAll, Answer, ListedProbes, ScriptedBackend, StoredVersions

ACTOR = "spiffe://ai-infra.local/person/dario"
APPROVER = "spiffe://ai-infra.local/person/ana"
API = "spiffe://ai-infra.local/service/api"
PROBES = [Probe(f"golden:{n}", (0.0,), str(n % 10)) for n in range(200)]
DIGEST = sha256(b"x")


def servable(number: int, model: str = "digits") -> Servable:
    return Servable(
        model=model, number=number, environment="staging", artifact_id=sha256(str(number).encode()),
        files=(FileEntry("config.json", 1, DIGEST),), manifest=DIGEST, manifest_ref=DIGEST, bundle=DIGEST,
    )


class Bench:
    """now: epoch milliseconds. The same folder again is the same database."""

    def __init__(self, root: Path) -> None:
        self.now = 1_700_000_000_000
        self.engine = open_engine(databases.url(root, "platform"))
        own = MetaData()
        self.outbox_table = outbox_table(own)
        own.create_all(self.engine)
        for table in (tables.deployments, tables.routes, tables.rollouts, tables.rollout_pairs):
            table.create(self.engine, checkfirst=True)
        self.outbox = Outbox(self.outbox_table, API, lambda: self.now)
        self.versions = StoredVersions({("digits", n): servable(n) for n in (1, 2, 3)})
        self.policy, self.backend = AllowAll(), ScriptedBackend(known=reference())
        self.serving = Serving(self.engine, self.outbox, lambda: self.now, self.versions, self.policy, self.backend)
        self.rollouts = Rollouts(self.serving, ListedProbes(PROBES))

    def events(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            rows = connection.execute(self.outbox_table.select().order_by(self.outbox_table.c.seq)).all()
        return [json.loads(row.event) for row in rows]

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events()]

    def deploy(self, number: int = 1) -> dict[str, Any]:
        return self.serving.deploy(DeploymentSpec(model="digits", number=number, environment="staging"), ACTOR)

    def running(self, **more: Any) -> str:
        """A rollout that has just begun to split traffic."""
        self.deploy()
        rollout: str = self.rollouts.start(spec(**more), ACTOR)["id"]
        self.rollouts.advance(rollout)
        self.rollouts.advance(rollout)
        assert self.rollouts.get(rollout)["state"] == "running"
        return rollout


def spec(**more: Any) -> RolloutSpec:
    values = {"model": "digits", "number": 2, "environment": "staging", "golden": {"dataset": "d@1"}} | more
    return RolloutSpec.from_json(values)


def reference() -> Reference:
    rng = random.Random(1)
    latencies = [rng.lognormvariate(9, 0.4) for _ in range(600)]
    return Reference(latencies=tuple(latencies), replicas=tuple((value, rng.randrange(2)) for value in latencies))


def phase(weight: float, requests: int, errors: tuple[int, int] = (0, 0), slow: tuple[int, int] = (0, 0)) -> Phase:
    """Latencies as stable's own, `slow` of (canary, stable) in the slowest bin."""
    taken = int(requests * weight)
    cells = [[0, 0] for _ in range(7)]
    for index, share in enumerate((0.25, 0.25, 0.25, 0.15, 0.05, 0.04, 0.01)):
        cells[index] = [round((taken - slow[0]) * share), round((requests - taken - slow[1]) * share)]
    cells[6] = [cells[6][0] + slow[0], cells[6][1] + slow[1]]
    return Phase(weight, requests, taken, errors, tuple((a, b) for a, b in cells))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_deployment_is_decided_on_then_served(bench: Bench) -> None:
    found = bench.deploy()
    assert bench.policy.asked == [("deploy", "digits@1", ACTOR)]
    assert (found["state"], found["decision_id"]) == ("serving", "dec-1")
    (event,) = bench.events()
    assert (event["type"], event["actor"], event["manifestRef"]) == ("deploy.started", ACTOR, DIGEST)
    desired = bench.serving.desired()
    assert [(order["deployment"], order["replicas"]) for order in desired["deployments"]] == [(found["id"], 1)]
    assert [(route["stable"], route["rollout"]) for route in desired["routes"]] == [(found["id"], None)]


def test_what_sentinelnet_denies_is_not_served(bench: Bench) -> None:
    rules = [{"rule": "serving.manifest", "verdict": "deny", "reasons": ["there is no manifest"]}]
    bench.policy.answer = Answer(verdict="deny", rules=rules)
    with pytest.raises(Refused, match=r"serving\.manifest") as caught:
        bench.deploy()
    assert (caught.value.rules, bench.serving.all(), bench.events()) == (rules, [], [])


def test_the_same_version_again_is_the_same_deployment(bench: Bench) -> None:
    assert bench.deploy()["id"] == bench.deploy()["id"]
    assert bench.kinds() == ["deploy.started"]


def test_another_version_needs_a_rollout(bench: Bench) -> None:
    bench.deploy()
    with pytest.raises(AlreadyServed, match="rollout"):
        bench.deploy(2)


def test_an_undeployed_model_leaves_no_route(bench: Bench) -> None:
    found = bench.deploy()
    assert bench.serving.undeploy(found["id"], ACTOR)["state"] == "stopped"
    assert bench.serving.desired() == {"deployments": [], "routes": []}
    assert bench.kinds() == ["deploy.started", "deploy.stopped"]
    with pytest.raises(UnknownDeployment):
        bench.serving.undeploy("dep-none", ACTOR)


def test_a_rollout_calibrates_on_two_replicas_then_splits(bench: Bench) -> None:
    stable = bench.deploy()["id"]
    rollout = bench.rollouts.start(spec(), ACTOR)
    replicas = {order["deployment"]: order["replicas"] for order in bench.serving.desired()["deployments"]}
    assert replicas == {stable: 2, rollout["canary"]: 1}
    bench.rollouts.advance(rollout["id"])
    bench.rollouts.advance(rollout["id"])
    (route,) = bench.serving.desired()["routes"]
    assert (route["rollout"]["weight"], route["rollout"]["canary"]) == (0.1, rollout["canary"])
    started = next(event for event in bench.events() if event["type"] == "rollout.started")["payload"]
    assert started["measuredOn"] == {"latencies": 600, "dispersionRequests": 600}
    assert (len(started["rule"]["edges"]), started["rule"]["alpha"], started["seed"]) == (6, 0.01, route["rollout"]["seed"])


def test_calibration_ends_at_its_time_with_what_there_is(bench: Bench) -> None:
    bench.deploy()
    bench.backend.known = Reference(latencies=(5.0,) * 10)
    rollout = bench.rollouts.start(spec(), ACTOR)["id"]
    bench.rollouts.advance(rollout)
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "calibrating"
    bench.now += 5_000
    bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], found["rule"]["edges"], found["rule"]["dispersion"]) == ("running", [], 1.0)


def test_a_good_version_reaches_all_traffic(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["weight"] == 0.5
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 1500)))
    for _ in range(5):
        bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], found["weight"]) == ("completed", 1.0)
    (route,) = bench.serving.desired()["routes"]
    assert (route["stable"], route["rollout"]) == (found["canary"], None)
    assert bench.serving.get(found["stable"])["state"] == "stopped"
    assert bench.kinds()[-4:] == ["rollout.started", "rollout.step", "rollout.completed", "deploy.stopped"]


@pytest.mark.parametrize(
    ("seen", "right", "cause"),
    [
        (Counts((phase(0.1, 200, errors=(12, 2)),)), True, "errors"),
        (Counts((phase(0.1, 400, slow=(35, 2)),)), True, "latency"),
        (Counts(), False, "quality"),
    ],
    ids=["failing", "slow", "wrong labels"],
)
def test_a_worse_version_is_rolled_back_by_itself(bench: Bench, seen: Counts, right: bool, cause: str) -> None:
    rollout = bench.running()
    bench.backend.seen, bench.backend.right = seen, right
    bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], found["weight"], found["verdict"]["cause"]) == ("rolled_back", 0.0, cause)
    assert bench.serving.get(found["canary"])["state"] == "stopped"
    (route,) = bench.serving.desired()["routes"]
    assert (route["stable"], route["rollout"]) == (found["stable"], None)
    event = next(event for event in bench.events() if event["type"] == "rollback")
    assert event["actor"] == API
    assert canary.explain(event["payload"])["agrees"] is True
    assert bench.rollouts.explain(rollout)["agrees"] is True


def test_nothing_seen_is_never_passed(bench: Bench) -> None:
    rollout = bench.running(maxRequestsPerStep=300, margins={"errors": 0.001, "latency": 0.05, "quality": 0.05})
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 300)))
    for _ in range(6):
        bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], found["weight"], "errors" in found["reason"]) == ("undecided", 0.5, True)
    assert bench.kinds().count("rollout.step") == 2
    assert bench.rollouts.abort(rollout, "not sure", ACTOR)["state"] == "aborted"


def undecided(bench: Bench) -> str:
    rollout = bench.running(maxRequestsPerStep=100, margins={"errors": 0.001})
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 120)))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "undecided"
    return rollout


def test_too_little_traffic_is_undecided_never_passed(bench: Bench) -> None:
    rollout = bench.running(maxStepS=60)
    bench.backend.seen = Counts((phase(0.1, 12),))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "running"
    bench.now += 60_000
    bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], found["weight"]) == ("undecided", 0.1)
    assert "12 requests in 60 s are too little traffic" in found["reason"]
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    assert (bench.rollouts.get(rollout)["state"], bench.rollouts.get(rollout)["weight"]) == ("running", 0.5)


def test_a_canary_that_answers_no_probe_is_judged_by_its_traffic(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.deaf = True
    bench.backend.seen = Counts((phase(0.1, 400, errors=(40, 1)),))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "rolled_back"


def test_a_person_completes_an_undecided_rollout_and_answers_for_it(bench: Bench) -> None:
    rollout = undecided(bench)
    found = bench.rollouts.complete(rollout, "seen by hand", APPROVER)
    assert (found["state"], found["weight"], found["reason"]) == ("completed", 1.0, f"completed by {APPROVER}: seen by hand")
    event = next(event for event in bench.events() if event["id"] == found["event"])
    assert (event["type"], event["actor"], event["payload"]["reason"]) == ("rollout.completed", APPROVER, found["reason"])
    assert event["payload"]["verdict"]["cleared"] is False
    assert bench.serving.desired()["routes"][0]["stable"] == found["canary"]


def test_a_person_extends_an_undecided_rollout_and_its_rule_stays(bench: Bench) -> None:
    rollout = undecided(bench)
    before = bench.rollouts.get(rollout)
    found = bench.rollouts.extend(rollout, 500, 3600.0, "a quiet day", ACTOR)
    assert (found["state"], found["rule"]) == ("running", before["rule"])
    assert (found["spec"]["maxRequestsPerStep"], found["spec"]["maxStepS"]) == (620, 3600.0)
    event = next(event for event in bench.events() if event["id"] == found["event"])
    assert (event["type"], event["actor"], event["payload"]["reason"]) == ("rollout.extended", ACTOR, "a quiet day")
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 619)))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "running"
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 620)))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "undecided"


def test_a_completion_whose_answer_was_lost_happens_once(bench: Bench) -> None:
    rollout = undecided(bench)
    first = bench.rollouts.complete(rollout, "seen by hand", APPROVER)
    assert bench.rollouts.complete(rollout, "seen by hand", APPROVER) == first
    assert bench.kinds().count("rollout.completed") == 1
    for reason, actor in (("for another reason", APPROVER), ("seen by hand", ACTOR)):
        with pytest.raises(NotUndecided, match="is completed"):
            bench.rollouts.complete(rollout, reason, actor)


def test_an_extension_whose_answer_was_lost_happens_once(bench: Bench) -> None:
    rollout = undecided(bench)
    first = bench.rollouts.extend(rollout, 500, 3600.0, "a quiet day", ACTOR)
    assert bench.rollouts.extend(rollout, 500, 3600.0, "a quiet day", ACTOR) == first
    assert bench.kinds().count("rollout.extended") == 1
    for requests, seconds, reason, actor in ((501, 3600.0, "a quiet day", ACTOR), (500, 3601.0, "a quiet day", ACTOR),
                                             (500, 3600.0, "more", ACTOR), (500, 3600.0, "a quiet day", APPROVER)):  # fmt: skip
        with pytest.raises(NotUndecided, match="is running"):
            bench.rollouts.extend(rollout, requests, seconds, reason, actor)


def test_an_extension_over_the_limit_of_an_order_changes_nothing(bench: Bench) -> None:
    rollout = undecided(bench)
    before = bench.rollouts.get(rollout)
    with pytest.raises(BadInput, match="maxRequestsPerStep"):
        bench.rollouts.extend(rollout, 10_000_000, 3600.0, "for good", ACTOR)
    assert (bench.rollouts.get(rollout), bench.kinds().count("rollout.extended")) == (before, 0)
    bench.rollouts.advance(rollout)


def test_what_the_test_decides_is_no_persons_to_decide(bench: Bench) -> None:
    rollout = bench.running()
    with pytest.raises(NotUndecided, match="is running"):
        bench.rollouts.complete(rollout, "now", APPROVER)
    with pytest.raises(NotUndecided, match="is running"):
        bench.rollouts.extend(rollout, 1, 1.0, "more", ACTOR)


def test_an_undecided_rollout_is_still_rolled_back_by_later_requests(bench: Bench) -> None:
    rollout = undecided(bench)
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 400, errors=(40, 1))))
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "rolled_back"


def test_each_probe_is_asked_once_even_after_a_restart(bench: Bench, tmp_path: Path) -> None:
    rollout = bench.running()
    for _ in range(3):
        bench.rollouts.advance(rollout)
    again = Bench(tmp_path)
    again.backend.seen = bench.backend.seen
    for _ in range(10):
        again.rollouts.advance(rollout)
    asked = bench.backend.asked + again.backend.asked
    assert sorted(asked) == sorted(probe.id for probe in PROBES)


def test_a_canary_that_does_not_load_is_rolled_back(bench: Bench) -> None:
    bench.deploy()
    rollout = bench.rollouts.start(spec(), ACTOR)["id"]
    bench.backend.refused = "the manifest is for prod"
    bench.rollouts.advance(rollout)
    found = bench.rollouts.get(rollout)
    assert (found["state"], "the manifest is for prod" in found["reason"]) == ("rolled_back", True)
    assert bench.rollouts.explain(rollout)["verdict"] is None


def test_a_canary_that_is_never_ready_is_rolled_back(bench: Bench) -> None:
    bench.deploy()
    rollout = bench.rollouts.start(spec(), ACTOR)["id"]
    bench.backend.ready = 0
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "starting"
    bench.now += 61_000
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "rolled_back"


def test_one_rollout_at_a_time(bench: Bench) -> None:
    bench.running()
    with pytest.raises(RolloutRunning):
        bench.rollouts.start(spec(number=3), ACTOR)
    with pytest.raises(RolloutRunning):
        bench.serving.undeploy(bench.rollouts.all()[0]["stable"], ACTOR)
    assert len(bench.serving.all()) == 2


def test_a_rollout_needs_something_to_move_from(bench: Bench) -> None:
    with pytest.raises(UnknownDeployment, match="deploy one first"):
        bench.rollouts.start(spec(), ACTOR)
    bench.deploy()
    with pytest.raises(AlreadyServed, match="already"):
        bench.rollouts.start(spec(number=1), ACTOR)
    with pytest.raises(UnknownRollout):
        bench.rollouts.get("rol-none")


@pytest.mark.parametrize(
    "change",
    [{"steps": [100]}, {"steps": [50, 10, 100]}, {"steps": [10, 50]}, {"compares": []}, {"compares": ["errors", "errors"]},
     {"golden": None}, {"alpha": 0.5}, {"unknown": 1}, {"environment": "moon"}, {"number": 0}],
)
def test_a_rollout_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        spec(**change)


def test_a_router_that_is_away_changes_nothing(bench: Bench) -> None:
    rollout = bench.running()
    before = bench.rollouts.get(rollout)
    bench.backend.away = True
    with pytest.raises(Unavailable):
        bench.rollouts.advance(rollout)
    Controller(bench.rollouts).look()
    assert bench.rollouts.get(rollout) == before


def test_quarantine_stops_stable_and_ends_the_rollout(bench: Bench) -> None:
    rollout = bench.running()
    found = bench.rollouts.get(rollout)
    bench.serving.quarantine([found["stable"]], "flag-1: biased", ACTOR)
    desired = bench.serving.desired()
    assert [(route["state"], route["reason"], route["rollout"]) for route in desired["routes"]] == [
        ("quarantined", "flag-1: biased", None)
    ]
    assert desired["deployments"] == []
    assert bench.rollouts.get(rollout)["state"] == "aborted"
    assert bench.kinds()[-3:] == ["rollback", "deploy.stopped", "deploy.stopped"]


def test_a_quarantined_canary_is_rolled_back_and_stable_serves_on(bench: Bench) -> None:
    rollout = bench.running()
    found = bench.rollouts.get(rollout)
    bench.serving.quarantine([found["canary"]], "flag-2", ACTOR)
    assert bench.rollouts.get(rollout)["state"] == "rolled_back"
    (route,) = bench.serving.desired()["routes"]
    assert (route["state"], route["stable"]) == ("serving", found["stable"])


def test_a_lifted_quarantine_serves_again_unless_another_flag_is_active(bench: Bench) -> None:
    found = bench.deploy()
    bench.serving.quarantine([found["id"]], "flag-1", ACTOR)
    bench.versions.flagged["digits", 1] = ["flag-2"]
    with pytest.raises(Quarantined, match="flag-2"):
        bench.serving.lift([found["id"]], ACTOR)
    bench.versions.flagged.clear()
    bench.serving.lift([found["id"]], ACTOR)
    assert bench.serving.get(found["id"])["state"] == "serving"
    assert bench.kinds() == ["deploy.started", "deploy.stopped", "deploy.started"]


def test_a_predictor_is_told_of_every_active_flag(bench: Bench) -> None:
    found = bench.deploy()
    assert bench.serving.quarantine_reasons(found["id"]) == []
    bench.versions.flagged["digits", 1] = ["flag-1"]
    assert bench.serving.quarantine_reasons(found["id"]) == ["flag-1"]


class Failing:
    """An outbox that fails at the n-th event."""

    def __init__(self, outbox: Outbox, at: int) -> None:
        self._outbox, self._left = outbox, at

    def emit(self, connection: Any, draft: EventDraft) -> str:
        if self._left == 0:
            raise Unavailable("the disk is full")
        self._left -= 1
        return self._outbox.emit(connection, draft)


@pytest.mark.parametrize("at", [0, 1])
def test_a_transition_whose_event_fails_did_not_happen(bench: Bench, at: int) -> None:
    rollout = bench.running()
    bench.backend.right = False
    before, events = bench.rollouts.get(rollout), bench.kinds()
    serving = Serving(
        bench.engine, Failing(bench.outbox, at), lambda: bench.now, bench.versions, bench.policy, bench.backend
    )
    with pytest.raises(Unavailable):
        Rollouts(serving, ListedProbes(PROBES)).advance(rollout)
    assert (bench.rollouts.get(rollout), bench.kinds()) == (before, events)
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["state"] == "rolled_back"


def test_two_controllers_make_one_transition(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.right = False
    row = bench.rollouts._row(rollout)
    bench.rollouts.advance(rollout)
    with pytest.raises((RolloutRunning, IntegrityError)):
        bench.rollouts._look(row)
    assert bench.kinds().count("rollback") == 1
