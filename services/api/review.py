"""Decides on live deployments again when another policy bundle became active; what no longer passes is flagged.

The flag is set by the same call as `quarantine set`, so `Quarantine` stops the traffic and a signed clearance lifts it.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

from services.core.events import Subject
from services.core.rounds import each
from services.core.tls import service_id
from services.registry.flags import FlagOrder, Flags
from services.sentinelnet.domain import Decision, Published
from services.sentinelnet.service import SentinelNet
from services.serving.domain import SERVING
from services.serving.ports import Versions
from services.serving.service import Serving

ACTOR = service_id("sentinelnet")
FLAG_RULE = "serving.quarantine"
MAX_REASON = 1500


@dataclass(frozen=True)
class Review:
    """Runs at each publication, at each start and again and again.

    What is done is read from the records, so a crash anywhere is mended by the next round:

    1. The bundle is published. A crash after it leaves deployments without a decision under it: they are decided on.
    2. A decision on the deployment, in the log. A crash after it leaves a refusal that no flag names: the flag is set.
    3. The flag. Its reason names the decision, so it is set once; lifted by a clearance, it stays lifted.
    """

    sentinelnet: SentinelNet
    serving: Serving
    versions: Versions
    flags: Flags
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: set[tuple[int, str]] = field(default_factory=set)

    def run(self) -> list[dict[str, Any]]:
        """Deployments that were flagged now: {deployment, model, environment, decision, rules, flag}.

        Raises:
            AiInfraError: the first failure, once every other deployment was looked at. The same call goes on from there.
            Unavailable: policies, log or database did not answer.
        """
        with self._lock:
            active = self.sentinelnet.active()
            live = [item for item in self.serving.all() if item["state"] == SERVING]
            due = [item for item in live if (active.version, item["id"]) not in self._done]
            found = each("deployment", due, lambda item: self._look(item, active))
        return [item for item in found if item is not None]

    def _look(self, deployment: dict[str, Any], active: Published) -> dict[str, Any] | None:
        decision = self._decision(deployment, active)
        refused = [report for report in decision.verdict.refusals if report["rule"] != FLAG_RULE]
        # A version that is refused for its flags alone needs no further flag: those it has stop it.
        set_now = None if not refused or self.flags.ever(decision.id, ACTOR) else self._flag(deployment, decision, refused)
        self._done.add((active.version, deployment["id"]))
        return set_now

    def _decision(self, deployment: dict[str, Any], active: Published) -> Decision:
        """The newest one under the active bundle: the one that the deployment began with, one of an earlier round, or a new one."""
        known = [self.sentinelnet.get(deployment["decision_id"]), *self.sentinelnet.recent(1, deployment["id"])]
        under = [item for item in known if item.policy_revision == active.revision and item.at >= active.at]
        if under:
            return under[-1]
        model, number, environment = deployment["model"], deployment["number"], deployment["environment"]
        facts = self.versions.deploy_input(model, number, environment)
        subject = Subject("deployment", deployment["id"], deployment["artifact_id"])
        return self.sentinelnet.decide("deploy", facts, subject, ACTOR, logged=True)

    def _flag(self, deployment: dict[str, Any], decision: Decision, refused: list[dict[str, Any]]) -> dict[str, Any]:
        rules = [report["rule"] for report in refused]
        why = "; ".join(f"{report['rule']}: {', '.join(report['reasons'])}" for report in refused)[:MAX_REASON]
        reason = f"no longer passes in {deployment['environment']} (decision {decision.id}): {why}"
        name = f"{deployment['model']}@{deployment['number']}"
        flag = self.flags.set(FlagOrder(kind="model", target=name, reason=reason), ACTOR)
        return {
            "deployment": deployment["id"],
            "model": name,
            "environment": deployment["environment"],
            "decision": decision.id,
            "rules": rules,
            "flag": flag["id"],
        }
