"""Brings deployments in line with safety flags: the one path by which traffic is stopped and resumed for safety."""

from dataclasses import dataclass

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
        """Stops deployments of flagged versions; serves those again whose last flag was lifted."""
        for deployment in self.serving.all():
            if deployment["state"] not in (SERVING, QUARANTINED):
                continue
            flags = self.evidences.flags(self.models.get(deployment["model"], deployment["number"]))
            if flags and deployment["state"] == SERVING:
                reason = f"{flags[0]['kind']} {flags[0]['target']}: {flags[0]['reason']}"
                self.serving.quarantine([deployment["id"]], reason[:2000], ACTOR)
            elif not flags and deployment["state"] == QUARANTINED:
                self.serving.lift([deployment["id"]], ACTOR)
