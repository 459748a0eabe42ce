"""Serving's ports over values in memory."""

from dataclasses import dataclass, field
from typing import Any

from services.core.errors import NotFound
from services.core.events import Subject
from services.serving.domain import Golden, Probe, Servable


@dataclass
class StoredVersions:
    """Versions by (model, number); flagged: reasons of active flags, by (model, number)."""

    found: dict[tuple[str, int], Servable]
    flagged: dict[tuple[str, int], list[str]] = field(default_factory=dict)

    def servable(self, model: str, number: int, environment: str) -> Servable:
        if (model, number) not in self.found:
            raise NotFound(f"no model version {model}@{number}")
        return self.found[model, number]

    def deploy_input(self, model: str, number: int, environment: str) -> dict[str, Any]:
        servable = self.servable(model, number, environment)
        return {"action": "deploy", "environment": environment, "version": {"artifactId": servable.artifact_id}}

    def flags(self, model: str, number: int) -> list[str]:
        return list(self.flagged.get((model, number), []))


@dataclass
class Answer:
    """A decision. rules: the reports."""

    id: str = "dec-1"
    verdict: str = "pass"
    rules: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class AllowAll:
    """SentinelNet with one answer for everything; asked: (action, subject, actor)."""

    answer: Answer = field(default_factory=Answer)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Answer:
        self.asked.append((action, subject.id, actor))
        return self.answer


@dataclass(frozen=True)
class ListedProbes:
    """The same probes for every data set."""

    listed: list[Probe]

    def probes(self, golden: Golden) -> list[Probe]:
        return self.listed[: golden.limit]
