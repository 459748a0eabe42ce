"""One cluster for all tests here; a test that kills it starts its own."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.core.errors import NotFound, Unavailable
from services.core.kube import Kube, Object, Resource
from services.serving.inference import SERVICES, Place
from tests.fakes.kserve import KServeStandIn
from tests.kube.apiserver import ADMIN, SERVING, ApiServer
from tests.kube.rig import Rig, grant, new_place, open_rig, probing
from tests.peers import ROOT, need
from tests.serving import wait_for

CRDS = ROOT.parent / "shared" / "crds"
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
OF_GATEWAY = (b"  name: backendtlspolicies.gateway.networking.k8s.io\n", b"  name: envoyproxies.gateway.envoyproxy.io\n")
"""What the folder above lacks, and Envoy Gateway's chart brings along."""


def definitions() -> list[bytes]:
    """The CustomResourceDefinitions of KServe, KubeRay, Kueue and others, in YAML; skips by name where they are not."""
    found = [path.read_bytes() for path in sorted(CRDS.glob("*.yaml"))]
    if not found:
        message = f"custom resource definitions are not here: put them into {CRDS}"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    charted = [text for path in Path(need("envoy-gateway")).iterdir() for text in path.read_bytes().split(b"\n---\n")]
    return found + [text for text in charted if any(name in text for name in OF_GATEWAY)]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    found = definitions()
    server = ApiServer(tmp_path_factory.mktemp("cluster"))
    server.start()
    try:
        install(server, found)
        yield server
    finally:
        server.stop()


@pytest.fixture
def kube(cluster: ApiServer) -> Iterator[Kube]:
    """An administrator's client."""
    client = Kube(cluster.access(), "tests")
    yield client
    client.close()


@pytest.fixture
def place(kube: Kube) -> Iterator[Place]:
    found = new_place(kube)
    yield found
    for item in kube.list(SERVICES, found.of("staging"))["items"]:
        kube.delete(SERVICES, item["metadata"]["name"], found.of("staging"))


@pytest.fixture
def rig(kube: Kube, cluster: ApiServer, place: Place, tmp_path: Path) -> Iterator[Rig]:
    """With no more rights than the backend's role."""
    grant(kube, place)
    with open_rig(tmp_path, cluster.access(SERVING), place, predictors=probing(lambda path: True)) as found:
        yield found


@pytest.fixture
def kserve(cluster: ApiServer) -> Iterator[KServeStandIn]:
    with KServeStandIn(Kube(cluster.access(), "kserve-stand-in")) as found:
        yield found


def install(server: ApiServer, found: list[bytes]) -> None:
    """Creates the definitions and waits until their kinds are served."""
    context = ssl.create_default_context(cafile=str(server.identity.ca))
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/yaml"}
    with httpx.Client(base_url=server.url, verify=context, headers=headers, timeout=60) as client:
        for definition in found:
            response = client.post(DEFINITIONS.collection(), content=definition)
            assert response.is_success, response.text[:500]
    kube = Kube(server.access(), "tests")
    wait_for(lambda: len(served(kube)) == len(found), "the custom resource definitions are served")
    kube.close()


def served(kube: Kube) -> list[Resource]:
    """Custom resources that the server lists. For a moment after it is established a kind is refused with 429."""
    return [kind for kind in map(_kind, kube.list(DEFINITIONS)["items"]) if _listed(kube, kind)]


def _kind(definition: Object) -> Resource:
    spec = definition["spec"]
    stored = next(version["name"] for version in spec["versions"] if version["storage"])
    return Resource(spec["group"], stored, spec["names"]["plural"])


def _listed(kube: Kube, kind: Resource) -> bool:
    try:
        kube.list(kind)
    except (NotFound, Unavailable):
        return False
    return True
