"""Promotion: request, approvals, decision, manifest, signature, stage, in this order; every step can be repeated.

What a crash leaves behind is said at each write. `carry_out` is both the normal way and the recovery: it goes on from the last
step that was recorded.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from services.core import dsse, oms, quorum
from services.core.canonical import canonical
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import Refused
from services.core.events import EventDraft, Subject
from services.core.facts import Evidence, promotion_input
from services.core.ids import new_id
from services.core.keys import Signature
from services.core.objects import ObjectStore
from services.core.statements import Manifest, PromotionRequest, Vsa, expect
from services.core.trustfile import TrustNow
from services.registry import tables
from services.registry.artifacts import Artifacts
from services.registry.datasets import Datasets
from services.registry.errors import PromotionRefused, StageChanged, UnknownPromotion
from services.registry.flags import Flags
from services.registry.models import Models
from services.registry.ports import Decision, Events, Policy, Signing

REQUESTED, DECIDED, COMPLETED = "requested", "decided", "completed"


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
    verifier: str

    def request(self, envelope_bytes: bytes, actor: str) -> dict[str, Any]:
        """Records a signed request. The same request again answers the promotion that is there.

        Raises:
            Refused: the caller did not sign it with a key that trust knows as the caller's. UnknownModel. BadInput.
        """
        envelope = dsse.parse(envelope_bytes)
        request = expect(PromotionRequest, envelope.payload)
        self.models.get(request.model, request.number)
        self._require_own_signature(envelope, actor, "promotion.request")
        digest = sha256(envelope.payload)
        # 1. Store the envelope. A crash here leaves an object that no row names: harmless.
        stored = self.store.put(envelope.to_bytes())
        # 2. Row and event in one transaction.
        with begin(self.engine) as connection:
            table = tables.promotions
            found = connection.execute(select(table.c.id).where(table.c.request == digest)).scalar()
            if found is None:
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
            self._refuse(actor, request, "promotion.quorum", "the approval is of another request: sign the bytes of this one")
        self._require_own_signature(given, actor, "promotion.quorum")
        # A key that signed already adds nothing: ECDSA makes another signature each time, and an envelope takes 64.
        known = self._signatures_of(held, actor)
        new = tuple(sig for signer, sig in self._signatures_of(given, actor).items() if signer not in known)
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
            # 2. Manifest, signatures. A crash leaves signatures in the proxy's record; a repeated call gets the same ones.
            manifest, envelope, bundle = self._sign(promotion, actor)
            # 3. Stage, manifest row and event in one transaction. Before it nothing is promoted, after it everything.
            try:
                event = self._complete(promotion, manifest, envelope, bundle, actor)
            except (PromotionRefused, StageChanged) as error:
                # What was decided on does not hold any more. A crash here leaves it decided: the next call comes here again.
                self._withdraw(promotion, error, actor)
                raise
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
            raise UnknownPromotion(f"no promotion {promotion_id!r}")
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

    def evidence(self, envelope: bytes, request: PromotionRequest, connection: Connection) -> Evidence:
        """What the decision is made from, read from the store and the database now."""
        version = self.models.get(request.model, request.number)
        approvals = [self.datasets.approvals(dataset)["envelopes"] for dataset in version["ancestors"]]
        artifact = version["artifact_id"]
        return Evidence(
            request=envelope,
            version=_version_fact(version),
            files=self.artifacts.recomputed(artifact),
            artifact_signature=None if version["signature"] is None else self.store.get(version["signature"]),
            evaluation=self.models.evaluation_envelope(request.evaluation),
            provenance=self.store.get(version["provenance"]),
            datasets={dataset: self.store.get(dataset) for dataset in version["ancestors"]},
            dataset_approvals=[self.store.get(item) for group in approvals for item in group],
            flags=self.flags.on(connection, request.model, request.number, artifact, version["ancestors"]),
            policy_revision=self.policy.revision(),
        )

    def _decide(self, promotion: dict[str, Any], actor: str) -> dict[str, Any]:
        envelope = self.store.get(promotion["envelope"])
        request = expect(PromotionRequest, dsse.parse(envelope).payload)
        with self.engine.connect() as connection:
            evidence = self.evidence(envelope, request, connection)
        facts = promotion_input(evidence, self.trust(), now=self.clock() // 1000)
        subject = Subject("model", f"{request.model}@{request.number}", request.artifact_id)
        decision = self.policy.decide("promote", facts, subject, actor)
        if decision.verdict != "pass":
            names = ", ".join(rule["rule"] for rule in decision.refusals) or "sentinelnet"
            raise PromotionRefused(f"{subject.id} to {request.to_stage} is refused by {names}", decision.refusals)
        summary = self.signing.sign_statement("sentinelnet", self._vsa(request, decision, facts), {}, actor)
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
        request_envelope = self.store.get(promotion["envelope"])
        summary = self.store.get(promotion["summary"])
        request = expect(PromotionRequest, dsse.parse(request_envelope).payload)
        version = self.models.get(request.model, request.number)
        files = self.artifacts.files(version["artifact_id"])
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
        request = expect(PromotionRequest, dsse.parse(self.store.get(promotion["envelope"])).payload)
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
        if self.flags.on(connection, request.model, request.number, request.artifact_id, version["ancestors"]):
            raise PromotionRefused(
                f"{request.model}@{request.number} was flagged after the decision",
                [_deny("promotion.safety-flag", "flagged after the decision")],
            )
        if self.policy.revision() != request.policy_revision:
            reason = "the request was made under another policy revision"
            raise PromotionRefused("other policies became active after the decision", [_deny("promotion.request", reason)])
        if self.clock() // 1000 > request.expires_at:
            raise PromotionRefused("the request expired", [_deny("promotion.request", "expired")])

    def _withdraw(self, promotion: dict[str, Any], error: PromotionRefused | StageChanged, actor: str) -> None:
        """Takes a decision back that can have no effect; the refusal is a policyCheck event. A completed promotion stays."""
        request = expect(PromotionRequest, dsse.parse(self.store.get(promotion["envelope"])).payload)
        rules = error.rules if isinstance(error, PromotionRefused) else [_deny("promotion.request", str(error))]
        table = tables.promotions
        with begin(self.engine) as connection:
            decided = (table.c.id == promotion["id"]) & (table.c.state == DECIDED)
            changed = connection.execute(update(table).where(decided).values(state=REQUESTED, decision_id=None, summary=None))
            if changed.rowcount == 1:
                self._emit_refusal(connection, actor, request, rules)

    def _require_own_signature(self, envelope: dsse.Envelope, actor: str, rule: str) -> None:
        if not self._signatures_of(envelope, actor):
            request = expect(PromotionRequest, envelope.payload)
            self._refuse(actor, request, rule, f"no signature over these bytes by a key that trust knows as {actor}'s")

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

    def _refuse(self, actor: str, request: PromotionRequest, rule: str, reason: str) -> None:
        """Records the refusal as a policyCheck event, then raises it."""
        rules = [_deny(rule, reason)]
        with begin(self.engine) as connection:
            self._emit_refusal(connection, actor, request, rules)
        raise Refused(f"{request.model}@{request.number}: {reason}", rules)

    def _emit_refusal(
        self, connection: Connection, actor: str, request: PromotionRequest, rules: list[dict[str, Any]]
    ) -> None:
        payload = {"action": "promote", "verdict": "deny", "rules": rules, "input": sha256(canonical(request.to_json()))}
        self._emit(connection, "policyCheck", actor, request, payload)

    def _emit(
        self, connection: Connection, kind: str, actor: str, request: PromotionRequest, payload: dict[str, Any], **refs: str
    ) -> str:
        subject = Subject("model", f"{request.model}@{request.number}", request.artifact_id)
        return self.events.emit(connection, EventDraft(kind, actor, subject, payload, **refs))


def _deny(rule: str, reason: str) -> dict[str, Any]:
    return {"rule": rule, "verdict": "deny", "reasons": [reason]}


def _version_fact(version: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": version["model"],
        "number": version["number"],
        "artifactId": version["artifact_id"],
        "runKey": version["run_key"],
        "riskClass": version["risk_class"],
        "stage": version["stage"],
    }
