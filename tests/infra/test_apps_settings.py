"""What API and proxy are given in a cluster, taken by the code that reads it: settings, back ends, and a home made of mounts."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from components.apps.calls import API, PROXY
from services.api.bootstrap import first_start, open_ground
from services.api.settings import Settings
from services.core import backends, object_backends
from services.core.bundle import Bundle
from services.core.database import open_engine
from services.home import Home, create
from services.sentinelnet import backends as policy_backends
from services.serving import backends as serving_backends
from services.signing import backends as signer_backends
from services.signing.settings import Settings as SigningSettings
from services.training import backends as compute_backends
from services.training.placing import Placing
from tests.infra.apps import TRAINING_SPACE, all_of_it, environ, pod
from tests.infra.recorded import Graph
from tests.peers import need
from tests.ports import free_port
from tests.serving import wait_for

POLICY = b"package sentinelnet\n\nimport rego.v1\n\ndecision := input\n"


@pytest.fixture(scope="module")
def made() -> Graph:
    return all_of_it()


@pytest.fixture
def told(made: Graph) -> Mapping[str, str]:
    return environ(made, API)


def test_every_back_end_is_one_for_production(made: Graph, told: Mapping[str, str]) -> None:
    found, proxy = Settings.from_env(told), SigningSettings.from_env(environ(made, PROXY))
    for package, name in (
        (object_backends, found.object_backend),
        (policy_backends, found.policy_engine),
        (serving_backends, found.serving),
        (compute_backends, found.compute),
        *((signer_backends, name) for name in proxy.signers.values()),
    ):
        assert backends.load(package, name, env="prod").PRODUCTION


def test_stores_and_databases_are_opened_by_their_settings(told: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", told["AWS_DEFAULT_REGION"])
    found = Settings.from_env(told)
    backends.load(object_backends, found.object_backend).open_store(found.objects)
    for url, name in ((found.database, "platform"), (found.audit_database, "audit")):
        engine = open_engine(url)
        assert (engine.url.host, engine.url.username, engine.url.database) == ("database.example", name, name)
        assert engine.url.query["sslmode"] == "verify-full"


def test_jobs_are_placed_where_their_account_is(told: Mapping[str, str], tmp_path: Path) -> None:
    found = Placing.from_env({**told, "AI_INFRA_TRAINING_RUNS": str(tmp_path)})
    assert (found.namespace, found.compute.queue, found.compute.priority) == (TRAINING_SPACE, "research", "normal")


def test_the_api_starts_from_the_files_that_are_mounted(made: Graph, told: Mapping[str, str], tmp_path: Path) -> None:
    """Without the folders that only a development home has: keys, people, an authority."""
    whole = Home.at(tmp_path / "whole")
    create(whole)
    root, trust = tmp_path / "home", tmp_path / "trust"
    for volume in pod(made, API)["volumes"]:
        if volume["name"] in ("policies", "trust"):
            _map(volume["configMap"]["items"], whole.root, {"policies": root / "bootstrap", "trust": trust}[volume["name"]])
    shutil.copytree(whole.root / "services" / API, root / "services" / API)
    (root / "config.json").write_text(made["ConfigMap", "api-files"].inputs["data"]["config.json"])
    assert json.loads((root / "config.json").read_text())["witnesses"]
    settings = Settings.from_env({"AI_INFRA_HOME": str(root), "AI_INFRA_TRUST": str(trust / Path(told["AI_INFRA_TRUST"]).name)})
    ground = open_ground(settings)
    first_start(ground)
    assert ground.sentinelnet.active().revision
    ground.engine.dispose()


def test_opa_takes_policies_where_only_the_api_reaches_it(made: Graph, told: Mapping[str, str]) -> None:
    [opa] = pod(made, API)["initContainers"]
    asked, health = free_port(), free_port()
    arguments = [text.replace("8181", str(asked)).replace("0.0.0.0:8282", f"127.0.0.1:{health}") for text in opa["args"]]
    process = subprocess.Popen([need("opa"), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = opa["readinessProbe"]["httpGet"]["path"]
    try:
        wait_for(lambda: status(f"http://127.0.0.1:{health}{path}") == 200, "OPA is ready by its probe")
        assert status(f"http://127.0.0.1:{health}/v1/policies") == 404
        engine = backends.load(policy_backends, "opa").open_engine(told["AI_INFRA_POLICY_URL"].replace("8181", str(asked)))
        assert engine.evaluate(Bundle({"decision.rego": POLICY, "data.json": b"{}"}), {"n": 2}) == {"n": 2}
    finally:
        process.terminate()
        process.wait()


def status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def _map(items: list[dict[str, str]], source: Path, target: Path) -> None:
    """As the kubelet lays the keys of a ConfigMap out. database-ca.pem is AWS's, and in no home."""
    target.mkdir(parents=True)
    for item in items:
        found = next((path for path in source.rglob(item["key"])), None)
        (target / item["path"]).write_bytes(found.read_bytes() if found else b"AWS's")
