"""The storage initialiser and the predictor of its folder: over a real S3 server, real signatures, and the API over mTLS."""

import itertools
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.core import keys, merkle, oms
from services.core.canonical import canonical
from services.core.database import begin
from services.core.digests import FileEntry, scan_tree, sha256, tree_bytes, tree_digest
from services.core.errors import AiInfraError, Unavailable
from services.core.object_backends import s3 as s3_backend
from services.core.objects import ObjectStore
from services.core.tls import client_context, service_id
from services.core.trust import Trust
from services.serving.domain import Servable
from services.serving.errors import LoadRefused, Quarantined, UnknownPrediction
from services.serving.predictor.bootstrap import load_mounted, run_initialiser
from services.serving.predictor.client import ask
from services.serving.predictor.download import initialise
from services.serving.predictor.source import Source
from services.serving.settings import Settings
from tests import s3
from tests.peers import ROOT, need
from tests.serving import MODEL, Api, World, api_of, free_port, order_of, wait_for

ACTOR = "spiffe://ai-infra.local/person/dario"
START_S = 120.0
IN_A_CLUSTER = ("gateway", "prometheus")


class S3World(World):
    """A world whose objects lie in a bucket with object lock."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.client = s3.client(url)
        self.client.create_bucket(Bucket="artifacts", ObjectLockEnabledForBucket=True)
        self.location = f"s3://artifacts/objects?retention_days=1&endpoint={url}"
        self.store: ObjectStore = s3_backend.S3Store(self.client, "artifacts", "objects", 1)
        for name in IN_A_CLUSTER:
            self.ca.issue(service_id(name), self.certs / name)

    def environ(self, api_url: str, port: int = 0) -> dict[str, str]:
        access = {name.upper(): value for name, value in s3.ACCESS.items() if name != "region_name"}
        objects = {"AI_INFRA_OBJECT_BACKEND": "s3", "AI_INFRA_OBJECTS": self.location, "AI_INFRA_ENV": "staging"}
        return super().environ(api_url, port) | access | objects | {"AWS_REGION": s3.ACCESS["region_name"]}

    def overwrite(self, digest: str, data: bytes) -> None:
        """By somebody with the right to write: a newer version under the object's name."""
        self.client.put_object(Bucket="artifacts", Key=f"objects/{digest[7:]}", Body=data)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3World]:
    folder = tmp_path_factory.mktemp("s3")
    with s3.served(need("versitygw"), folder) as url, pytest.MonkeyPatch.context() as patch:
        world = S3World(tmp_path_factory.mktemp("world"), url)
        for name, value in world.environ("").items():
            patch.setenv(name, value)
        yield world


@pytest.fixture(scope="module")
def api(world: S3World) -> Iterator[Api]:
    with api_of(world) as found:
        yield found


def deployed(api: Api, version: Servable) -> Source:
    """A deployment of a version, as a rollout makes one."""
    api.versions.found[version.model, version.number] = version
    with begin(api.engine) as connection:
        deployment = api.serving.insert(connection, version, "dec-1", 1, ACTOR, role="canary")
    return Source.of(order_of(version, deployment))


def initialised(world: S3World, api: Api, source: Source, target: Path) -> None:
    run_initialiser(world.environ(api.url), str(source), target)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


COMPLETE = ["files.json", "manifest.dsse.json", "model/config.json", "model/model.safetensors", "model/model.sig", "source"]


def test_a_good_model_is_complete_and_the_stock_verifier_takes_it(world: S3World, api: Api, tmp_path: Path) -> None:
    version = world.version(1)
    initialised(world, api, deployed(api, version), tmp_path)
    verified = tmp_path / "verified"
    assert (sorted(path.name for path in tmp_path.iterdir()), names(verified)) == (["verified"], COMPLETE)
    assert tuple(e for e in scan_tree(verified / "model") if e.path != "model.sig") == version.files
    key, model = tmp_path / "manifest.pem", verified / "model"
    key.write_text(keys.public_pem(world.manifest_key.public_key()))
    verify = [need("model_signing"), "verify", "key", "--public_key", str(key), "--signature", str(model / "model.sig"), str(model)]
    subprocess.run(verify, check=True)


def edited(world: S3World, api: Api) -> Source:
    version = world.version(2, passes=2)
    # This file is the version's own; the weights of all versions here are one object.
    (own,) = (entry for entry in version.files if entry.path == "config.json")
    data = bytearray(world.store.get(own.sha256))
    data[-1] ^= 1
    world.overwrite(own.sha256, bytes(data))
    return deployed(api, version)


def with_an_extra_file(world: S3World, api: Api) -> Source:
    """The list of files names one more than Manifest and signature know."""
    version = world.version(3, passes=3)
    files = (*version.files, FileEntry("more.py", 4, world.store.put(b"more")))
    world.store.put(tree_bytes(files))
    return deployed(api, Servable(**(vars(version) | {"artifact_id": tree_digest(files)})))


def with_an_unsigned_file(world: S3World, api: Api) -> Source:
    """The Manifest knows the file, the model signature does not."""
    signed = world.version(4, passes=4)
    more = FileEntry("more.py", 4, world.store.put(b"more"))
    return deployed(api, Servable(**(vars(world.version(4, passes=4, more=(more,))) | {"bundle": signed.bundle})))


def by_a_stranger(world: S3World, api: Api) -> Source:
    return deployed(api, world.version(5, key=keys.generate_p256()))


def with_a_strangers_bundle(world: S3World, api: Api) -> Source:
    stranger = world.version(6, key=keys.generate_p256())
    return deployed(api, Servable(**(vars(world.version(6)) | {"bundle": stranger.bundle})))


def for_another_environment(world: S3World, api: Api) -> Source:
    return deployed(api, world.version(7, environment="prod"))


def under_quarantine(world: S3World, api: Api) -> Source:
    source = deployed(api, world.version(8))
    api.versions.flagged[MODEL, 8] = ["flag-1: biased"]
    return source


def of_another_deployment(world: S3World, api: Api) -> Source:
    """A good model, under the name of a deployment that is of another one."""
    good, other = world.version(9), world.version(10, passes=10)
    deployment = deployed(api, other).deployment
    return Source.of(order_of(good, deployment))


def without_an_object(world: S3World, api: Api) -> Source:
    version = world.version(11, passes=11)
    return deployed(api, Servable(**(vars(version) | {"bundle": sha256(b"nobody stored this")})))


def of_no_deployment(world: S3World, api: Api) -> Source:
    return Source.of(order_of(world.version(12), "dep-none"))


RUNBOOK = (ROOT / "runbooks" / "storage-initialiser-refused.md").read_text()
KNOWN = [words for row in re.findall(r"^\| (`.*?) \|", RUNBOOK, re.MULTILINE) for words in re.findall(r"`([^`]+)`", row)]
"""What the runbook's table says that messages say."""


def in_the_runbook(message: str) -> bool:
    return any(words in message for words in KNOWN)


REFUSED: dict[Callable[[S3World, Api], Source], tuple[type[AiInfraError], str]] = {
    edited: (LoadRefused, "does not have the bytes that its name says"),
    with_an_extra_file: (LoadRefused, "the artifact's bytes have id .*, the manifest says"),
    with_an_unsigned_file: (LoadRefused, "more.py is not signed"),
    by_a_stranger: (LoadRefused, "not signed by a trusted manifest key"),
    with_a_strangers_bundle: (LoadRefused, "no trusted key made this signature"),
    for_another_environment: (LoadRefused, "the manifest is for prod, this predictor serves staging"),
    under_quarantine: (Quarantined, "flag-1: biased"),
    of_another_deployment: (LoadRefused, "is of manifest"),
    without_an_object: (LoadRefused, "no object"),
    of_no_deployment: (AiInfraError, "dep-none"),
}


@pytest.mark.parametrize("made", REFUSED)
def test_what_does_not_verify_leaves_nothing_to_start_from(
    world: S3World, api: Api, tmp_path: Path, made: Callable[[S3World, Api], Source]
) -> None:
    error, message = REFUSED[made]
    source = made(world, api)
    with pytest.raises(error, match=message) as raised:
        initialised(world, api, source, tmp_path)
    assert (raised.value.retryable, (tmp_path / "verified").exists()) == (False, False)
    assert in_the_runbook(str(raised.value))
    with pytest.raises(LoadRefused, match="was not initialised"):
        load_mounted(Settings.from_env(world.environ(api.url)), tmp_path)


def test_while_the_api_is_away_nothing_is_completed_and_a_retry_is_worth_it(world: S3World, api: Api, tmp_path: Path) -> None:
    source = deployed(api, world.version(20))
    api.stop()
    try:
        with pytest.raises(Unavailable) as raised:
            initialised(world, api, source, tmp_path)
        assert in_the_runbook(str(raised.value))
        assert not (tmp_path / "verified").exists()
    finally:
        api.start()
    initialised(world, api, source, tmp_path)
    assert names(tmp_path / "verified") == COMPLETE


def test_while_the_object_store_is_away_a_retry_is_worth_it(world: S3World, api: Api, tmp_path: Path) -> None:
    environ = world.environ(api.url) | {"AI_INFRA_OBJECTS": f"s3://artifacts/objects?retention_days=1&endpoint=http://127.0.0.1:{free_port()}"}
    with pytest.raises(Unavailable) as raised:
        run_initialiser(environ, str(deployed(api, world.version(21))), tmp_path)
    assert in_the_runbook(str(raised.value))


def test_what_an_earlier_start_left_is_not_believed(world: S3World, api: Api, tmp_path: Path) -> None:
    """Of another model, edited since; and half of a download."""
    initialised(world, api, deployed(api, world.version(22, passes=22)), tmp_path)
    (tmp_path / "verified" / "model" / "config.json").write_bytes(b"{}")
    (tmp_path / "incoming" / "model").mkdir(parents=True)
    (tmp_path / "incoming" / "model" / "left.bin").write_bytes(b"left")
    initialised(world, api, deployed(api, world.version(23)), tmp_path)
    assert names(tmp_path) == [f"verified/{name}" for name in COMPLETE]
    assert load_mounted(Settings.from_env(world.environ(api.url)), tmp_path).order.number == 23


class Killed(BaseException):
    """The process died. No code of ours catches it."""


class DyingStore:
    """Dies at the `at`-th copy. copied: the bytes were on the disk before."""

    def __init__(self, inner: ObjectStore, at: int, *, copied: bool) -> None:
        self._inner, self._at, self._copied = inner, at, copied
        self._count = itertools.count(1)

    def copy_to(self, digest: str, path: Path) -> None:
        # Files come at once, in several threads; `next` on a count is one step.
        dies = next(self._count) == self._at
        if dies and not self._copied:
            raise Killed
        self._inner.copy_to(digest, path)
        if dies:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("copied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_crash_at_any_download_leaves_nothing_to_start_from(world: S3World, tmp_path: Path, at: int, copied: bool) -> None:
    source = Source.of(order_of(world.version(30, passes=30)))
    trust = Trust.parse((world.root / "trust.json").read_bytes())
    dying: Any = DyingStore(world.store, at, copied=copied)
    with pytest.raises(Killed):
        initialise(source, tmp_path, "staging", dying, trust, lambda deployment: [])
    assert [path.name for path in tmp_path.iterdir()] == ["incoming"]
    initialise(source, tmp_path, "staging", world.store, trust, lambda deployment: [])
    assert names(tmp_path) == [f"verified/{name}" for name in COMPLETE]


def run(module: str, *arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


def test_the_process_says_why_in_one_line_and_tells_a_refusal_from_a_retry(world: S3World, api: Api, tmp_path: Path) -> None:
    name = "services.serving.initialiser"
    good, bad = deployed(api, world.version(40)), for_another_environment(world, api)
    away = world.environ(f"https://127.0.0.1:{free_port()}")
    runs = [
        run(name, str(good), str(tmp_path), environ=world.environ(api.url)),
        run(name, str(bad), str(tmp_path), environ=world.environ(api.url)),
        run(name, str(good), str(tmp_path), environ=away),
        run(name, "s3://elsewhere/model", str(tmp_path), environ=world.environ(api.url)),
    ]
    assert [found.returncode for found in runs] == [0, 1, os.EX_TEMPFAIL, 2]
    assert [len(found.stderr.splitlines()) for found in runs] == [0, 1, 1, 1]
    assert f"{MODEL}@40 is verified" in runs[0].stdout
    assert "the manifest is for prod" in runs[1].stderr


def edited_byte(verified: Path) -> None:
    path = verified / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def extra_file(verified: Path) -> None:
    (verified / "model" / "more.py").write_bytes(b"more")


def missing_file(verified: Path) -> None:
    (verified / "model" / "config.json").unlink()


def another_list(verified: Path) -> None:
    (verified / "files.json").write_bytes((verified / "files.json").read_bytes() + b" ")


def another_source(verified: Path) -> None:
    path = verified / "source"
    path.write_text(path.read_text().replace("dep-", "dop-"))


def no_signature(verified: Path) -> None:
    (verified / "model" / oms.SIGNATURE_FILE).write_bytes(b"{}")


def link(verified: Path) -> None:
    path = verified / "model" / "config.json"
    path.rename(verified.parent / "elsewhere.json")
    path.symlink_to(verified.parent / "elsewhere.json")


@pytest.mark.parametrize("change", [edited_byte, extra_file, missing_file, another_list, another_source, no_signature, link])
def test_a_folder_that_is_not_the_initialised_one_is_not_served(
    world: S3World, api: Api, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    initialised(world, api, deployed(api, world.version(50)), tmp_path)
    settings = Settings.from_env(world.environ(api.url))
    assert load_mounted(settings, tmp_path).order.number == 50
    change(tmp_path / "verified")
    with pytest.raises(AiInfraError) as raised:
        load_mounted(settings, tmp_path)
    assert not raised.value.retryable


def test_what_was_quarantined_since_is_not_served(world: S3World, api: Api, tmp_path: Path) -> None:
    initialised(world, api, deployed(api, world.version(51)), tmp_path)
    api.versions.flagged[MODEL, 51] = ["flag-2: poisoned"]
    arguments = (str(tmp_path), "--port", "0", "--records", str(tmp_path / "records"))
    found = run("services.serving.predictor.mounted", *arguments, environ=world.environ(api.url))
    assert (found.returncode, "flag-2: poisoned" in found.stderr) == (1, True)


@contextmanager
def predictor(world: S3World, api: Api, number: int, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """URL and process of a predictor of an initialised folder, once it answers."""
    target, port = folder / "models", free_port()
    target.mkdir()
    initialised(world, api, deployed(api, world.version(number)), target)
    arguments = [str(target), "--port", str(port), "--records", str(folder / "records")]
    command = [sys.executable, "-m", "services.serving.predictor.mounted", *arguments]
    process = subprocess.Popen(command, env=world.environ(api.url))
    url = f"https://127.0.0.1:{port}"
    try:
        with client(world, "gateway") as gateway:
            wait_for(lambda: answers(gateway, url) or process.poll() is not None, "the predictor serves", START_S)
        yield url, process
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(world: S3World, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with predictor(world, api, 60, tmp_path_factory.mktemp("predictor")) as (url, _):
        yield url


def client(world: World, name: str) -> httpx.Client:
    return httpx.Client(verify=client_context(world.service(name)), timeout=10)


def answers(found: httpx.Client, url: str) -> bool:
    try:
        return found.get(f"{url}/v2/health/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("caller", ["gateway", "api"])
def test_a_predictor_in_a_cluster_answers_the_gateway_and_the_api(world: S3World, address: str, caller: str) -> None:
    row = [0.0] * 9
    row[4] = 1.0
    with client(world, caller) as found:
        assert ask(found, address, "localhost", MODEL, [row]) == ["4"]


def test_what_a_predictor_in_a_cluster_answered_is_sealed_by_the_api(world: S3World, api: Api, address: str) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 9], "datatype": "FP32", "data": [1.0] * 9}]}
    with client(world, "gateway") as gateway:
        answer = gateway.post(f"{address}/v2/models/{MODEL}/infer", json=body)
    prediction, salt = answer.headers["x-request-id"], bytes.fromhex(answer.headers["x-prediction-salt"])

    def kept() -> bool:
        try:
            return api.kept.find(prediction)["sealed"] is not None
        except UnknownPrediction:
            return False

    wait_for(kept, "the API keeps the record")
    found = api.kept.find(prediction)
    record, place = found["record"], found["sealed"]
    assert answer.json()["id"] == prediction
    assert (record["outcome"], record["deployment"]) == ("ok", answer.headers["x-deployment"])
    assert record["inputDigest"] == sha256(salt + answer.request.content)
    assert record["outputDigest"] == sha256(answer.content)
    proof, root = [bytes.fromhex(node) for node in place["proof"]], bytes.fromhex(place["root"].removeprefix("sha256:"))
    merkle.verify_inclusion(merkle.leaf_hash(canonical(record)), place["index"], place["size"], proof, root)


def test_the_last_records_are_handed_on_when_a_predictor_ends(world: S3World, api: Api, tmp_path: Path) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 9], "datatype": "FP32", "data": [1.0] * 9}]}
    with predictor(world, api, 61, tmp_path) as (url, process), client(world, "gateway") as gateway:
        prediction = gateway.post(f"{url}/v2/models/{MODEL}/infer", json=body).headers["x-request-id"]
        process.terminate()
        assert process.wait(20) == 0
    assert api.kept.find(prediction)["sealed"] is not None


def test_only_predictors_hand_records_on(world: S3World, api: Api) -> None:
    batch = {"id": "bat-" + "0" * 32, "deployment": "dep-1", "records": [], "recovered": True, "lost": 1}
    for name, status in (("router", 403), ("gateway", 403), ("predictor", 404)):
        with client(world, name) as found:
            assert found.post(f"{api.url}/v1/serving/records", json=batch).status_code == status


def test_prometheus_reads_the_counters_and_nothing_else(world: S3World, address: str) -> None:
    with client(world, "api") as found:
        ask(found, address, "localhost", MODEL, [[1.0] * 9])
    with client(world, "prometheus") as found:
        families = text_string_to_metric_families(found.get(f"{address}/metrics").text)
        counted = [s for family in families for s in family.samples if s.name == "ai_infra_predictions_total" and s.value]
        assert {(sample.labels["outcome"], sample.labels["deployment"][:4]) for sample in counted} == {("ok", "dep-")}
        assert found.get(f"{address}/v2/models/{MODEL}").status_code == 403


def test_a_predictor_takes_tls_1_3_and_not_the_older_one_that_envoy_offers_unless_told(world: S3World, address: str) -> None:
    taken = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(world.service("gateway"))
        # In this order, so that it is never a range without a version.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = context.minimum_version = version
        with httpx.Client(verify=context) as found:
            taken[version] = answers(found, address)
    assert taken == {ssl.TLSVersion.TLSv1_2: False, ssl.TLSVersion.TLSv1_3: True}


OTHERWISE = ("/", "/metrics", "/docs", "/v1/models", f"/v2/models/{MODEL}/infer/", f"/v2/repository/models/{MODEL}/unload")


@pytest.mark.parametrize("caller", ["gateway", "api"])
def test_who_asks_for_predictions_reaches_nothing_else(world: S3World, address: str, caller: str) -> None:
    with client(world, caller) as found:
        assert [path for path in OTHERWISE if found.get(f"{address}{path}").status_code != 403] == []
        assert [path for path in OTHERWISE if found.post(f"{address}{path}", json={}).status_code != 403] == []
        wanted = ("/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready")
        assert [path for path in wanted if not found.get(f"{address}{path}").is_success] == []


def test_nobody_else_is_answered(world: S3World, address: str) -> None:
    for name in ("router", "predictor"):
        with client(world, name) as found:
            assert [found.get(f"{address}{path}").status_code for path in ("/v2/health/ready", "/metrics")] == [403, 403]
