"""One cluster for all tests here; a test that kills it starts its own."""

import os
import ssl
from collections.abc import Iterator

import httpx
import pytest

from services.core.kube import Kube, Resource
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
    wait_for(lambda: established(kube) == len(found), "the custom resource definitions are established")
    kube.close()


def established(kube: Kube) -> int:
    items = kube.list(DEFINITIONS)["items"]
    states = [{found["type"]: found["status"] for found in item.get("status", {}).get("conditions") or []} for item in items]
    return len([state for state in states if state.get("Established") == "True"])
