"""What the links of a walk share: the archive, trust, and what the log tells about this one version, deployment and prediction."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from services.core import archive, dsse, oms
from services.core.canonical import canonical, parse
from services.core.digests import FileEntry, require_files, scan_tree, sha256
from services.core.errors import AiInfraError, BadInput, NotFound
from services.core.events import tellers
from services.core.history import History, Version
from services.core.statements import Manifest, PromotionRequest, expect
from services.core.storedzip import Reader
from services.core.trust import Trust

Event = dict[str, Any]

INDEX_FIELDS = {"version", "model", "number", "environment", "decision", "weights", "prediction", "deployDecision"}
KEPT_WHOLE = ("model.registered", "policy.published", "quarantine.set", "quarantine.lifted", "dataset.approved")
"""Types of which every event is kept: few, and the state is replayed from them. A version may be made from any other."""


class BrokenLink(AiInfraError):
    """The message says what does not hold."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise BrokenLink(message)


@dataclass(frozen=True)
class Own:
    """What the caller has of a prediction. input, output: bodies of request and answer; salt: of the answer's header
    x-prediction-salt, needed for the input only."""

    input: bytes | None = None
    output: bytes | None = None
    salt: bytes | None = None

    @property
    def given(self) -> bool:
        return self.input is not None or self.output is not None


@dataclass(frozen=True)
class LogMembers:
    """The log's files among the archive's members (core.logfile.LogReader)."""

    members: Reader

    def read(self, path: str, limit: int) -> bytes:
        name = archive.LOG + path
        if name not in self.members:
            raise NotFound(f"{name} is not in the archive")
        require(self.members.size(name) <= limit, f"{name} is over {limit} bytes")
        return self.members[name]


@dataclass
class Walk:
    """members: of the archive; trust: out of band; model: a folder with the weights, if not in the archive; against: an older
    signed checkpoint that the caller kept; own: what the caller has of the prediction.

    events: (index, event) of those entries that this walk is about, in log order; size: of the whole log.
    """

    members: Reader
    trust: Trust
    model: Path | None = None
    against: bytes | None = None
    own: Own = Own()
    events: list[tuple[int, Event]] = field(default_factory=list)
    size: int = 0
    misplaced: str | None = None

    @cached_property
    def index(self) -> dict[str, Any]:
        value = parse(self.members[archive.INDEX])
        require(isinstance(value, dict) and value.get("version") == archive.VERSION,
                f"this program reads archives of version {archive.VERSION}: write it again with `ai-infra evidence`")  # fmt: skip
        require(set(value) == INDEX_FIELDS, f"{archive.INDEX} does not have the fields {sorted(INDEX_FIELDS)}")
        require(type(value["weights"]) is bool, f"{archive.INDEX}: weights is true or false")
        texts = [value[name] for name in ("model", "environment", "decision")]
        require(all(isinstance(text, str) for text in texts) and type(value["number"]) is int,
                f"{archive.INDEX}: model, environment and decision are strings, number is an integer")  # fmt: skip
        kinds = {type(value["prediction"]), type(value["deployDecision"])}
        require(kinds in ({str}, {type(None)}), f"{archive.INDEX}: prediction and deployDecision are both strings, or both null")
        require(canonical(value) == self.members[archive.INDEX], f"{archive.INDEX} is not in canonical form")
        found: dict[str, Any] = value
        return found

    @property
    def reference(self) -> str:
        return f"{self.index['model']}@{self.index['number']}"

    @property
    def subject(self) -> str:
        """What the archive says that it is about."""
        version = f"{self.reference} in {self.index['environment']}"
        return version if self.index["prediction"] is None else f"prediction {self.index['prediction']} by {version}"

    @cached_property
    def manifest_envelope(self) -> dsse.Envelope:
        return dsse.parse(self.members[archive.MANIFEST])

    @cached_property
    def manifest(self) -> Manifest:
        return expect(Manifest, self.manifest_envelope.payload)

    @cached_property
    def request_envelope(self) -> dsse.Envelope:
        return dsse.parse(self.members[archive.REQUEST])

    @cached_property
    def request(self) -> PromotionRequest:
        return expect(PromotionRequest, self.request_envelope.payload)

    @cached_property
    def record(self) -> dict[str, Any]:
        """The prediction's record."""
        found: dict[str, Any] = parse(self.members[archive.PREDICTION])
        return found

    @cached_property
    def proof(self) -> dict[str, Any]:
        """The record's place in its batch."""
        found: dict[str, Any] = parse(self.members[archive.PREDICTION_PROOF])
        return found

    @cached_property
    def files(self) -> list[FileEntry]:
        """The model's files, hashed from the bytes at hand. Where both archive and folder hold them, they are the same."""
        held = [
            {"path": name.removeprefix(archive.MODEL), "size": self.members.size(name), "sha256": self.members.sha256(name)}
            for name in self.members
            if name.startswith(archive.MODEL) and name != archive.MODEL_SIGNATURE
        ]
        require(bool(held) == self.index["weights"], f"{archive.INDEX} says otherwise whether the archive holds weights")
        require(bool(held) or self.model is not None, "the archive holds no weights: pass --model DIR")
        if self.model is None:
            return require_files(held)
        found = [entry for entry in scan_tree(self.model) if entry.path != oms.SIGNATURE_FILE]
        require(not held or require_files(held) == found, f"the files in {self.model} are not those of the archive")
        return found

    def see(self, index: int, event: Event, _leaf: bytes) -> None:
        """Keeps an entry if the walk is about it, so that memory does not grow with the log."""
        self.size = index + 1
        if event["type"] in KEPT_WHOLE or self._about(event):
            self.events.append((index, event))
            told_by = sorted(tellers(event["type"]))
            if self.misplaced is None and not event["source"].endswith(tuple(f"/service/{name}" for name in told_by)):
                self.misplaced = f"entry {index}, {event['type']}, is told by {event['source']}: only {' or '.join(told_by)} may"

    def find(self, kind: str, what: str, matches: Callable[[Event], bool]) -> tuple[int, Event]:
        """Index and event of the last entry of a type that matches."""
        for index, event in reversed(self.events):
            if event["type"] == kind and matches(event):
                return index, event
        raise BrokenLink(f"the log has no {kind} event {what}")

    @cached_property
    def completion(self) -> tuple[int, Event]:
        digest = sha256(self.manifest_envelope.payload)
        return self.find("promotion.completed", f"for manifest {digest}", lambda event: event["manifestRef"] == digest)

    @cached_property
    def decision(self) -> tuple[int, Event]:
        return self._decision(self.index["decision"])

    @cached_property
    def deploy_decision(self) -> tuple[int, Event]:
        return self._decision(self.index["deployDecision"])

    @cached_property
    def sealed(self) -> tuple[int, Event]:
        """The event that sealed the record's batch."""
        wanted = self.proof["event"]
        return self.find("predictions.sealed", f"{wanted}: the archive's checkpoint does not cover the record's batch",
                         lambda event: event["id"] == wanted)  # fmt: skip

    @cached_property
    def started(self) -> tuple[int, Event]:
        """The event that began the record's deployment; those without a decision go on with it after a quarantine."""
        return self.find("deploy.started", f"of {self.record['deployment']}", lambda event: "decision" in event["payload"])

    def state_before(self, index: int) -> History:
        """What the log tells of versions, flags, approvals and policies up to an entry."""
        return History().replay(event for at, event in self.events if at < index)

    @cached_property
    def at_decision(self) -> History:
        """The state that the promotion's decision was made in."""
        return self.state_before(self.decision[0])

    def version_at(self, history: History) -> Version:
        require(self.reference in history.versions, f"the log does not register {self.reference} before the decision")
        return history.versions[self.reference]

    @cached_property
    def version(self) -> Version:
        return self.version_at(self.at_decision)

    @cached_property
    def registration(self) -> tuple[int, Event]:
        """The event that registered the version."""
        return self.find("model.registered", f"of {self.reference}", lambda event: event["subject"]["id"] == self.reference)

    @property
    def last_approval(self) -> Event:
        """The event that left the request's envelope as it was decided on."""
        mine = [event for event in self._decided_on if event["type"] in ("promotion.requested", "promotion.approved")]
        require(bool(mine), f"the log has no request {sha256(self.request_envelope.payload)} before the decision")
        return mine[-1]

    @property
    def approved_by(self) -> set[str]:
        """Who handed in an approval of the request before the decision."""
        return {event["actor"] for event in self._decided_on if event["type"] == "promotion.approved"}

    @property
    def _decided_on(self) -> list[Event]:
        """What the log told before the decision."""
        return [event for at, event in self.events if at < self.decision[0]]

    @property
    def evaluated(self) -> Event:
        """The event that recorded the evaluation."""
        digest = self.manifest.evaluation
        return self.find("evaluation.recorded", f"of {digest}", lambda event: event["payload"]["evaluation"] == digest)[1]

    def published(self, member: str, before: int) -> Event:
        """The event that published a bundle of policies of the archive, before an entry."""
        digest = sha256(self.members[member])
        for at, event in reversed(self.events):
            if at < before and event["type"] == "policy.published" and event["payload"]["bundle"] == digest:
                return event
        raise BrokenLink(f"the log has no policy.published event of bundle {digest} before the decision")

    def _decision(self, wanted: str) -> tuple[int, Event]:
        return self.find("policyCheck", f"of decision {wanted}", lambda event: event["payload"].get("decision") == wanted)

    def _about(self, event: Event) -> bool:
        wanted = self._wanted.get(event["type"])
        return wanted is not None and wanted(event)

    @cached_property
    def _wanted(self) -> dict[str, Callable[[Event], bool]]:
        decisions = {self.index["decision"], self.index["deployDecision"]}
        envelopes = (archive.MANIFEST, archive.DECISION, archive.REQUEST, archive.EVALUATION)
        manifest, decision, request, evaluation = (self._payload_digest(name) for name in envelopes)
        record, proof = self._stated(archive.PREDICTION), self._stated(archive.PREDICTION_PROOF)
        deployment, rollout = record.get("deployment"), record.get("rollout")
        rollout_id = rollout.get("id") if isinstance(rollout, dict) else None

        def of_version(event: Event) -> bool:
            return bool(event["subject"]["id"] == self.reference)

        def of_request(event: Event) -> bool:
            return bool(event["payload"].get("request") == request)

        def of_deployment(event: Event) -> bool:
            return bool(event["subject"]["id"] == deployment)

        def of_rollout(event: Event) -> bool:
            return bool(event["subject"]["id"] == rollout_id)

        return {
            "promotion.completed": of_version,
            "promotion.requested": of_request,
            "promotion.approved": of_request,
            "policyCheck": lambda event: event["payload"].get("decision") in decisions,
            "signature.made": lambda event: event["subject"]["digest"] in (manifest, decision),
            "evaluation.recorded": lambda event: event["payload"].get("evaluation") == evaluation,
            "deploy.started": of_deployment,
            "deploy.stopped": of_deployment,
            "rollout.started": of_rollout,
            "predictions.sealed": lambda event: event["id"] == proof.get("event"),
        }

    def _payload_digest(self, name: str) -> str | None:
        """None for no envelope: the link that reads it will say so."""
        try:
            return sha256(dsse.parse(self.members[name]).payload)
        except BadInput:
            return None

    def _stated(self, name: str) -> dict[str, Any]:
        """What a member of a prediction says of itself; nothing where it is absent or no object."""
        try:
            value = parse(self.members[name]) if name in self.members else None
        except BadInput:
            return {}
        return value if isinstance(value, dict) else {}
