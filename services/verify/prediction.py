"""The links from one prediction to the version that gave it: record, batch, log, deployment, and the decision to deploy.

The record's time and the answer's digest are what the router says. The log bounds that claim: a record is under a root that was
logged, after its deployment was.
"""

import dataclasses
import datetime
from typing import Any

from services.core import archive, merkle
from services.core.canonical import canonical, parse
from services.core.digests import require_digest, sha256
from services.core.policy_facts import deploy_input
from services.verify.links import active_policies, passes_again, same_facts
from services.verify.walk import Event, Walk, require

RECORD = {"id": str, "ts": int, "deployment": str, "artifactId": str, "inputDigest": str, "outcome": str}
"""Fields of a record that the walk reads, and their types; it may have more."""
PROOF = {"batch": int, "event": str, "index": int, "size": int, "root": str, "proof": list}

SALT_BYTES = 16
"""The digest is of salt and input, one after the other: a longer salt could begin with what was the input's beginning."""

SLACK_MS = 10_000
"""How long after its quarantine or its end a deployment may still have begun to answer: traffic stops within 5 s, and clocks of two
machines differ."""

REPLACED_MS = 900_000
"""How long a deployment that another one replaced may go on to answer in a cluster: its pods do until new ones are ready, which may
load for ten minutes. One under quarantine may not."""
QUARANTINED = "quarantined"
"""State of a deployment that was stopped by a flag."""


def record(walk: Walk) -> str:
    found = walk.record
    _require_fields(found, RECORD, archive.PREDICTION)
    require(canonical(found) == walk.members[archive.PREDICTION], f"{archive.PREDICTION} is not in canonical form")
    require(found["id"] == walk.index["prediction"], f"the record is of prediction {found['id']}")
    answer = found.get("outputDigest")
    return f"{found['id']} at {_time(found['ts'])}, {found['outcome']}; answer {str(answer)[:19]}…"


def own_bytes(walk: Walk) -> str:
    """The caller's own request and answer are those of the record."""
    told, own = [], walk.own
    if own.input is not None:
        require(own.salt is not None, "the input's digest is salted: pass --salt, the answer's header x-prediction-salt")
        require(len(own.salt or b"") == SALT_BYTES, f"the salt has {len(own.salt or b'')} bytes: the router's have {SALT_BYTES}")
        require(sha256((own.salt or b"") + own.input) == walk.record["inputDigest"], "the input is not the one of the record")
        told.append("input")
    if own.output is not None:
        require(sha256(own.output) == walk.record.get("outputDigest"), "the output is not the one of the record")
        told.append("output")
    return f"{' and '.join(told)} are those of the record"


def batch(walk: Walk) -> str:
    proof = walk.proof
    _require_fields(proof, PROOF, archive.PREDICTION_PROOF)
    require(set(proof) == set(PROOF), f"{archive.PREDICTION_PROOF} has exactly the fields {sorted(PROOF)}")
    require(canonical(proof) == walk.members[archive.PREDICTION_PROOF], f"{archive.PREDICTION_PROOF} is not in canonical form")
    root = bytes.fromhex(require_digest(proof["root"]).removeprefix("sha256:"))
    leaf = merkle.leaf_hash(walk.members[archive.PREDICTION])
    hashes = [bytes.fromhex(require_digest(f"sha256:{item}").removeprefix("sha256:")) for item in proof["proof"]]
    merkle.verify_inclusion(leaf, proof["index"], proof["size"], hashes, root)
    return f"record {proof['index']} of {proof['size']} in batch {proof['batch']}, root {proof['root'][:23]}…"


def sealed(walk: Walk) -> str:
    index, event = walk.sealed
    payload, proof = event["payload"], walk.proof
    require(_by_its_keeper(event), f"entry {index} was sealed by another than who answered: {event['actor']}")
    told = (payload["batch"], payload["records"], payload["root"], event["subject"]["digest"])
    require(told == (proof["batch"], proof["size"], proof["root"], proof["root"]), f"entry {index} is about another batch")
    require(walk.record["ts"] <= event["ts"] + SLACK_MS, f"the record is from after it was sealed at {_time(event['ts'])}")
    return f"entry {index}: batch {payload['batch']} sealed at {_time(event['ts'])}"


def _handed_on(event: Event) -> bool:
    return bool(event["source"].endswith("/service/api"))


def _by_its_keeper(event: Event) -> bool:
    """The router tells of its own batches, the API of those that a predictor of a cluster handed on."""
    return bool(event["actor"].endswith("/service/predictor") if _handed_on(event) else event["actor"] == event["source"])


def deployment(walk: Walk) -> str:
    found, (sealed_at, _) = walk.record, walk.sealed
    index, event = walk.started
    payload = event["payload"]
    require(index < sealed_at, f"deployment {found['deployment']} is from after the record was sealed")
    same = (payload["model"], payload["number"], payload["environment"], payload["artifactId"], event["subject"]["digest"])
    wanted = (walk.index["model"], walk.index["number"], walk.index["environment"], found["artifactId"], found["artifactId"])
    require(same == wanted, f"deployment {found['deployment']} serves another version or artifact")
    require(payload["decision"] == walk.index["deployDecision"], "the deployment was allowed by another decision")
    require(any(first - SLACK_MS <= found["ts"] <= last + SLACK_MS for first, last in _spans(walk)),
            f"deployment {found['deployment']} did not serve at {_time(found['ts'])}")  # fmt: skip
    _require_no_flag(walk)
    return f"{found['deployment']} served {walk.subject.split(' by ')[1]} then{_rollout(walk, sealed_at)}; no quarantine"


def deploy_decision(walk: Walk) -> str:
    """The decision to deploy, re-executed: facts from evidence, policies that were active then."""
    index, event = walk.deploy_decision
    started, deployed = walk.started
    require(walk.record["artifactId"] == walk.manifest.artifact_id, "the manifest is for another artifact than answered")
    require(deployed["manifestRef"] == sha256(walk.manifest_envelope.payload), "the deployment serves under another manifest")
    state, digest = walk.state_before(index), sha256(walk.members[archive.DEPLOY_INPUT])
    require(event["payload"]["verdict"] == "pass", "the decision to deploy was not to pass")
    require(digest == event["payload"]["inputDigest"], "the input of the decision to deploy is another one")
    active_policies(walk, archive.DEPLOY_POLICY, archive.DEPLOY_POLICY_SIGNATURE, index, state)
    version = walk.version_at(state)

    def computed(now: int) -> dict[str, Any]:
        manifest, flags = walk.members[archive.MANIFEST], state.flags_on(version)
        return deploy_input(version.to_json(), walk.manifest.environment, manifest, flags, walk.trust, now=now, at=index)

    count = same_facts(parse(walk.members[archive.DEPLOY_INPUT]), computed, event)
    require(walk.completion[0] < index < started, "promotion, decision and deployment are not in this order in the log")
    rules = passes_again(walk, archive.DEPLOY_POLICY, archive.DEPLOY_INPUT)
    return f"{count} facts recomputed, {rules} rule(s) pass again (entry {index})"


def warnings(walk: Walk) -> tuple[str, ...]:
    """What the log tells that came later: it breaks no link, and whoever relies on the model wants to know."""
    past, now = walk.at_decision, walk.state_before(walk.size)
    version = walk.version_at(now)
    told = [
        f"quarantined since {_time(flag['since'] * 1000)}: {flag['kind']} {flag['target'][:40]}: {flag['reason']}"
        for flag in now.flags_on(version)
        if flag["id"] not in past.flags
    ]
    if walk.index["prediction"] is not None:
        last = [event for _, event in walk.events if event["type"] in ("deploy.started", "deploy.stopped")][-1]
        if last["type"] == "deploy.stopped":
            told.append(f"the deployment was stopped at {_time(last['ts'])}: {last['payload']['reason']}")
    return tuple(told)


def _spans(walk: Walk) -> list[tuple[int, int]]:
    """First and last millisecond of the times in which the deployment may have answered; one that goes on ends when the batch was
    sealed."""
    replaced = REPLACED_MS if _handed_on(walk.sealed[1]) else 0
    spans: list[tuple[int, int]] = []
    since: int | None = None
    for _, event in walk.events:
        if event["type"] == "deploy.started" and since is None:
            since = event["ts"]
        elif event["type"] == "deploy.stopped" and since is not None:
            spans.append((since, event["ts"] + (0 if event["payload"].get("state") == QUARANTINED else replaced)))
            since = None
    return spans if since is None else [*spans, (since, walk.sealed[1]["ts"])]


def _require_no_flag(walk: Walk) -> None:
    """No flag on the version, or on what it was made from, had been set and taken effect when the prediction was made."""
    at = walk.record["ts"]
    lifted = {event["payload"]["flag"]: event["ts"] for _, event in walk.events if event["type"] == "quarantine.lifted"}
    state = walk.state_before(walk.size)
    version = walk.version_at(state)
    for index, event in walk.events:
        if event["type"] == "quarantine.set":
            payload = event["payload"]
            active = event["ts"] + SLACK_MS < at < lifted.get(payload["flag"], at + 1)
            hit = active and dataclasses.replace(state, flags={}).replay([event]).flags_on(version)
            require(not hit, f"{payload['kind']} {payload['target']} was under quarantine (entry {index}): {payload['reason']}")


def _rollout(walk: Walk, before: int) -> str:
    """The rollout that the record says to be part of is one in which the deployment had that arm."""
    place = walk.record.get("rollout")
    if place is None:
        return ""
    index, event = walk.find("rollout.started", f"of {place['id']}", lambda event: event["payload"]["rollout"] == place["id"])
    side = "stable" if place["arm"] == "stable" else "canary"
    require(index < before and event["payload"][side] == walk.record["deployment"], f"it is not the {side} of {place['id']}")
    return f" as {place['arm']} of rollout {place['id']}"


def _require_fields(value: Any, fields: dict[str, type], name: str) -> None:
    require(isinstance(value, dict), f"{name} is no object")
    for field, kind in fields.items():
        require(type(value.get(field)) is kind, f"{name}: {field} is missing, or no {kind.__name__}")


def _time(milliseconds: int) -> str:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
