"""What the builders write, judged by the API server with the real definitions: accepted whole, refused when broken."""

import ast
import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from services.core.errors import Refused
from services.core.kube import Kube, Object, Resource
from services.serving import inference, storage_container
from services.serving.inference import Place, Predictor, Split, service_name
from services.training.rayjob import JOBS, RayJobArgs, ray_job
from tests.kube.objects import order, ray_job_args, runtime_args, storage_args

PLACE = Place()
NAMESPACES = Resource("", "v1", "namespaces")


@pytest.fixture
def namespace(kube: Kube) -> str:
    name = PLACE.of("staging")
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def predictor(number: int, replicas: int = 1) -> Predictor:
    return Predictor(order=order(number), replicas=replicas)


def split(*weights: float) -> Split:
    return Split(rollout="rol-1", phases=tuple((weight, 1000 + index) for index, weight in enumerate(weights)))


OBJECTS: dict[str, tuple[Resource, dict[str, Any]]] = {
    "one version": (inference.SERVICES, inference.inference_service(PLACE, predictor(1))),
    "canary that starts": (inference.SERVICES, inference.inference_service(PLACE, predictor(1, 2), predictor(2))),
    "canary with traffic": (
        inference.SERVICES,
        inference.inference_service(PLACE, predictor(1), predictor(2), split(0.1, 0.5)),
    ),
    "runtime": (inference.RUNTIMES, inference.serving_runtime(runtime_args(PLACE.of("staging")))),
    "storage": (storage_container.CONTAINERS, storage_container.storage_container(storage_args())),
    "list": (inference.CONFIG_MAPS, inference.allowed(PLACE.of("staging"), [order(1), order(2)])),
    "gpu job on spot": (JOBS, ray_job(ray_job_args(PLACE.of("staging")))),
    "cpu job": (JOBS, ray_job(ray_job_args(PLACE.of("staging"), gpus=0, spot=False))),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_built_passes_a_strict_dry_run(kube: Kube, namespace: str, name: str) -> None:
    resource, wanted = OBJECTS[name]
    found = kube.apply(resource, wanted, dry_run=True)
    assert found["metadata"]["name"] == wanted["metadata"]["name"]


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(wanted: dict[str, Any]) -> None:
        found: Any = wanted
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return change


BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "service: unknown field": ("one version", put("spec", "predictor", "modle", value={}), "modle"),
    "service: unknown field in a canary": ("canary with traffic", put("spec", "canary", 0, "weight", value=1), "weight"),
    "service: more than all traffic": ("canary with traffic", put("spec", "canary", 0, "trafficPercent", value=101), "100"),
    "service: canary without a predictor": ("one version", put("spec", "canary", value=[{"trafficPercent": 5}]), "predictor"),
    "service: bad enum": ("one version", put("spec", "predictor", "scaleMetric", value="luck"), "scaleMetric"),
    "service: text for a number": ("one version", put("spec", "predictor", "minReplicas", value="1"), "minReplicas"),
    "runtime: unknown field": ("runtime", put("spec", "containers", 0, "img", value="x"), "img"),
    "runtime: no containers": ("runtime", lambda wanted: wanted["spec"].pop("containers"), "containers"),
    "storage: unknown field": ("storage", put("spec", "container", "cmd", value=[]), "cmd"),
    "storage: no formats": ("storage", lambda wanted: wanted["spec"].pop("supportedUriFormats"), "supportedUriFormats"),
    "storage: a volume mounted nowhere": ("storage", put("spec", "container", "volumeMounts", 0, value={"name": "x"}), "mountPath"),
    "list: a number": ("list", put("data", "a", value=1), "data"),
    "job: unknown field": ("cpu job", put("spec", "rayClusterSpec", "workers", value=3), "workers"),
    "job: a rule of the definition": ("cpu job", put("spec", "managedBy", value="somebody"), "managedBy"),
    "job: half a deletion strategy": ("cpu job", put("spec", "deletionStrategy", value={}), "deletionStrategy"),
    "job: no template": (
        "cpu job", lambda wanted: wanted["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("template"), "template"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_is_refused(kube: Kube, namespace: str, name: str) -> None:
    base, change, named = BROKEN[name]
    resource, wanted = OBJECTS[base]
    wanted = copy.deepcopy(wanted)
    change(wanted)
    with pytest.raises(Refused, match=named):
        kube.apply(resource, wanted, dry_run=True)


def test_names_of_services_are_dns_labels_and_no_two_models_share_one() -> None:
    models = ["digits", "digits_v2", "digits-v2", "digits.v2", "0digits", "x" * 100, "x" * 99, "a-", service_name("digits_v2")]
    names = [service_name(model) for model in models]
    assert names[0] == "digits"
    assert names[2] == "digits-v2"
    assert len(set(names)) == len(models)
    assert all(len(name) <= 36 and name[0].isalpha() and name[-1].isalnum() and name == name.lower() for name in names)


def services_of(service: Object) -> list[str]:
    """Names of KServe's Services for an InferenceService: stable's two, and its canaries'."""
    name = service["metadata"]["name"]
    variants = [canary["predictor"]["name"] for canary in service["spec"]["canary"]]
    return [name, f"{name}-predictor", *(f"{name}-{variant}-predictor" for variant in variants)]


def test_no_service_of_a_model_is_another_models_whatever_its_name() -> None:
    digits = inference.inference_service(PLACE, predictor(1), predictor(2))
    *_, canary = services_of(digits)
    names = [canary, canary.removesuffix("-predictor"), "digits-predictor", "digits-predictor-predictor"]
    others = [inference.inference_service(PLACE, Predictor(order=order(1, name), replicas=1)) for name in names]
    found = [name for service in (digits, *others) for name in services_of(service)]
    assert len(set(found)) == len(found), found


@pytest.mark.parametrize("name", ["digits", "digits-v2", "v2-9fa03c11", "predictor", "digits-predictors", "digits-v2-9fa03c1"])
def test_a_name_that_meets_no_other_stays_as_it_is(name: str) -> None:
    assert service_name(name) == name


def test_a_canary_says_its_replicas_once_as_kserve_refuses_more() -> None:
    spec = inference.inference_service(PLACE, predictor(1, 2), predictor(2, 2))["spec"]
    [canary] = spec["canary"]
    assert (canary["predictor"]["minReplicas"], "maxReplicas" in canary["predictor"]) == (2, False)


def test_stable_asks_for_the_pods_on_top_that_kserve_takes_off_it_for_a_canary() -> None:
    def pods(*predictors: Predictor) -> tuple[int, int]:
        spec = inference.inference_service(PLACE, *predictors)["spec"]["predictor"]
        return spec["minReplicas"], spec["maxReplicas"]

    assert pods(predictor(1, 3)) == (3, 3)
    assert pods(predictor(1, 3), predictor(2, 2)) == (5, 5)


def test_a_split_remembers_every_weight_and_reads_back() -> None:
    begun = split(0.1)
    later = begun.at(0.1, 5000).at(0.5, 6000)
    assert later.phases == ((0.1, 1000), (0.5, 6000))
    service = inference.inference_service(PLACE, predictor(1), predictor(2), later)
    assert Split.of(service) == later
    assert service["spec"]["canary"][0]["trafficPercent"] == 50
    assert Split.of(inference.inference_service(PLACE, predictor(1))) is None


@pytest.mark.parametrize("image", ["registry.example/ai-infra:latest", "ai-infra", "x@sha256:12"])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        ray_job_args("n", image=image)
    with pytest.raises(ValueError, match="digest"):
        runtime_args("n", image=image)
    with pytest.raises(ValueError, match="digest"):
        storage_args(image=image)


def test_only_workers_may_be_taken_away() -> None:
    spec = ray_job(ray_job_args("n"))["spec"]
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    worker, submitter = group["template"]["spec"], spec["submitterPodTemplate"]["spec"]
    assert [found["key"] for found in worker["tolerations"]] == ["nvidia.com/gpu", "ai-infra/spot"]
    assert [found["tolerations"] for found in (head, submitter)] == [[], []]
    assert all("affinity" in found for found in (head, submitter))
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def pods_of_a_job() -> dict[str, Object]:
    """Templates of its pods, by their container's name."""
    spec = ray_job(ray_job_args("n"))["spec"]
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    found = [spec["submitterPodTemplate"], *(group["template"] for group in groups)]
    return {item["spec"]["containers"][0]["name"]: item for item in found}


def test_rays_nodes_say_how_they_are_by_http_as_the_image_has_no_wget() -> None:
    asked = {name: asks(item["spec"]["containers"][0]) for name, item in pods_of_a_job().items()}
    agent = {"path": "/api/healthz", "port": 52365}
    assert asked == {"submitter": {}, "ray-head": dict.fromkeys(KINDS, agent), "ray-worker": dict.fromkeys(KINDS, agent)}


KINDS = ("livenessProbe", "readinessProbe")


def asks(container: Object) -> dict[str, Object]:
    """Where a container is asked, by the kind of the probe."""
    return {kind: container[kind]["httpGet"] for kind in KINDS if kind in container}


def test_rays_agent_in_this_version_answers_there_and_asks_no_token() -> None:
    # Read, as the module itself wants the dashboard's packages, which only the image has.
    assert ray.__file__
    source = (Path(ray.__file__).parent / "dashboard" / "http_server_agent.py").read_text()
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.List)
    }
    assert "/api/healthz" in assigned["PUBLIC_EXACT_PATHS"]
    assert ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT == 52365


def test_no_node_is_ended_to_save_money_while_a_pod_of_a_job_is_on_it() -> None:
    found = {name: item["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] for name, item in pods_of_a_job().items()}
    assert found == dict.fromkeys(("submitter", "ray-head", "ray-worker"), "true")


def test_a_runtime_without_a_memory_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="memory"):
        dataclasses.replace(runtime_args("n"), limits={"cpu": "1"})
    with pytest.raises(ValueError, match="memory"):
        dataclasses.replace(storage_args(), limits={"cpu": "1"})


def test_the_initialiser_mounts_only_what_the_runtime_has() -> None:
    """It has no volumes of its own: KServe puts it into the predictor's pod."""
    volumes = inference.serving_runtime(runtime_args("n"))["spec"]["volumes"]
    container = storage_container.storage_container(storage_args())["spec"]["container"]
    assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in volumes}


def test_a_job_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers"):
        ray_job_args("n", workers=0)
    assert isinstance(ray_job_args("n"), RayJobArgs)
