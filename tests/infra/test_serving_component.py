"""What the program makes for predictors: exactly what the serving service states."""

from typing import Any

import pytest

from components.apps.serving import Serving, ServingArgs
from services.serving.inference import Place, Predictor, inference_service, serving_runtime
from services.serving.storage_container import storage_container
from tests.infra.recorded import Graph, recorded
from tests.kube.objects import order, runtime_args, storage_args

ARGS = ServingArgs(storage=storage_container(storage_args()), runtime=serving_runtime(runtime_args("models-staging")))


@pytest.fixture(scope="module")
def made() -> Graph:
    return recorded(lambda: Serving("serving", ARGS))


def test_objects_are_those_that_the_service_states(made: Graph) -> None:
    found: dict[str, Any] = {kind: item.inputs for (kind, _), item in made.items() if "spec" in item.inputs}
    stated = {item["kind"]: item for item in (ARGS.storage, ARGS.runtime)}
    assert {kind: found[kind] for kind in found if kind != "PodDisruptionBudget"} == stated


def test_a_runtime_comes_after_what_initialises_its_models(made: Graph) -> None:
    assert "serving-storage" in made["ServingRuntime", "serving-runtime"].depends


def test_one_predictor_at_a_time_may_be_taken_away(made: Graph) -> None:
    budget = made["PodDisruptionBudget", "serving-predictors"].inputs
    pods = inference_service(Place(), Predictor(order=order(1), replicas=2))["spec"]["predictor"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= pods.items()
    assert (budget["metadata"]["namespace"], budget["spec"]["maxUnavailable"]) == ("models-staging", 1)


def test_a_predictor_that_is_not_ready_keeps_no_node_from_being_drained(made: Graph) -> None:
    assert made["PodDisruptionBudget", "serving-predictors"].inputs["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
