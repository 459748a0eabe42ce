"""What serving speaks of: versions that may be served, rollouts and their steps. Pure; no I/O."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from services.core.digests import FileEntry
from services.core.statements import Name, Stage, Strict

Measure = Literal["errors", "latency", "quality"]
Share = Annotated[float, Field(gt=0, lt=1)]

SERVING, QUARANTINED, STOPPED = "serving", "quarantined", "stopped"
STARTING, CALIBRATING, RUNNING, UNDECIDED = "starting", "calibrating", "running", "undecided"
COMPLETED, ROLLED_BACK, ABORTED = "completed", "rolled_back", "aborted"
ACTIVE = (STARTING, CALIBRATING, RUNNING, UNDECIDED)
"""States of a rollout in which the controller still works on it. `undecided` holds its weight and goes on looking."""


class DeploymentSpec(Strict):
    """replicas: predictor processes."""

    model: Name
    number: Annotated[int, Field(ge=1)]
    environment: Stage
    replicas: Annotated[int, Field(ge=1, le=8)] = 1


class Margins(Strict):
    """How large a regression matters, as shares: 0.02 is 2 percentage points.

    errors: of failed requests; latency: of requests over stable's 95th percentile; quality: of accuracy.
    """

    errors: Share = 0.02
    latency: Share = 0.05
    quality: Share = 0.05


class Golden(Strict):
    """Labelled probes: one split of a registered data set (id or name@version). limit: probes taken, from its start;
    at_once: probes in one request to each version."""

    dataset: Annotated[str, Field(max_length=200)]
    split: Annotated[str, Field(max_length=50)] = "test"
    limit: Annotated[int, Field(ge=1, le=100_000)] = 1000
    at_once: Annotated[int, Field(ge=1, le=1000)] = 48


class RolloutSpec(Strict):
    """A move of traffic to another version, and what it is judged by. See docs of `canary` for the test.

    steps: shares of the traffic in percent, rising, the last one 100; compares: the measures; alpha: probability of a false
    rollback; latency_tolerance: slower by up to this factor is no regression; min_, max_requests_per_step: finished requests of
    both arms, before a step may end and after which an uncleared last step is `undecided`; max_step_s: seconds after which any step
    that goes no further is `undecided`, as with too little traffic; warm_up: first answers of the canary
    that are not counted; calibration_requests, calibration_s: stable requests that fix the latency bins, and how long to wait
    for them; golden: labelled probes, answered once by both; mirror: share of stable's requests that the canary answers too,
    unseen by the client: failures are then compared by request, which finds smaller differences.
    """

    model: Name
    number: Annotated[int, Field(ge=1)]
    environment: Stage
    steps: list[Annotated[int, Field(ge=1, le=100)]] = [10, 50, 100]
    compares: list[Measure] = ["errors", "latency", "quality"]
    margins: Margins = Margins()
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    latency_tolerance: Annotated[float, Field(ge=1, le=10)] = 1.25
    min_requests_per_step: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    max_requests_per_step: Annotated[int, Field(ge=1, le=10_000_000)] = 5000
    max_step_s: Annotated[float, Field(gt=0, le=2_592_000)] = 86_400.0
    warm_up: Annotated[int, Field(ge=0, le=10_000)] = 20
    calibration_requests: Annotated[int, Field(ge=0, le=100_000)] = 500
    calibration_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    golden: Golden | None = None
    mirror: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.steps) < 2 or self.steps[-1] != 100 or self.steps != sorted(set(self.steps)):
            raise ValueError("steps: want rising percentages, at least one below 100, and 100 as the last")
        if not self.compares or len(set(self.compares)) != len(self.compares):
            raise ValueError("compares: want one or more of errors, latency, quality, each once")
        if "quality" in self.compares and self.golden is None and self.mirror == 0:
            raise ValueError("quality is compared on golden probes or on mirrored requests: name golden, or a mirror share over 0")
        return self

    @property
    def weights(self) -> list[float]:
        """The steps as probabilities."""
        return [step / 100 for step in self.steps]


@dataclass(frozen=True, kw_only=True)
class Servable:
    """A version with a manifest for one environment. manifest, bundle: object digests of its envelope and OMS bundle;
    manifest_ref: payload digest of the manifest."""

    model: str
    number: int
    environment: str
    artifact_id: str
    files: tuple[FileEntry, ...]
    manifest: str
    manifest_ref: str
    bundle: str

    @property
    def name(self) -> str:
        return f"{self.model}@{self.number}"


@dataclass(frozen=True)
class Probe:
    """One labelled golden input. id: unique in its data set; row: the numbers of one input row."""

    id: str
    row: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class Pair:
    """A probe answered by both, each with a label."""

    probe: str
    stable: str
    canary: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Stable before the rollout. latencies: microseconds; replicas: (latency, replica 0 or 1) where two replicas shared by coin."""

    latencies: tuple[float, ...] = ()
    replicas: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeploymentHealth:
    """What the backend says of one deployment. refused: why its predictors do not load, empty if they do."""

    ready: int = 0
    refused: str = ""
    detail: tuple[dict[str, Any], ...] = ()
