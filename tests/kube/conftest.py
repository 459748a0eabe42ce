"""One cluster for all tests here; a test that kills it starts its own."""

import os
import ssl
from collections.abc import Iterator

import httpx
import pytest

from services.core.errors import NotFound, Unavailable
from services.core.kube import Kube, Object, Resource
from tests.kube.apiserver import ADMIN, ApiServer
from tests.peers import ROOT
from tests.serving import wait_for

CRDS = ROOT.parent / "shared" / "crds"
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
ALL = sorted(path.stem for path in CRDS.glob("*.yaml")) if CRDS.is_dir() else []


def definitions() -> list[bytes]:
    """The CustomResourceDefinitions of KServe, KubeRay, Kueue and others, in YAML; skips by name where they are not."""
    if not ALL:
        message = f"custom resource definitions are not here: put them into {CRDS}"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return [(CRDS / f"{name}.yaml").read_bytes() for name in ALL]


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
