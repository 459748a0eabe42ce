"""Brings deployments in line with safety flags: the one path by which traffic is stopped and resumed for safety."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.core.rounds import each
from services.core.tls import service_id
from services.registry.evidence import Evidences
from services.registry.models import Models
from services.serving.domain import QUARANTINED, SERVING
from services.serving.service import Serving

ACTOR = service_id("api")


@dataclass(frozen=True)
class Quarantine:
    """Runs after each change of a flag, and again and again: a crash between flag and stop is mended by the next round."""

    models: Models
    evidences: Evidences
    serving: Serving

    def enforce(self) -> None:
        """Stops deployments of flagged versions; then serves those again whose last flag was lifted. One that fails stops no other.

        Raises:
            AiInfraError: the first failure; the next round tries again.
        """
        found = self.serving.all()
        # Stops come first: what cannot be resumed now keeps nothing flagged in service.
        each("deployment", [item for state in (SERVING, QUARANTINED) for item in found if item["state"] == state], self._look)

    def _look(self, deployment: Mapping[str, Any]) -> None:
        flags = self.evidences.flags(self.models.get(deployment["model"], deployment["number"]))
        if flags and deployment["state"] == SERVING:
            reason = f"{flags[0]['kind']} {flags[0]['target']}: {flags[0]['reason']}"
            self.serving.quarantine([deployment["id"]], reason[:2000], ACTOR)
        elif not flags and deployment["state"] == QUARANTINED:
            self.serving.lift([deployment["id"]], ACTOR)
