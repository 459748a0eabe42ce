"""The links of the chain from a promoted version to its origins. Each recomputes; none believes what the archive says of itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.core import archive, dsse, logfile, oms, quorum, tlog
from services.core.bundle import load_bundle
from services.core.canonical import canonical, first_double, parse
from services.core.cosignature import open_cosigned
from services.core.digests import sha256, tree_bytes, tree_digest
from services.core.facts import Evidence, promotion_input, run_key
from services.core.history import History
from services.core.keys import PublicKey
from services.core.logcheck import check_log
from services.core.rego import verdict_on
from services.core.statements import Evaluation, PolicyBundle, Provenance, Vsa, expect
from services.verify.walk import Event, LogMembers, Walk, require

MAX_SKEW_S = 60
"""Seconds between a decision's own time and the time of its event."""


def checkpoint(walk: Walk) -> str:
    found = open_cosigned(walk.members[archive.CHECKPOINT], walk.trust)
    size, origin, witnesses = found.checkpoint.size, found.checkpoint.origin, found.witnesses
    require(origin == walk.trust.log_origin, f"the checkpoint is of log {origin}, not {walk.trust.log_origin}")
    # A line that nobody here can check could be changed without being found.
    require(not found.unknown, f"it bears a signature of {', '.join(found.unknown)}, which trust does not know: name its key in "
                               "log.witnesses of trust.json; with witnessThreshold 0 it is checked and not needed")  # fmt: skip
    lines = tlog.split_note(walk.members[archive.CHECKPOINT])[1]
    double = first_double(f"{line.name}+{line.key_id.hex()}" for line in lines)
    require(double is None, f"it bears two signatures of {double}: one key signs once")
    seen = f"cosigned by {', '.join(sorted(witnesses))}" if witnesses else "no witness: trust asks for none"
    return f"{size} entries of {origin}, signed by {walk.trust.log_vkey.split('+')[0]}, {seen}"


def entries(walk: Walk) -> str:
    found = check_log(LogMembers(walk.members), tlog.parse_vkey(walk.trust.log_vkey), walk.against, walk.see)
    require(found.ok, "; ".join(f"{problem.kind}: {problem.detail}" for problem in found.problems[:3]))
    require(walk.misplaced is None, walk.misplaced or "")
    return f"chain of {walk.size} entries makes the signed root"


def model_version(walk: Walk) -> str:
    index, event = walk.registration
    payload = event["payload"]
    require((payload["model"], payload["number"]) == (walk.index["model"], walk.index["number"]), f"entry {index} is of another")
    predicted = walk.index["prediction"] is None or payload["artifactId"] == walk.record["artifactId"]
    require(predicted, f"{walk.reference} is another artifact than the one that answered")
    return f"{walk.reference} registered at entry {index}: artifact {payload['artifactId'][:23]}…, risk {payload['riskClass']}"


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
    approvers = [a.person for a in quorum.require(walk.request_envelope, walk.trust, request.requester, needed, at)]
    # A signature is no approval before its owner hands it in.
    unheard = _names(sorted(set(approvers) - walk.approved_by))
    require(not unheard, f"the log has no promotion.approved event by {unheard} before the decision")
    names = _names(approvers)
    return f"{len(approvers)} of the needed {needed} approvals: {names or 'none'}"


def _names(people: Sequence[str]) -> str:
    return ", ".join(person.rsplit("/", 1)[-1] for person in people)


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
    return active_policies(walk, archive.POLICY, archive.POLICY_SIGNATURE, walk.decision[0], walk.at_decision)


def active_policies(walk: Walk, tar: str, signature: str, at: int, state: History) -> str:
    """The bundle in these two members was the active one when the entry `at` was decided; state: what was before it."""
    envelope = dsse.parse(walk.members[signature])
    statement = expect(PolicyBundle, envelope.payload)
    signers = dsse.verified_signers(envelope, walk.trust.policy_keys(at))
    require(bool(signers), "no key of a person with the role security signed the policies")
    revision = load_bundle(walk.members[tar]).revision
    require(revision == statement.revision, "the policies are not those that were signed")
    require(revision == state.policy_revision, "the policies were not the active ones at the decision")
    published = sha256(walk.members[signature])
    require(published == state.policy_envelope, "the policies were active under another signature at the decision")
    person = walk.trust.person_of(sorted(signers)[0])
    return f"version {statement.version}, signed by {person.person.rsplit('/', 1)[-1] if person else '?'}, active at the decision"


def facts(walk: Walk) -> str:
    def computed(now: int) -> dict[str, Any]:
        return promotion_input(_evidence(walk), walk.trust, now=now, at=walk.decision[0])

    count = same_facts(parse(walk.members[archive.DECISION_INPUT]), computed, walk.decision[1])
    return f"{count} facts recomputed from the evidence and the log"


def same_facts(recorded: Any, computed: Callable[[int], dict[str, Any]], event: Event) -> int:
    """How many facts there are, all of them as computed. computed: from a decision's own time; event: of the decision."""
    require(isinstance(recorded, dict), "the decision's input is no object")
    now = recorded.get("now")
    require(type(now) is int and abs(event["ts"] // 1000 - now) <= MAX_SKEW_S, "the decision's time is not that of its event")
    expected = computed(now)
    for name in sorted(set(recorded) | set(expected)):
        require(name in expected, f"the fact {name!r} is nothing that evidence tells")
        require(name in recorded, f"the fact {name!r} is missing")
        same = canonical(recorded[name]) == canonical(expected[name])
        require(same, f"the fact {name!r} is not what the evidence says")
    return len(expected)


def reexecution(walk: Walk) -> str:
    return f"{passes_again(walk, archive.POLICY, archive.DECISION_INPUT)} rules pass again"


def passes_again(walk: Walk, tar: str, facts: str) -> int:
    """How many rules of a bundle pass an input; all of them."""
    found = verdict_on(load_bundle(walk.members[tar]), parse(walk.members[facts]))
    refused = ", ".join(report.rule for report in found.reports if report.verdict != "pass")
    require(found.verdict == "pass", f"the policies refuse this input: {refused}")
    return len(found.reports)


def evaluation(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.EVALUATION])
    result = expect(Evaluation, envelope.payload)
    _signer(walk, envelope, "evaluator")
    require(sha256(envelope.payload) == walk.manifest.evaluation, "the manifest is for another evaluation")
    require(result.artifact_id == walk.manifest.artifact_id, "the evaluation is of another artifact")
    return f"accuracy {result.metrics['accuracy']:.4f} on {result.samples} samples of {result.split!r}"


def run(walk: Walk) -> str:
    envelope = dsse.parse(walk.members[archive.PROVENANCE])
    made = expect(Provenance, envelope.payload)
    _signer(walk, envelope, "builder")
    require(sha256(envelope.payload) == walk.manifest.provenance, "the manifest is for another provenance")
    require(made.artifact_id == walk.manifest.artifact_id, "the run made another artifact")
    require(made.run_key == run_key(made.inputs.to_json()) == walk.request.run_key, "runKey is not the digest of the inputs")
    return f"run {made.run_id[:16]}…, seed {made.inputs.seed}; runKey {made.run_key[:23]}… is the digest of its seven inputs"


def code(walk: Walk) -> str:
    inputs = expect(Provenance, dsse.parse(walk.members[archive.PROVENANCE]).payload).inputs
    require(not inputs.code_ref.dirty, "the run's code is of no commit: its tree was dirty")
    source, lock, image = inputs.code_ref.tree, inputs.dependency_lock, inputs.image
    return f"commit {inputs.code_ref.commit[:12]}, source {source[:19]}…, lock file {lock[:19]}…, image {image[:19]}…, by digest"


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
    completed, registered = walk.completion[1], walk.registration[1]
    published = walk.published(archive.POLICY, walk.decision[0])
    bound = {
        archive.MANIFEST: completed["signatureRef"],
        archive.MODEL_SIGNATURE: completed["payload"]["bundle"],
        archive.REQUEST: walk.last_approval["signatureRef"],
        archive.EVALUATION: walk.evaluated["signatureRef"],
        archive.PROVENANCE: registered["payload"]["provenance"],
        archive.ARTIFACT_SIGNATURE: registered["signatureRef"],
        archive.POLICY: published["payload"]["bundle"],
        archive.POLICY_SIGNATURE: published["signatureRef"],
    }
    if walk.index["prediction"] is not None:
        deployed_under = walk.published(archive.DEPLOY_POLICY, walk.deploy_decision[0])
        bound |= {
            archive.DEPLOY_POLICY: deployed_under["payload"]["bundle"],
            archive.DEPLOY_POLICY_SIGNATURE: deployed_under["signatureRef"],
        }
    for name, digest in bound.items():
        require(sha256(walk.members[name]) == digest, f"{name} is not the one that the log tells of")
    _require_one_signature(walk, archive.DECISION)
    known = {archive.hex_name(archive.DATASETS, item) for item in registered["payload"]["ancestors"]}
    known |= {archive.LOG + path for path in logfile.paths(walk.size)} | {*archive.FIXED, *archive.OF_PREDICTION}
    for name in set(walk.members) - known:
        require(name.startswith(archive.MODEL) or _told_approval(walk, name), f"{name} is none that the log tells of")
    return f"{len(walk.members)} members are those that the log tells of"


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
    told = {event["payload"]["approval"] for _, event in walk.events if event["type"] == "dataset.approved"}
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
    return [walk.members[name] for name in sorted(walk.members) if name.startswith(folder)]
