"""Serving as the API process has it, on the backend `kserve`, over a real API server. Prometheus and KServe are stand-ins."""

import itertools
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import MetaData

from services.core.database import open_engine
from services.core.digests import FileEntry, sha256
from services.core.errors import AiInfraError, Unavailable
from services.core.kube import Access, Kube, Object, Resource
from services.core.outbox import Outbox, outbox_table
from services.core.tls import service_id
from services.serving import admission, inference, tables
from services.serving.backends.kserve import KServeBackend
from services.serving.cluster import MANAGER
from services.serving.domain import DeploymentSpec, Probe, RolloutSpec, Servable
from services.serving.gateway import POLICIES, predictor_services
from services.serving.inference import SERVICES, Place
from services.serving.prometheus import Metrics
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from tests.fakes.prometheus import PrometheusStandIn
from tests.fakes.serving import AllowAll, ListedProbes, StoredVersions
from tests.serving import wait_for

NAMESPACES = Resource("", "v1", "namespaces")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
NUMBERS = itertools.count()
ACTOR = "spiffe://ai-infra.local/person/dario"
PROBES = [Probe(f"golden:{n}", (float(n),), str(n % 10)) for n in range(300)]
SETTLE_S = 60.0


def servable(number: int) -> Servable:
    return Servable(
        model="digits", number=number, environment="staging", artifact_id=sha256(f"artifact {number}".encode()),
        files=(FileEntry("config.json", 1, sha256(b"x")),), manifest=sha256(f"manifest {number}".encode()),
        manifest_ref=sha256(b"ref"), bundle=sha256(f"bundle {number}".encode()),
    )  # fmt: skip


@dataclass
class Rig:
    """root: holds the database, which outlives the rig; place: namespaces of its own; port: of predictors that answer probes."""

    root: Path
    access: Access
    place: Place
    now: int = 1_700_000_000_000
    prometheus: PrometheusStandIn = field(default_factory=PrometheusStandIn)
    predictors: httpx.Client = field(default_factory=httpx.Client)
    transport: httpx.BaseTransport | None = None

    def __post_init__(self) -> None:
        own = MetaData()
        outbox = outbox_table(own)
        engine = open_engine(f"sqlite:///{self.root / 'platform.db'}")
        own.create_all(engine)
        for table in (tables.deployments, tables.routes, tables.rollouts, tables.rollout_pairs):
            table.create(engine, checkfirst=True)
        clock = lambda: self.now  # noqa: E731
        metrics = Metrics(self.prometheus.client(), SETTLE_S)
        self.backend = KServeBackend(
            lambda: Kube(self.access, MANAGER, self.transport), self.place, "staging", metrics, self.predictors, clock
        )
        self.versions = StoredVersions({("digits", n): servable(n) for n in (1, 2, 3)})
        events = Outbox(outbox, service_id("api"), clock)
        self.serving = Serving(engine, events, clock, self.versions, AllowAll(), self.backend)
        self.rollouts = Rollouts(self.serving, ListedProbes(PROBES))

    @property
    def namespace(self) -> str:
        return self.place.of("staging")

    def deploy(self, number: int = 1, replicas: int = 1) -> str:
        spec = DeploymentSpec(model="digits", number=number, environment="staging", replicas=replicas)
        found = self.serving.deploy(spec, ACTOR)
        return str(found["id"])

    def roll_out(self, number: int = 2, **more: Any) -> dict[str, Any]:
        values = {
            "model": "digits", "number": number, "environment": "staging", "golden": {"dataset": "d@1"}, "calibrationS": 0,
            "compares": ["errors", "quality"],
        }  # fmt: skip
        return self.rollouts.start(RolloutSpec.from_json(values | more), ACTOR)

    def look(self) -> None:
        """One turn of the loop, as long as it takes to bring about what is desired."""

        def done() -> bool:
            try:
                self.backend.follow(self.serving.desired)
                self.backend.health("any")  # the pods have been listed too
            except Unavailable:
                return False
            return True

        wait_for(done, "the cluster follows")

    def reach(self, rollout: str, state: str) -> None:
        def done() -> bool:
            self.look()
            try:
                self.rollouts.advance(rollout)
            except AiInfraError:
                return False
            return bool(self.rollouts.get(rollout)["state"] == state)

        wait_for(done, f"the rollout is {state}")
        self.look()


def seen(kube: Kube, place: Place) -> dict[str, Any]:
    """What the cluster serves: model → (stable, [(canary, percent)]), and what is on the list."""
    namespace = place.of("staging")
    services = {item["metadata"]["name"]: _served(item) for item in kube.list(SERVICES, namespace)["items"]}
    listed = kube.get(inference.CONFIG_MAPS, inference.ALLOWED, namespace).get("data", {})
    return {"services": services, "listed": sorted(listed)}


def _served(item: Object) -> tuple[str, list[tuple[str, int]]]:
    canaries = item["spec"]["canary"]
    stable = item["spec"]["predictor"]["labels"][inference.DEPLOYMENT]
    return stable, [(found["predictor"]["labels"][inference.DEPLOYMENT], found["trafficPercent"]) for found in canaries]


def reachable(kube: Kube, place: Place) -> list[str]:
    """Services to which the gateway speaks TLS."""
    items = kube.list(POLICIES, place.of("staging"))["items"]
    return sorted(target["name"] for item in items for target in item["spec"]["targetRefs"])


def led_to(kube: Kube, place: Place) -> list[str]:
    """Services to which KServe's routes lead."""
    return sorted(name for service in kube.list(SERVICES, place.of("staging"))["items"] for name in predictor_services(service))


class Killed(BaseException):
    """The process died. No code of ours catches it."""


@dataclass
class Dying(httpx.BaseTransport):
    """Carries requests until the process is killed at the `at`-th write. answered: the server has done it, and nobody heard."""

    context: ssl.SSLContext
    at: int
    answered: bool
    writes: int = 0

    def __post_init__(self) -> None:
        self._real = httpx.HTTPTransport(verify=self.context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method not in ("PATCH", "DELETE"):
            return self._real.handle_request(request)
        self.writes += 1
        if self.writes != self.at:
            return self._real.handle_request(request)
        if self.answered:
            self._real.handle_request(request).read()
        raise Killed

    def close(self) -> None:
        self._real.close()


@dataclass
class Overtaken(httpx.BaseTransport):
    """Carries requests; somebody else acts just before the server gets the first request to delete one of `plural`."""

    context: ssl.SSLContext
    plural: str
    act: Callable[[], None]
    acted: bool = False

    def __post_init__(self) -> None:
        self._real = httpx.HTTPTransport(verify=self.context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self.acted and request.method == "DELETE" and f"/{self.plural}/" in request.url.path:
            self.acted = True
            self.act()
        return self._real.handle_request(request)

    def close(self) -> None:
        self._real.close()


@dataclass
class Blinking(httpx.BaseTransport):
    """Carries requests; the connection of the first watch breaks as soon as the server took it. watches: how many there were."""

    context: ssl.SSLContext
    watches: int = 0

    def __post_init__(self) -> None:
        self._real = httpx.HTTPTransport(verify=self.context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        if "watch" in request.url.params:
            self.watches += 1
            if self.watches == 1:
                response.close()
                return httpx.Response(response.status_code, stream=Broken())
        return response

    def close(self) -> None:
        self._real.close()


class Broken(httpx.SyncByteStream):
    """A body that never comes."""

    def __iter__(self) -> Iterator[bytes]:
        raise httpx.ReadError("connection reset by peer")


@contextmanager
def open_rig(root: Path, access: Access, place: Place, **more: Any) -> Iterator[Rig]:
    rig = Rig(root, access, place, **more)
    try:
        yield rig
    finally:
        rig.backend.close()


def probing(right: Callable[[str], bool]) -> httpx.Client:
    """A client whose predictors answer a probe's label, or another one. right: by path of the request."""

    def answer(request: httpx.Request) -> httpx.Response:
        rows = json.loads(request.content)["inputs"][0]["data"]
        labels = [str(int(value) % 10) if right(request.url.path) else "?" for value in rows]
        return httpx.Response(200, json={"outputs": [{"name": "label", "data": labels}]})

    return httpx.Client(transport=httpx.MockTransport(answer))


def new_place(kube: Kube) -> Place:
    """Namespaces of a test's own."""
    place = Place(namespace=f"models{next(NUMBERS)}")
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.of("staging")}})
    return place


def grant(kube: Kube, place: Place) -> None:
    """The backend's role in the place's namespace, to the user of the SERVING token."""
    role = admission.role()
    name, group = role["metadata"]["name"], "rbac.authorization.k8s.io"
    kube.apply(admission.CLUSTER_ROLES, role)
    bound = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": place.of("staging")},
        "subjects": [{"kind": "User", "name": "serving", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
    }
    kube.apply(BINDINGS, bound)


def traffic(rig: Rig, stable: str, canary: str, weight: float, failing: int = 0) -> None:
    """Half an hour ago each arm's counters had risen; requests: 3,000 by weight, `failing` of the canary's failed."""
    at_s = rig.now / 1000 - 1800
    name = "ai_infra_predictions_total"
    for deployment, share, failed in ((stable, 1 - weight, 0), (canary, weight, failing)):
        before = [
            value for series, labels, _, value in rig.prometheus.samples
            if (series, labels["deployment"], labels["outcome"]) == (name, deployment, "ok")
        ]  # fmt: skip
        labels = {"deployment": deployment, "process": "p"}
        total = max(before, default=0.0) + 3000 * share - failed
        rig.prometheus.samples.append((name, labels | {"outcome": "ok"}, at_s, total))
        rig.prometheus.samples.append((name, labels | {"outcome": "error"}, at_s, float(failed)))
