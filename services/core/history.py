"""State of models, data sets and flags, replayed from the events of the audit log.

The platform answers the same questions from its database; the offline verifier from the log. `audit reconcile` compares that
database with the log.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Version:
    """A model version as its events tell it. datasets: all that it descends from; parents: `name@number`, the direct ones."""

    model: str
    number: int
    artifact_id: str
    run_key: str
    risk_class: str
    signature: str | None
    datasets: list[str]
    parents: list[str]
    stage: str = "dev"

    def to_json(self) -> dict[str, Any]:
        """The `version` part of a decision's input."""
        return {
            "model": self.model,
            "number": self.number,
            "artifactId": self.artifact_id,
            "runKey": self.run_key,
            "riskClass": self.risk_class,
            "stage": self.stage,
        }


@dataclass
class History:
    """Feed it events in log order; unknown types change nothing."""

    versions: dict[str, Version] = field(default_factory=dict)
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)
    dataset_approvals: dict[str, list[str]] = field(default_factory=dict)
    policy_revision: str | None = None
    policy_envelope: str | None = None
    completed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def replay(self, events: Iterable[dict[str, Any]]) -> "History":
        for event in events:
            self.apply(event)
        return self

    def apply(self, event: dict[str, Any]) -> None:
        """One event. Events of a type that this knows have the payload that the platform writes."""
        change = _CHANGES.get(event["type"])
        if change is not None:
            change(self, event)

    def flags_on(self, version: Version) -> list[dict[str, Any]]:
        """Active flags on the version or a version that it was made from, on their artifacts and data sets, sorted by id."""
        targets = {("dataset", dataset) for dataset in version.datasets}
        for item in self.descent(version):
            targets |= {("model", f"{item.model}@{item.number}"), ("artifact", item.artifact_id)}
        return sorted(
            (flag for flag in self.flags.values() if (flag["kind"], flag["target"]) in targets), key=lambda flag: flag["id"]
        )

    def descent(self, version: Version) -> list[Version]:
        """The version, and all those that it was made from."""
        found, waiting = {f"{version.model}@{version.number}": version}, [version]
        while waiting:
            for reference in waiting.pop().parents:
                if reference not in found:
                    found[reference] = self.versions[reference]
                    waiting.append(found[reference])
        return list(found.values())


def _registered(history: History, event: dict[str, Any]) -> None:
    payload = event["payload"]
    history.versions[event["subject"]["id"]] = Version(
        payload["model"],
        payload["number"],
        payload["artifactId"],
        payload["runKey"],
        payload["riskClass"],
        payload["signature"],
        payload["ancestors"],
        payload["parents"],
    )


def _promoted(history: History, event: dict[str, Any]) -> None:
    history.versions[event["subject"]["id"]].stage = event["payload"]["to"]
    history.completed[event["manifestRef"]] = event


def _flagged(history: History, event: dict[str, Any]) -> None:
    payload = event["payload"]
    history.flags[payload["flag"]] = {
        "id": payload["flag"],
        "kind": payload["kind"],
        "target": payload["target"],
        "reason": payload["reason"],
        "since": payload["since"],
    }


def _lifted(history: History, event: dict[str, Any]) -> None:
    history.flags.pop(event["payload"]["flag"], None)


def _approved(history: History, event: dict[str, Any]) -> None:
    history.dataset_approvals.setdefault(event["subject"]["id"], []).append(event["payload"]["approval"])


def _published(history: History, event: dict[str, Any]) -> None:
    history.policy_revision = event["subject"]["digest"]
    history.policy_envelope = event["payload"]["envelope"]


_CHANGES = {
    "model.registered": _registered,
    "promotion.completed": _promoted,
    "quarantine.set": _flagged,
    "quarantine.lifted": _lifted,
    "dataset.approved": _approved,
    "policy.published": _published,
}
