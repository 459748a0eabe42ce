"""What a cluster lacks of what the program makes, and what of it is not as it should be, in the order in which to repair it.

The program's graphs say what must be there: nothing here lists our objects a second time. It reads, and repairs nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol

from infra.graph import Graph, Resource, references
from infra.kubectl import Installed, NoSuchKind, name_of
from infra.kubernetes import PREFIX, RELEASE, UNKNOWN, with_unknowns
from services.core.kube import Object
from services.serving.inference import Place

State = Literal["missing", "differs", "not ready"]
READY: Final[Mapping[str, str]] = {
    "Certificate": "Ready",
    "ClusterIssuer": "Ready",
    "NodePool": "Ready",
    "EC2NodeClass": "Ready",
    "ClusterQueue": "Active",
    "LocalQueue": "Active",
    "GatewayClass": "Accepted",
    "Gateway": "Programmed",
    "InferenceService": "Ready",
}
"""Kind → the condition that is True once it works."""
SERVED: Final[Object] = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
"""Of no layer: the API makes them."""
VAULT: Final = "vault"
"""Its chart."""
VAULT_PODS: Final = "app.kubernetes.io/name=vault,component=server"
REPLICATED: Final[Mapping[str, str]] = {"Deployment": "availableReplicas"}
BY_HAND: Final = "people make it, no layer does: deployment.md, step 8"
SPECIAL: Final = frozenset({"apiVersion", "kind", "metadata", "status"})
RUNBOOKS: Final[Mapping[str, str]] = {
    "NodePool": "runbooks/gpu-pool-pending.md",
    "EC2NodeClass": "runbooks/gpu-pool-pending.md",
    "ClusterQueue": "runbooks/gpu-pool-pending.md",
    "LocalQueue": "runbooks/gpu-pool-pending.md",
    "Deployment": "runbooks/service-down.md",
    "Certificate": "runbooks/certificate-expires.md",
    "InferenceService": "runbooks/predictor-hung.md",
    "Release": "runbooks/deploy-environment.md",
    "Vault": "runbooks/vault-sealed.md",
}


class Cluster(Protocol):
    """What the doctor reads of a cluster; see infra.kubectl."""

    def all_of(self, api_version: str, kind: str, labels: str = "") -> list[Object]: ...

    def releases(self) -> dict[tuple[str, str], Installed]: ...


@dataclass(frozen=True)
class Finding:
    """object: KIND NAMESPACE/NAME; detail: what is wrong; remedy: a command or a runbook."""

    object: str
    state: State
    detail: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine(graphs: Sequence[Graph], cluster: Cluster, seen: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """All that is wrong, what others need first.

    Args:
        graphs: of the layers in the cluster, in their order.
        seen: told of each object before it is looked at.
    Raises:
        Unavailable: the cluster does not answer; retry.
    """
    found: dict[Finding, None] = {}
    here = _Here(cluster)
    for graph in graphs:
        made = {name_of(with_unknowns(item.inputs)) for item in graph.resources if item.type == f"{PREFIX}core/v1:ConfigMap"}
        for item in in_order(graph):
            seen(item.name)
            # Several pods want the same ConfigMap: it is told once, before the first of them.
            found |= dict.fromkeys(_not_given(item, made, here))
            found |= dict.fromkeys(_examined(item, graph, here))
    # Last: a model is served by all that is above.
    for environment in dict.fromkeys(graph.environment for graph in graphs):
        found |= dict.fromkeys(_models(environment, here))
    return list(found)


def in_order(graph: Graph) -> list[Resource]:
    """Kubernetes' own, each after what it waits for or refers to, also through components; else in the order of the graph."""
    children: dict[str, list[str]] = {}
    for item in graph.resources:
        children.setdefault(item.parent or "", []).append(item.urn)
    seen: set[str] = set()
    ordered: list[Resource] = []

    def visit(urn: str) -> None:
        if urn in seen:
            return
        seen.add(urn)
        item = graph.resource(urn)
        for before in _needed(item, graph):
            visit(before)
            for child in children.get(before, []):
                visit(child)
        ordered.append(item)

    for item in graph.resources:
        visit(item.urn)
    return [item for item in ordered if item.custom and item.type.startswith(PREFIX)]


def _needed(item: Resource, graph: Graph) -> Iterator[str]:
    """What a parent waits for its children wait for too."""
    yield from (found.urn for found in references(item.inputs))
    at: Resource | None = item
    while at is not None:
        yield from at.depends_on
        at = graph.resource(at.parent) if at.parent else None


class _Here:
    """The cluster, each kind listed once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kinds: dict[tuple[str, str], dict[tuple[str, str], Object] | None] = {}
        self._releases: dict[tuple[str, str], Installed] | None = None

    def of(self, wanted: Object) -> dict[tuple[str, str], Object] | None:
        """Objects of a kind by name; nothing if the kind is not served."""
        key = (wanted["apiVersion"], wanted["kind"])
        if key not in self._kinds:
            try:
                self._kinds[key] = {name_of(item): item for item in self._cluster.all_of(*key)}
            except NoSuchKind:
                self._kinds[key] = None
        return self._kinds[key]

    def release(self, namespace: str, name: str) -> Installed | None:
        if self._releases is None:
            self._releases = self._cluster.releases()
        return self._releases.get((namespace, name))

    def vault(self, namespace: str) -> list[Object]:
        """Vault's pods. One call for them alone: all pods of a cluster are many."""
        return [pod for pod in self._cluster.all_of("v1", "Pod", VAULT_PODS) if name_of(pod)[0] == namespace]


def _examined(item: Resource, graph: Graph, here: _Here) -> Iterator[Finding]:
    again = f"make up ENV={graph.environment} LAYERS={graph.layer}"
    wanted = with_unknowns(item.inputs)
    if item.type == RELEASE:
        yield from _release(wanted, again, here)
        return
    namespace, name = name_of(wanted)
    title = f"{wanted['kind']} {namespace}/{name}" if namespace else f"{wanted['kind']} {name}"
    served = here.of(wanted)
    if served is None:
        yield Finding(title, "missing", f"the cluster does not know {wanted['apiVersion']}: its chart is not installed", again)
        return
    there = served.get((namespace, name))
    if there is None:
        yield Finding(title, "missing", "it is not there", again)
        return
    if (difference := next(_differences(wanted, there), None)) is not None:
        yield Finding(title, "differs", difference, again)
    if (trouble := _trouble(there)) is not None:
        place = f"--namespace {namespace} " if namespace else ""
        remedy = RUNBOOKS.get(wanted["kind"], f"kubectl {place}describe {wanted['kind'].lower()} {name}")
        yield Finding(title, "not ready", trouble, remedy)


def _release(wanted: Object, again: str, here: _Here) -> Iterator[Finding]:
    """A chart; and behind Vault's its pods, without which no layer after it can go on."""
    namespace, name = wanted["namespace"], wanted["name"]
    title, found = f"Release {namespace}/{name}", here.release(namespace, name)
    if found is None:
        yield Finding(title, "missing", "the chart is not installed", again)
        return
    if found.status != "deployed":
        yield Finding(title, "not ready", f"its last revision is {found.status}", f"helm --namespace {namespace} history {name}")
    # A `v` in front is no difference to Helm either.
    elif found.version.removeprefix("v") != wanted["version"].removeprefix("v"):
        yield Finding(title, "differs", f"its chart is {found.version}, {wanted['version']} is wanted", RUNBOOKS["Release"])
    if wanted["chart"] == VAULT:
        for pod in here.vault(namespace):
            if (trouble := _sealed(pod["metadata"]["labels"])) is not None:
                yield Finding(f"Pod {'/'.join(name_of(pod))}", "not ready", trouble, RUNBOOKS["Vault"])


def _sealed(labels: Mapping[str, str]) -> str | None:
    """What a pod of Vault says of itself. Its probe does not: a sealed one is ready, or the release would never be done."""
    match labels.get("vault-initialized"), labels.get("vault-sealed"):
        case "true", "false":
            return None
        case "false", _:
            return "it is not initialised"
        case _, "true":
            return "it is sealed"
    return "it has not said that it is unsealed"


def _models(environment: str, here: _Here) -> Iterator[Finding]:
    for (namespace, name), service in sorted((here.of(SERVED) or {}).items()):
        if namespace == Place().of(environment) and (trouble := _trouble(service)) is not None:
            yield Finding(f"InferenceService {namespace}/{name}", "not ready", trouble, RUNBOOKS["InferenceService"])


def _not_given(item: Resource, made: set[tuple[str, str]], here: _Here) -> Iterator[Finding]:
    """ConfigMaps that pods of a workload or runtime mount, that no layer makes, and that nobody made."""
    match item.inputs:
        case {"kind": "Deployment", "spec": {"template": {"spec": {"volumes": [*volumes]}}}}:
            pass
        case {"kind": "ServingRuntime", "spec": {"volumes": [*volumes]}}:
            pass
        case _:
            return
    namespace, _ = name_of(with_unknowns(item.inputs))
    there = here.of({"apiVersion": "v1", "kind": "ConfigMap"}) or {}
    for volume in volumes:
        match volume:
            case {"configMap": {"name": str(name)}} if (namespace, name) not in made | there.keys():
                yield Finding(f"ConfigMap {namespace}/{name}", "missing", "pods mount it", BY_HAND)


def _differences(wanted: Object, there: Object) -> Iterator[str]:
    """What of the wanted fields is otherwise. More than is wanted is no difference: servers and controllers fill in."""
    for part in ("labels", "annotations"):
        yield from _unlike(part, wanted["metadata"].get(part) or {}, there["metadata"].get(part) or {})
    for key, value in wanted.items():
        if key not in SPECIAL:
            yield from _unlike(key, value, there.get(key))


def _unlike(at: str, wanted: Any, there: Any) -> Iterator[str]:
    if wanted is UNKNOWN or wanted == there or (there is None and not wanted):
        return
    if isinstance(wanted, dict) and isinstance(there, dict):
        for key, value in wanted.items():
            yield from _unlike(f"{at}.{key}", value, there.get(key))
    elif isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        for number, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from _unlike(f"{at}[{number}]", one, other)
    elif isinstance(wanted, list) and isinstance(there, list):
        yield f"{at} has {len(there)} items, {len(wanted)} are wanted"
    else:
        yield f"{at} is {_short(there)}, {_short(wanted)} is wanted"


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _trouble(there: Object) -> str | None:
    """Why an object does not work yet, by its own status."""
    kind, status = there["kind"], there.get("status") or {}
    if (field := REPLICATED.get(kind)) is not None:
        ready, wanted = status.get(field, 0), there["spec"].get("replicas", 1)
        return f"{ready} of {wanted} replicas are ready" if ready < wanted else None
    if kind == "PersistentVolumeClaim":
        return None if status.get("phase") == "Bound" else f"it is {status.get('phase', 'new')}, not bound to a volume"
    if (condition := READY.get(kind)) is None:
        return None
    found = next((item for item in status.get("conditions") or [] if item["type"] == condition), None)
    if found is None:
        return f"no controller has said that it is {condition}"
    return None if found["status"] == "True" else f"{condition} is {found['status']}: {_why(found)}"


def _why(condition: Object) -> str:
    said = [condition.get("reason"), condition.get("message")]
    return ": ".join(part for part in said if part) or "no reason is given"
