"""Promotion: request, approvals, decision, manifest, signature, stage, in this order; every step can be repeated.

What a crash leaves behind is said at each write. `carry_out` is both the normal way and the recovery: it goes on from the last
step that was recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import Connection, Engine, insert, select, update

from services.core import dsse, oms, quorum
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import AiInfraError, BadInput, NotFound, Refused
from services.core.events import EventDraft, Subject
from services.core.facts import Evidence, promotion_input
from services.core.ids import new_id
from services.core.keys import Signature
from services.core.objects import CorruptObject, ObjectStore
from services.core.statements import Manifest, PromotionRequest, Vsa, expect
from services.core.trustfile import TrustNow
from services.registry import tables, told
from services.registry.artifacts import Artifacts
from services.registry.datasets import Datasets
from services.registry.errors import AlreadyPromoted, PromotionRefused, StageChanged, UnknownPromotion
from services.registry.flags import Flags
from services.registry.models import Models
from services.registry.ports import Decision, Events, Log, Policy, Signing

REQUESTED, DECIDED, COMPLETED = "requested", "decided", "completed"

# Refusals by checks outside the policies bear names of rules too, and are policyCheck events as the policies' own are.
EVIDENCE_RULE = "promotion.evidence"
"""What would be decided on, or signed, cannot be read, or is not what the log tells of."""
SIGNING_RULE = "signing.proxy"
"""The signing proxy, which checks for itself, does not sign."""
UNREADABLE = (CorruptObject, NotFound, BadInput)


@dataclass(frozen=True)
class Promotions:
    """Use cases over promotions. verifier: SPIFFE URI under which decisions are summarised."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock
    trust: TrustNow
    datasets: Datasets
    artifacts: Artifacts
    models: Models
    flags: Flags
    policy: Policy
    signing: Signing
    log: Log
    verifier: str

    def request(self, envelope_bytes: bytes, actor: str) -> dict[str, Any]:
        """Records a signed request, with the caller's own signatures alone: who approves, calls `approve`. The same request again
        answers the promotion that is there.

        Raises:
            Refused: the caller did not sign it with a key that trust knows as the caller's. UnknownModel. BadInput.
            AlreadyPromoted: nobody needs to sign what no decision could allow.
        """
        envelope = dsse.parse(envelope_bytes)
        request = expect(PromotionRequest, envelope.payload)
        version = self.models.get(request.model, request.number)
        own = self._require_own_signatures(envelope, actor, "promotion.request")
        digest = sha256(envelope.payload)
        # 1. Store the envelope. A crash here leaves an object that no row names: harmless.
        stored = self.store.put(dsse.Envelope(envelope.payload_type, envelope.payload, tuple(own.values())).to_bytes())
        # 2. Row and event in one transaction.
        with begin(self.engine) as connection:
            table = tables.promotions
            found = connection.execute(select(table.c.id).where(table.c.request == digest)).scalar()
            if found is None:
                self._require_below(version, request.to_stage)
                found = new_id("prm")
                connection.execute(
                    insert(table).values(
                        id=found,
                        request=digest,
                        envelope=stored,
                        model=request.model,
                        number=request.number,
                        to_stage=request.to_stage,
                        state=REQUESTED,
                        requested_by=actor,
                        requested_at=self.clock(),
                    )
                )
                payload = {"promotion": found, "request": digest, "from": request.from_stage, "to": request.to_stage}
                self._emit(connection, "promotion.requested", actor, request, payload, signature_ref=stored)
        return self.get(found)

    def approve(self, promotion_id: str, envelope_bytes: bytes, actor: str) -> dict[str, Any]:
        """Adds the caller's signature over the request's own bytes.

        Raises:
            Refused: the envelope holds another request, or no signature of the caller's. StageChanged: two at once; retry.
        """
        promotion = self.get(promotion_id)
        if promotion["state"] != REQUESTED:
            raise StageChanged(f"promotion {promotion_id} is {promotion['state']}: it takes no more approvals")
        held = dsse.parse(self.store.get(promotion["envelope"]))
        given = dsse.parse(envelope_bytes)
        request = expect(PromotionRequest, held.payload)
        if given.payload != held.payload:
            self._refuse(actor, promotion, "promotion.quorum", "the approval is of another request: sign the bytes of this one")
        own = self._require_own_signatures(given, actor, "promotion.quorum")
        # A key that signed already adds nothing: ECDSA makes another signature each time, and an envelope takes 64.
        known = self._signatures_of(held, actor)
        new = tuple(sig for signer, sig in own.items() if signer not in known)
        if not new:
            return promotion
        merged = self.store.put(dsse.merge(held, dsse.Envelope(given.payload_type, given.payload, new)).to_bytes())
        with begin(self.engine) as connection:
            table = tables.promotions
            changed = connection.execute(
                update(table)
                .where((table.c.id == promotion_id) & (table.c.envelope == promotion["envelope"]) & (table.c.state == REQUESTED))
                .values(envelope=merged)
            )
            if changed.rowcount != 1:
                raise StageChanged("another approval came in between: send this one again")
            payload = {"promotion": promotion_id, "request": promotion["request"]}
            self._emit(connection, "promotion.approved", actor, request, payload, signature_ref=merged)
        return self.get(promotion_id)

    def carry_out(self, promotion_id: str, actor: str) -> dict[str, Any]:
        """Decides and, if allowed, signs and promotes. Called again after a crash it goes on; after success it changes nothing.

        Raises:
            PromotionRefused: `rules` says which rules; the stage is as before. Unavailable: retry. StageChanged.
        """
        promotion = self.get(promotion_id)
        if promotion["state"] == REQUESTED:
            # 1. Decision and VSA. The decision's event is in the log before this goes on. A crash leaves a decision
            #    without an effect; a repeated call decides anew.
            promotion = self._decide(promotion, actor)
        if promotion["state"] == DECIDED:
            try:
                # 2. Manifest, signatures. A crash leaves signatures in the proxy's record; a repeated call gets the same ones.
                manifest, envelope, bundle = self._sign(promotion, actor)
                # 3. Stage, manifest row and event in one transaction. Before it nothing is promoted, after it everything.
                event = self._complete(promotion, manifest, envelope, bundle, actor)
            except (Refused, StageChanged, *UNREADABLE) as error:
                # What was decided on does not hold any more. A crash here leaves it decided: the next call comes here again.
                self._withdraw(promotion, error, actor)
            # 4. The promotion counts when its event is in the log; a crash before this line is mended by the relay.
            self.events.wait_for([event])
        return self.get(promotion_id)

    def unfinished(self) -> list[str]:
        """Promotions that were allowed and not completed, oldest first: what a start of the API carries on with."""
        table = tables.promotions
        query = select(table.c.id).where(table.c.state == DECIDED).order_by(table.c.requested_at)
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def get(self, promotion_id: str) -> dict[str, Any]:
        """The record, with its manifest once there is one. Raises UnknownPromotion."""
        table, manifests = tables.promotions, tables.manifests
        with self.engine.connect() as connection:
            row = connection.execute(select(table).where(table.c.id == promotion_id)).mappings().first()
            query = select(manifests).where(manifests.c.promotion == promotion_id)
            manifest = connection.execute(query).mappings().first()
        if row is None:
            raise UnknownPromotion(f"no promotion {promotion_id[:100]!r}: `ai-infra promotion list` shows those there are")
        return dict(row) | {"manifest": dict(manifest) if manifest else None}

    def approvals(self, promotion_id: str) -> dict[str, Any]:
        """{"approvedBy": SPIFFE URIs of those who count by now, "needed": k of n}."""
        envelope = dsse.parse(self.envelope(promotion_id))
        request = expect(PromotionRequest, envelope.payload)
        trust = self.trust()
        approvers = quorum.count(envelope, trust, request.requester)
        needed = trust.required_approvals(request.risk_class, request.to_stage)
        return {"approvedBy": [approver.person for approver in approvers], "needed": needed}

    def all(self) -> list[dict[str, Any]]:
        """Every promotion, oldest first."""
        with self.engine.connect() as connection:
            query = select(tables.promotions).order_by(tables.promotions.c.requested_at)
            return [dict(row) for row in connection.execute(query).mappings()]

    def envelope(self, promotion_id: str) -> bytes:
        """The request with the signatures that it has so far: what an approver signs."""
        return self.store.get(self.get(promotion_id)["envelope"])

    def evidence(self, envelope: bytes, request: PromotionRequest) -> Evidence:
        """What the decision is made from, read now: version and flags from the log, bytes from the store.

        Raises:
            NotFound, CorruptObject, BadInput: something of it is not there, or not what its name says.
        """
        row = self.models.get(request.model, request.number)
        version, flags = told.version(self.log, request.model, request.number)
        approvals = [self.datasets.approvals(dataset)["envelopes"] for dataset in version.datasets]
        return Evidence(
            request=envelope,
            version=version.to_json(),
            files=self.artifacts.recomputed(version.artifact_id),
            artifact_signature=None if version.signature is None else self.store.get(version.signature),
            evaluation=self.models.evaluation_envelope(request.evaluation),
            provenance=self.store.get(row["provenance"]),
            datasets={dataset: self.store.get(dataset) for dataset in version.datasets},
            dataset_approvals=[self.store.get(item) for group in approvals for item in group],
            flags=flags,
            policy_revision=self.policy.revision(),
        )

    def _decide(self, promotion: dict[str, Any], actor: str) -> dict[str, Any]:
        try:
            envelope, request = self._request_of(promotion)
            facts = promotion_input(self.evidence(envelope, request), self.trust(), now=self.clock() // 1000)
        except UNREADABLE as error:
            self._refuse(actor, promotion, EVIDENCE_RULE, str(error))
        subject = Subject("model", f"{request.model}@{request.number}", request.artifact_id)
        decision = self.policy.decide("promote", facts, subject, actor)
        if decision.verdict != "pass":
            names = ", ".join(rule["rule"] for rule in decision.refusals) or "sentinelnet"
            told = f"{subject.id} to {request.to_stage} is refused by {names} (`ai-infra policy explain {decision.id}`)"
            raise PromotionRefused(told + self._other_evaluation(request, decision), decision.refusals)
        try:
            summary = self.signing.sign_statement("sentinelnet", self._vsa(request, decision, facts), {}, actor)
        except Refused as error:
            self._refuse(actor, promotion, SIGNING_RULE, str(error))
        stored = self.store.put(summary)
        with begin(self.engine) as connection:
            table = tables.promotions
            changed = connection.execute(
                update(table)
                .where((table.c.id == promotion["id"]) & (table.c.state == REQUESTED) & (table.c.envelope == promotion["envelope"]))
                .values(state=DECIDED, decision_id=decision.id, summary=stored)
            )
            if changed.rowcount != 1:
                raise StageChanged("the promotion changed while it was decided on: try again")
        return self.get(promotion["id"])

    def _other_evaluation(self, request: PromotionRequest, decision: Decision) -> str:
        """A line on a request that an evaluation made since cannot help: it names another, or none. Else nothing."""
        if not any(rule["rule"].startswith("promotion.evaluation") for rule in decision.refusals):
            return ""
        reference = f"{request.model}@{request.number}"
        made = [item["payload"] for item in self.models.get(request.model, request.number)["evaluations"]]
        if made[-1:] == [request.evaluation]:
            return ""
        newest = f"the newest of {reference} is {made[-1]}" if made else f"`ai-infra evaluate {reference} --dataset SET` makes one"
        again = f"make a new request, which names it: `ai-infra promotion request {reference} --to {request.to_stage}`"
        return f"\nthe request names {request.evaluation or 'no evaluation'}, {newest}: {again}"

    def _vsa(self, request: PromotionRequest, decision: Decision, facts: dict[str, Any]) -> bytes:
        looked_at = [facts["request"]["digest"], facts["evaluation"]["digest"], facts["provenance"]["digest"]]
        return Vsa(
            model=request.model,
            number=request.number,
            artifact_id=request.artifact_id,
            environment=request.to_stage,
            verifier=self.verifier,
            time_verified=decision.at,
            policy_revision=decision.revision,
            decision_id=decision.id,
            verdict="pass",
            input_digest=decision.input_digest,
            attestations=sorted(looked_at),
        ).to_statement()

    def _sign(self, promotion: dict[str, Any], actor: str) -> tuple[Manifest, bytes, bytes]:
        request_envelope, request = self._request_of(promotion)
        summary = self.store.get(promotion["summary"])
        version = self.models.get(request.model, request.number)
        files = self.artifacts.files(request.artifact_id)
        assert request.evaluation is not None, "the rule promotion.evaluation-present let a request without one pass"
        manifest = Manifest(
            model=request.model,
            number=request.number,
            environment=request.to_stage,
            artifact_id=request.artifact_id,
            oms_subject=oms.subject_digest(files),
            request=promotion["request"],
            decision=dsse.payload_digest(dsse.parse(summary)),
            evaluation=request.evaluation,
            provenance=dsse.payload_digest(dsse.parse(self.store.get(version["provenance"]))),
        )
        evidence = {"request": request_envelope, "decision": summary}
        envelope = self.signing.sign_statement("manifest", manifest.to_statement(), evidence, actor)
        bundle = self.signing.sign_model("manifest", oms.statement(files, name=request.model), actor)
        return manifest, envelope, bundle

    def _complete(self, promotion: dict[str, Any], manifest: Manifest, envelope: bytes, bundle: bytes, actor: str) -> str:
        _, request = self._request_of(promotion)
        payload_digest = sha256(manifest.to_statement())
        stored_envelope, stored_bundle = self.store.put(envelope), self.store.put(bundle)
        with begin(self.engine) as connection:
            self._require_unchanged(connection, promotion, request)
            versions = tables.model_versions
            connection.execute(
                update(versions)
                .where((versions.c.model == request.model) & (versions.c.number == request.number))
                .values(stage=request.to_stage)
            )
            connection.execute(
                insert(tables.manifests).values(
                    payload=payload_digest,
                    envelope=stored_envelope,
                    bundle=stored_bundle,
                    model=request.model,
                    number=request.number,
                    environment=request.to_stage,
                    promotion=promotion["id"],
                )
            )
            connection.execute(update(tables.promotions).where(tables.promotions.c.id == promotion["id"]).values(state=COMPLETED))
            facts = {
                "promotion": promotion["id"],
                "decision": promotion["decision_id"],
                "from": request.from_stage,
                "to": request.to_stage,
                "bundle": stored_bundle,
            }
            return self._emit(
                connection, "promotion.completed", actor, request, facts, manifest_ref=payload_digest, signature_ref=stored_envelope
            )

    def _request_of(self, promotion: dict[str, Any]) -> tuple[bytes, PromotionRequest]:
        """The stored envelope and what it asks for. Raises as `evidence`."""
        data = self.store.get(promotion["envelope"])
        envelope = dsse.parse(data)
        request = expect(PromotionRequest, envelope.payload)
        asked = (dsse.payload_digest(envelope), request.model, request.number, request.to_stage)
        if asked != (promotion["request"], promotion["model"], promotion["number"], promotion["to_stage"]):
            raise BadInput(f"promotion {promotion['id']} holds the envelope of another request")
        return data, request

    def _require_unchanged(self, connection: Connection, promotion: dict[str, Any], request: PromotionRequest) -> None:
        """What the decision was made on still holds, in the transaction that gives it its effect."""
        state = connection.execute(select(tables.promotions.c.state).where(tables.promotions.c.id == promotion["id"])).scalar()
        versions = tables.model_versions
        stage = connection.execute(
            select(versions.c.stage).where((versions.c.model == request.model) & (versions.c.number == request.number))
        ).scalar()
        if state != DECIDED or stage != request.from_stage:
            raise StageChanged(f"{request.model}@{request.number} is in {stage} now: another promotion came first")
        version = self.models.get(request.model, request.number)
        if self.flags.on(connection, self.models.targets(version)):
            raise PromotionRefused(
                f"{request.model}@{request.number} was flagged after the decision",
                [_deny("promotion.safety-flag", "flagged after the decision")],
            )
        if self.policy.revision(connection) != request.policy_revision:
            reason = "the request was made under another policy revision"
            raise PromotionRefused("other policies became active after the decision", [_deny("promotion.request", reason)])
        if self.clock() // 1000 > request.expires_at:
            raise PromotionRefused("the request expired", [_deny("promotion.request", "expired")])

    def _withdraw(self, promotion: dict[str, Any], error: AiInfraError, actor: str) -> NoReturn:
        """Takes a decision back that can have no effect; the refusal is a policyCheck event. A completed promotion stays."""
        rules = _rules_of(error)
        table = tables.promotions
        with begin(self.engine) as connection:
            decided = (table.c.id == promotion["id"]) & (table.c.state == DECIDED)
            changed = connection.execute(update(table).where(decided).values(state=REQUESTED, decision_id=None, summary=None))
            if changed.rowcount == 1:
                self._emit_refusal(connection, actor, promotion, rules)
        if isinstance(error, StageChanged | PromotionRefused):
            raise error
        raise PromotionRefused(str(error), rules) from error

    def _require_below(self, version: dict[str, Any], stage: str) -> None:
        """Raises AlreadyPromoted."""
        stages, now = self.trust().environments, version["stage"]
        if now in stages and stage in stages[: stages.index(now) + 1]:
            raise AlreadyPromoted(f"{version['model']}@{version['number']} is in {now} already: no promotion leads to {stage}")

    def _require_own_signatures(self, envelope: dsse.Envelope, actor: str, rule: str) -> dict[str, Signature]:
        """As `_signatures_of`; at least one."""
        own = self._signatures_of(envelope, actor)
        if not own:
            request = expect(PromotionRequest, envelope.payload)
            about = {"model": request.model, "number": request.number, "request": dsse.payload_digest(envelope)}
            self._refuse(actor, about, rule, f"no signature over these bytes by a key that trust knows as {actor}'s")
        return own

    def _signatures_of(self, envelope: dsse.Envelope, actor: str) -> dict[str, Signature]:
        """Signer id → the caller's own signature in the envelope: others in it are not taken over."""
        trust = self.trust()
        person = next((p for p in trust.people if p.person == actor), None)
        keys = {} if person is None else {s: k for s, k in person.public_keys.items() if trust.valid(s)}
        found: dict[str, Signature] = {}
        for signature in envelope.signatures:
            alone = dsse.Envelope(envelope.payload_type, envelope.payload, (signature,))
            for signer in dsse.verified_signers(alone, keys):
                found.setdefault(signer, signature)
        return found

    def _refuse(self, actor: str, about: Mapping[str, Any], rule: str, reason: str) -> NoReturn:
        """Records the refusal as a policyCheck event, then raises it. about: the promotion, or its model, number and request."""
        rules = [_deny(rule, reason)]
        with begin(self.engine) as connection:
            self._emit_refusal(connection, actor, about, rules)
        raise PromotionRefused(f"{about['model']}@{about['number']}: {reason}", rules)

    def _emit_refusal(self, connection: Connection, actor: str, about: Mapping[str, Any], rules: list[dict[str, Any]]) -> None:
        payload = {"action": "promote", "verdict": "deny", "rules": rules, "request": about["request"]}
        subject = Subject("model", f"{about['model']}@{about['number']}")
        self.events.emit(connection, EventDraft("policyCheck", actor, subject, payload))

    def _emit(
        self, connection: Connection, kind: str, actor: str, request: PromotionRequest, payload: dict[str, Any], **refs: str
    ) -> str:
        subject = Subject("model", f"{request.model}@{request.number}", request.artifact_id)
        return self.events.emit(connection, EventDraft(kind, actor, subject, payload, **refs))


def _deny(rule: str, reason: str) -> dict[str, Any]:
    return {"rule": rule, "verdict": "deny", "reasons": [reason]}


def _rules_of(error: AiInfraError) -> list[dict[str, Any]]:
    """The rules that an error names; for a check outside the policies, the name that stands for it."""
    if isinstance(error, PromotionRefused):
        return error.rules
    if isinstance(error, StageChanged):
        return [_deny("promotion.request", str(error))]
    return [_deny(SIGNING_RULE if isinstance(error, Refused) else EVIDENCE_RULE, str(error))]
