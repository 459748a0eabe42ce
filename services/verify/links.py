"""The links of the chain from a promoted version to its origins. Each recomputes; none believes what the archive says of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from services.core import archive, dsse, logfile, oms, quorum, tlog
from services.core.bundle import bundle_revision, load_bundle
from services.core.canonical import canonical, parse
from services.core.digests import FileEntry, require_files, scan_tree, sha256, tree_bytes, tree_digest
from services.core.errors import AiInfraError, NotFound
from services.core.facts import Evidence, promotion_input, run_key
from services.core.history import History, Version
from services.core.keys import PublicKey
from services.core.logcheck import check_log
from services.core.logentry import parse_leaf
from services.core.rego import verdict_on
from services.core.statements import (
    Evaluation,
    Manifest,
    PolicyBundle,
    Predicate,
    PromotionRequest,
    Provenance,
    Vsa,
    expect,
)
from services.core.trust import Trust

T = TypeVar("T", bound=Predicate)

MAX_SKEW_S = 60
"""Seconds between a decision's own time and the time of its event."""


class BrokenLink(AiInfraError):
    """The message says what does not hold."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise BrokenLink(message)


@dataclass(frozen=True)
class MemberReader:
    """The log's files among the archive's members (core.logfile.LogReader)."""

    members: Mapping[str, bytes]

    def read(self, path: str, limit: int) -> bytes:
        data = self.members.get(archive.LOG + path)
        if data is None:
            raise NotFound(f"{archive.LOG}{path} is not in the archive")
        require(len(data) <= limit, f"{archive.LOG}{path} is over {limit} bytes")
        return data


@dataclass
class Walk:
    """What the links share. members: of the archive; trust: out of band; model: a folder with the weights, if not in the archive;
    against: an older signed checkpoint that the caller kept."""

    members: Mapping[str, bytes]
    trust: Trust
    model: Path | None = None
    against: bytes | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def index(self) -> dict[str, Any]:
        value = parse(self.members[archive.INDEX])
        fields = {"version", "model", "number", "environment", "decision", "weights"}
        require(isinstance(value, dict) and set(value) == fields, f"{archive.INDEX} does not have the fields {sorted(fields)}")
        require(value["version"] == archive.VERSION, f"this program reads archives of version {archive.VERSION}")
        require(type(value["weights"]) is bool, f"{archive.INDEX}: weights is true or false")
        require(canonical(value) == self.members[archive.INDEX], f"{archive.INDEX} is not in canonical form")
        found: dict[str, Any] = value
        return found

    @property
    def reference(self) -> str:
        return f"{self.index['model']}@{self.index['number']}"

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
    def files(self) -> list[FileEntry]:
        """The model's files, hashed from the bytes at hand. Where both archive and folder hold them, they are the same."""
        held = [
            {"path": name.removeprefix(archive.MODEL), "size": len(data), "sha256": sha256(data)}
            for name, data in self.members.items()
            if name.startswith(archive.MODEL) and name != archive.MODEL_SIGNATURE
        ]
        require(bool(held) == self.index["weights"], f"{archive.INDEX} says otherwise whether the archive holds weights")
        require(bool(held) or self.model is not None, "the archive holds no weights: pass --model DIR")
        if self.model is None:
            return require_files(held)
        found = [entry for entry in scan_tree(self.model) if entry.path != oms.SIGNATURE_FILE]
        require(not held or require_files(held) == found, f"the files in {self.model} are not those of the archive")
        return found

    def find(self, kind: str, what: str, matches: Callable[[dict[str, Any]], bool]) -> tuple[int, dict[str, Any]]:
        """Index and event of the last entry of a type that matches."""
        for position in range(len(self.events) - 1, -1, -1):
            event = self.events[position]
            if event["type"] == kind and matches(event):
                return position, event
        raise BrokenLink(f"the log has no {kind} event {what}")

    @cached_property
    def completion(self) -> tuple[int, dict[str, Any]]:
        digest = sha256(self.manifest_envelope.payload)
        return self.find("promotion.completed", f"for manifest {digest}", lambda event: event["manifestRef"] == digest)

    @cached_property
    def decision(self) -> tuple[int, dict[str, Any]]:
        wanted = self.index["decision"]
        return self.find("policyCheck", f"of decision {wanted}", lambda event: event["payload"].get("decision") == wanted)

    @property
    def registration(self) -> dict[str, Any]:
        """The event that registered the version."""
        return self.find("model.registered", f"of {self.reference}", lambda event: event["subject"]["id"] == self.reference)[1]

    @property
    def last_approval(self) -> dict[str, Any]:
        """The event that left the request's envelope as it was decided on."""
        digest = sha256(self.request_envelope.payload)
        before = self.events[: self.decision[0]]
        told = [event for event in before if event["type"] in ("promotion.requested", "promotion.approved")]
        mine = [event for event in told if event["payload"]["request"] == digest]
        require(bool(mine), f"the log has no request {digest} before the decision")
        return mine[-1]

    @property
    def evaluated(self) -> dict[str, Any]:
        """The event that recorded the evaluation."""
        digest = self.manifest.evaluation
        return self.find("evaluation.recorded", f"of {digest}", lambda event: event["payload"]["evaluation"] == digest)[1]

    @property
    def published(self) -> dict[str, Any]:
        """The event that published the policies of the archive."""
        digest = sha256(self.members[archive.POLICY])
        event: dict[str, Any]
        for event in reversed(self.events[: self.decision[0]]):
            if event["type"] == "policy.published" and event["payload"]["bundle"] == digest:
                return event
        raise BrokenLink(f"the log has no policy.published event of bundle {digest} before the decision")

    @cached_property
    def at_decision(self) -> History:
        """The state that the decision was made in: every event before it."""
        return History().replay(self.events[: self.decision[0]])

    @cached_property
    def version(self) -> Version:
        require(self.reference in self.at_decision.versions, f"the log does not register {self.reference} before the decision")
        return self.at_decision.versions[self.reference]


def checkpoint(walk: Walk) -> str:
    found = tlog.open_checkpoint(walk.members[archive.CHECKPOINT], tlog.parse_vkey(walk.trust.log_vkey))
    require(found.origin == walk.trust.log_origin, f"the checkpoint is of log {found.origin}, not {walk.trust.log_origin}")
    return f"{found.size} entries, signed by {walk.trust.log_vkey.split('+')[0]}"


def entries(walk: Walk) -> str:
    reader = MemberReader(walk.members)
    found = check_log(reader, tlog.parse_vkey(walk.trust.log_vkey), walk.against)
    require(found.ok, "; ".join(f"{problem.kind}: {problem.detail}" for problem in found.problems[:3]))
    for leaf in logfile.read_entries(reader, found.size):
        event, _ = parse_leaf(leaf)
        walk.events.append(event)
    return f"chain of {len(walk.events)} entries makes the signed root"


def manifest_signature(walk: Walk) -> str:
    signer = _signer(walk, walk.manifest_envelope, "manifest")
    claims = (walk.manifest.model, walk.manifest.number, walk.manifest.environment)
    require(claims == (walk.index["model"], walk.index["number"], walk.index["environment"]), "the manifest is of another version")
    require(walk.manifest.environment in walk.trust.environments, f"trust knows no environment {walk.manifest.environment}")
    return f"{walk.reference} for {walk.manifest.environment}, by manifest key {signer[:16]}…"


def log_inclusion(walk: Walk) -> str:
    position, event = walk.completion
    require(event["subject"] == {"kind": "model", "id": walk.reference, "digest": walk.manifest.artifact_id},
            f"entry {position} is about {event['subject']['id']}")  # fmt: skip
    require(event["payload"]["decision"] == walk.index["decision"], f"entry {position} names another decision")
    digest = sha256(walk.manifest_envelope.payload)
    signed, _ = walk.find("signature.made", "for the manifest", lambda item: item["subject"]["digest"] == digest)
    require(walk.decision[0] < signed < position, "decision, signature and promotion are not in this order in the log")
    return f"decision {walk.decision[0]}, signature {signed}, promotion {position}: in this order"


def weights(walk: Walk) -> str:
    require(walk.members[archive.FILES] == tree_bytes(walk.files), "the files are not those that files.json lists")
    require(tree_digest(walk.files) == walk.manifest.artifact_id, "the files do not make the artifact that the manifest names")
    size = sum(entry.size for entry in walk.files)
    return f"{len(walk.files)} files, {size:,} bytes make {walk.manifest.artifact_id[:23]}…"


def model_signature(walk: Walk) -> str:
    keys = walk.trust.signer_with_role("manifest", walk.completion[0])
    signer, subject = oms.verify_any(walk.members[archive.MODEL_SIGNATURE], walk.files, keys)
    require(subject == walk.manifest.oms_subject, "model.sig is over another tree than the manifest names")
    return f"model.sig (OMS 1.0) by manifest key {signer[:16]}…"


def request_and_quorum(walk: Walk) -> str:
    request, manifest = walk.request, walk.manifest
    require(sha256(walk.request_envelope.payload) == manifest.request, "the manifest is for another request")
    same = (request.model, request.number, request.artifact_id, request.to_stage, request.evaluation)
    wanted = (manifest.model, manifest.number, manifest.artifact_id, manifest.environment, manifest.evaluation)
    require(same == wanted, "the request asks for something else than the manifest grants")
    at = walk.decision[0]
    signers = dsse.verified_signers(walk.request_envelope, walk.trust.people_keys(at))
    require(request.requester in signers, "the requester's own signature is missing")
    require(request.risk_class == walk.version.risk_class, "the request lowers the version's risk class")
    needed = walk.trust.required_approvals(request.risk_class, request.to_stage)
    approvers = quorum.require(walk.request_envelope, walk.trust, request.requester, needed, at)
    names = ", ".join(approver.person.rsplit("/", 1)[-1] for approver in approvers)
    return f"{len(approvers)} of the needed {needed} approvals: {names or 'none'}"


def decision(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.DECISION])
    signer = _signer(walk, envelope, "sentinelnet")
    summary = expect(Vsa, envelope.payload)
    position, event = walk.decision
    require(sha256(envelope.payload) == walk.manifest.decision, "the manifest is for another decision")
    require(summary.decision_id == walk.index["decision"], "the summary is of another decision")
    require(summary.verdict == "pass" and event["payload"]["verdict"] == "pass", "the decision was not to pass")
    require(summary.artifact_id == walk.manifest.artifact_id, "the decision is about another artifact")
    require(summary.environment == walk.manifest.environment, "the decision is for another environment")
    digest = sha256(walk.members[archive.DECISION_INPUT])
    require(summary.input_digest == digest == event["payload"]["inputDigest"], "the decision's input is another one")
    wanted = {walk.manifest.request, walk.manifest.evaluation, walk.manifest.provenance}
    require(set(summary.attestations) == wanted, "the decision looked at other attestations")
    return f"{summary.decision_id} at entry {position}, by sentinelnet key {signer[:16]}…"


def policy(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.POLICY_SIGNATURE])
    statement = expect(PolicyBundle, envelope.payload)
    signers = dsse.verified_signers(envelope, walk.trust.policy_keys(walk.decision[0]))
    require(bool(signers), "no key of a person with the role security signed the policies")
    revision = bundle_revision(load_bundle(walk.members[archive.POLICY]))
    require(revision == statement.revision, "the policies are not those that were signed")
    require(revision == walk.at_decision.policy_revision, "the policies were not the active ones at the decision")
    published = sha256(walk.members[archive.POLICY_SIGNATURE])
    require(published == walk.at_decision.policy_envelope, "the policies were active under another signature at the decision")
    person = walk.trust.person_of(sorted(signers)[0])
    return f"version {statement.version}, signed by {person.person.rsplit('/', 1)[-1] if person else '?'}, active at the decision"


def facts(walk: Walk) -> str:
    position, event = walk.decision
    recorded = parse(walk.members[archive.DECISION_INPUT])
    require(abs(event["ts"] // 1000 - recorded["now"]) <= MAX_SKEW_S, "the decision's time is not that of its event")
    computed = promotion_input(_evidence(walk), walk.trust, now=recorded["now"], at=position)
    for name in sorted(set(recorded) | set(computed)):
        same = recorded.get(name) == computed.get(name)
        require(same, f"the fact {name!r} is not what the evidence says")
    return f"{len(computed)} facts recomputed from the evidence and the log"


def reexecution(walk: Walk) -> str:
    bundle = load_bundle(walk.members[archive.POLICY])
    found = verdict_on(bundle, parse(walk.members[archive.DECISION_INPUT]))
    refused = ", ".join(report.rule for report in found.reports if report.verdict != "pass")
    require(found.verdict == "pass", f"the policies refuse this input: {refused}")
    return f"{len(found.reports)} rules pass again"


def evaluation(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.EVALUATION])
    result = expect(Evaluation, envelope.payload)
    _signer(walk, envelope, "evaluator")
    require(sha256(envelope.payload) == walk.manifest.evaluation, "the manifest is for another evaluation")
    require(result.artifact_id == walk.manifest.artifact_id, "the evaluation is of another artifact")
    return f"accuracy {result.metrics['accuracy']:.4f} on {result.samples} samples of {result.split!r}"


def provenance(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.PROVENANCE])
    run = expect(Provenance, envelope.payload)
    _signer(walk, envelope, "builder")
    require(sha256(envelope.payload) == walk.manifest.provenance, "the manifest is for another provenance")
    require(run.artifact_id == walk.manifest.artifact_id, "the run made another artifact")
    require(run.run_key == run_key(run.inputs.to_json()) == walk.request.run_key, "runKey is not the digest of the inputs")
    return f"run {run.run_id[:16]}… from commit {run.inputs.code_ref.commit[:12]}, seed {run.inputs.seed}"


def datasets(walk: Walk) -> str:
    run = expect(Provenance, dsse.parse(walk.members[archive.PROVENANCE]).payload)
    require(set(run.inputs.datasets) <= set(walk.version.datasets), "the run used data sets that the version does not name")
    told = []
    for dataset in walk.version.datasets:
        name = archive.hex_name(archive.DATASETS, dataset)
        require(name in walk.members, f"data set {dataset} is missing")
        require(sha256(walk.members[name]) == dataset, f"data set {dataset} has another manifest")
        told.append(parse(walk.members[name])["licence"])
    return f"{len(told)} data set(s): {', '.join(sorted(set(told)))}"


def members(walk: Walk) -> str:
    """Every member is one that the log tells of, to its last byte: also key ids and tar headers, which no signature covers."""
    completed, registered = walk.completion[1], walk.registration
    bound = {
        archive.MANIFEST: completed["signatureRef"],
        archive.MODEL_SIGNATURE: completed["payload"]["bundle"],
        archive.REQUEST: walk.last_approval["signatureRef"],
        archive.EVALUATION: walk.evaluated["signatureRef"],
        archive.PROVENANCE: registered["payload"]["provenance"],
        archive.ARTIFACT_SIGNATURE: registered["signatureRef"],
        archive.POLICY: walk.published["payload"]["bundle"],
        archive.POLICY_SIGNATURE: walk.published["signatureRef"],
    }
    for name, digest in bound.items():
        require(sha256(walk.members[name]) == digest, f"{name} is not the one that the log tells of")
    _require_one_signature(walk, archive.DECISION)
    known = {archive.hex_name(archive.DATASETS, item) for item in registered["payload"]["ancestors"]}
    known |= {archive.LOG + path for path in logfile.paths(len(walk.events))}
    for name in set(walk.members) - set(archive.FIXED) - known:
        require(name.startswith(archive.MODEL) or _told_approval(walk, name), f"{name} is none that the log tells of")
    return f"{len(walk.members)} members are those that the log tells of"


LINKS: tuple[tuple[str, Callable[[Walk], str]], ...] = (
    ("log checkpoint", checkpoint),
    ("log entries", entries),
    ("manifest signature", manifest_signature),
    ("log inclusion", log_inclusion),
    ("weights", weights),
    ("model signature", model_signature),
    ("request and quorum", request_and_quorum),
    ("decision", decision),
    ("policies", policy),
    ("decision facts", facts),
    ("decision re-executed", reexecution),
    ("evaluation", evaluation),
    ("provenance", provenance),
    ("data sets and licences", datasets),
    ("every byte accounted for", members),
)
"""In the order of the walk: a link may rely on those before it."""


def _signer(walk: Walk, envelope: dsse.Envelope, role: str) -> str:
    keys: Mapping[str, PublicKey] = walk.trust.signer_with_role(role, walk.completion[0])
    signers = dsse.verified_signers(envelope, keys)
    require(bool(signers), f"no trusted {role} key signed it")
    return sorted(signers)[0]


def _require_one_signature(walk: Walk, name: str) -> None:
    """The proxy tells the log each signature that it made, and under which key id."""
    envelope = dsse.parse(walk.members[name])
    digest = sha256(envelope.payload)
    _, made = walk.find("signature.made", f"for {name}", lambda event: event["subject"]["digest"] == digest)
    told = [(made["payload"]["keyId"], made["payload"]["signatureDigest"])]
    require([(item.keyid, sha256(item.sig)) for item in envelope.signatures] == told, f"{name} has another signature than was made")
    require(envelope.to_bytes() == walk.members[name], f"{name} is not in canonical form")


def _told_approval(walk: Walk, name: str) -> bool:
    """Whether the member is a data set's approval, of any time, under the name that its digest gives it."""
    data = walk.members[name]
    told = {event["payload"]["approval"] for event in walk.events if event["type"] == "dataset.approved"}
    return name == archive.hex_name(archive.DATASET_APPROVALS, sha256(data), ".dsse.json") and (
        sha256(dsse.parse(data).payload) in told
    )


def _evidence(walk: Walk) -> Evidence:
    history = walk.at_decision
    approvals = []
    for dataset in walk.version.datasets:
        wanted = set(history.dataset_approvals.get(dataset, []))
        held = {sha256(dsse.parse(data).payload): data for data in _folder(walk, archive.DATASET_APPROVALS)}
        require(wanted <= set(held), f"an approval of data set {dataset} is missing")
        approvals += [held[payload] for payload in sorted(wanted)]
    return Evidence(
        request=walk.members[archive.REQUEST],
        version=walk.version.to_json(),
        files=walk.files,
        artifact_signature=walk.members[archive.ARTIFACT_SIGNATURE],
        evaluation=walk.members[archive.EVALUATION],
        provenance=walk.members[archive.PROVENANCE],
        datasets={item: walk.members[archive.hex_name(archive.DATASETS, item)] for item in walk.version.datasets},
        dataset_approvals=approvals,
        flags=history.flags_on(walk.version),
        policy_revision=history.policy_revision or "",
    )


def _folder(walk: Walk, folder: str) -> list[bytes]:
    return [data for name, data in sorted(walk.members.items()) if name.startswith(folder)]
