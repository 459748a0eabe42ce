"""Serving's ports over values in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.core.errors import NotFound, Unavailable
from services.core.events import Subject
from services.serving.canary import Counts
from services.serving.domain import DeploymentHealth, Golden, Pair, Probe, Reference, Servable


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


@dataclass
class ScriptedBackend:
    """A serving backend that says what a test sets. right: which probes the canary answers rightly; away: nothing answers; deaf: no
    probe is answered; records: prediction id → what the router says of it; mirrors: whether it can mirror."""

    ready: int = 1
    refused: str = ""
    known: Reference = field(default_factory=Reference)
    seen: Counts = field(default_factory=Counts)
    right: bool = True
    away: bool = False
    deaf: bool = False
    asked: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    mirrors: bool = True

    def follow(self, desired: Callable[[], dict[str, Any]]) -> None:
        self._answer()

    def close(self) -> None:
        self.away = True

    def health(self, deployment: str) -> DeploymentHealth:
        self._answer()
        return DeploymentHealth(ready=self.ready, refused=self.refused)

    def reference(self, deployment: str) -> Reference:
        self._answer()
        return self.known

    def counts(self, rollout: str) -> Counts:
        self._answer()
        return self.seen

    def answer(self, rollout: str, probes: Sequence[Probe]) -> list[Pair]:
        self._answer()
        if self.deaf:
            raise Unavailable("no healthy predictor of the canary")
        self.asked += [probe.id for probe in probes]
        return [Pair(probe.id, probe.label, probe.label if self.right else "?") for probe in probes]

    def prediction(self, prediction: str) -> dict[str, Any]:
        self._answer()
        if prediction not in self.records:
            raise NotFound(f"no prediction {prediction}")
        return self.records[prediction]

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the router is away")
