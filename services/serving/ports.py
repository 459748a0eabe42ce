"""What serving needs from outside: the registry, SentinelNet, labelled probes, and the backend that runs deployments."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

from services.core.events import EventDraft, Subject
from services.serving.canary import Counts
from services.serving.domain import DeploymentHealth, Golden, Pair, Probe, Reference, Servable


class Versions(Protocol):
    """The registry, as serving sees it."""

    def servable(self, model: str, number: int, environment: str) -> Servable:
        """The version with its manifest for this environment.

        Raises:
            NotFound: no such version. Refused: it has no manifest for this environment (promote it first).
        """

    def deploy_input(self, model: str, number: int, environment: str) -> dict[str, Any]:
        """The facts of a decision on the action `deploy`; see policies/rego/serving. A missing manifest is null there."""

    def flags(self, model: str, number: int) -> list[str]:
        """Reasons of the active safety flags on the version, its artifact and its ancestors; empty when there are none."""


class Decision(Protocol):
    """The part of SentinelNet's answer that serving looks at."""

    @property
    def id(self) -> str: ...

    @property
    def verdict(self) -> str: ...

    @property
    def rules(self) -> list[dict[str, Any]]: ...


class Policy(Protocol):
    """SentinelNet."""

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        """The decision, durable before this returns. Raises Unavailable: nothing may be done; retry."""


class Events(Protocol):
    """The platform database's outbox."""

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        """Writes the event in the caller's transaction and answers its id."""


class GoldenProbes(Protocol):
    """Labelled inputs from the data sets."""

    def probes(self, golden: Golden) -> list[Probe]:
        """In the order of the split, ids unique. Raises NotFound, BadInput (no such split, no labels), Unavailable."""


class ServingBackend(Protocol):
    """Runs the deployments of the desired state and carries their traffic.

    Every method raises Unavailable when the backend does not answer; retry.
    """

    @property
    def mirrors(self) -> bool:
        """Whether it can send stable's requests to the canary too."""

    def follow(self, desired: Callable[[], dict[str, Any]]) -> None:
        """Brings the desired state about; called again and again, by one thread. A backend that asks the API for that state by
        itself does nothing. desired: `Serving.desired`."""

    def close(self) -> None:
        """Ends its connections; what it runs goes on."""

    def health(self, deployment: str) -> DeploymentHealth:
        """Of one deployment; nothing ready when the backend has not heard of it yet."""

    def reference(self, deployment: str) -> Reference:
        """Latencies of the deployment's latest answered requests, at most 2,000, warm-up of each replica left out."""

    def counts(self, rollout: str) -> Counts:
        """Phases and mirrored requests of a rollout since its start; the pairs are the controller's. Never shrinks but by records
        that a killed backend lost."""

    def answer(self, rollout: str, probes: Sequence[Probe]) -> list[Pair]:
        """Both versions' answers to each probe. They are no events of the rollout's errors and latency.

        Raises Unavailable also if one version did not answer: that is one event, where each probe counts for itself.
        """

    def prediction(self, prediction: str) -> dict[str, Any]:
        """A prediction's record, and its place and proof in its sealed batch; see router.records. Raises NotFound."""
