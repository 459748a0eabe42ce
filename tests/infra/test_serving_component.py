"""What the program makes for predictors: exactly what the serving service states, guarded from the first moment."""

from itertools import pairwise
from typing import Any

import pytest

from components.apps.serving import Serving, ServingArgs
from services.serving.admission import binding, policy
from services.serving.inference import Place, Predictor, inference_service, serving_runtime
from services.serving.storage_container import storage_container
from tests.infra.recorded import Graph, recorded
from tests.kube.objects import order, runtime_args, storage_args

ARGS = ServingArgs(
    policy=policy(Place()),
    binding=binding(),
    storage=storage_container(storage_args()),
    runtime=serving_runtime(runtime_args("models-staging")),
)
STATED = (ARGS.policy, ARGS.binding, ARGS.storage, ARGS.runtime)


@pytest.fixture(scope="module")
def made() -> Graph:
    return recorded(lambda: Serving("serving", ARGS))


def test_objects_are_those_that_the_service_states(made: Graph) -> None:
    found: dict[str, Any] = {kind: item.inputs for (kind, _), item in made.items() if "spec" in item.inputs}
    assert {kind: found[kind] for kind in found if kind != "PodDisruptionBudget"} == {item["kind"]: item for item in STATED}


def test_nothing_can_be_served_before_the_policy_is_in_force(made: Graph) -> None:
    order = [item["kind"] for item in STATED]
    waits = {kind: made[kind, f"serving-{kind}"].depends for kind in order}
    assert [f"serving-{before}" in waits[kind] for before, kind in pairwise(order)] == [True, True, True]


def test_one_predictor_at_a_time_may_be_taken_away(made: Graph) -> None:
    budget = made["PodDisruptionBudget", "serving-predictors"].inputs
    pods = inference_service(Place(), Predictor(order=order(1), replicas=2))["spec"]["predictor"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= pods.items()
    assert (budget["metadata"]["namespace"], budget["spec"]["maxUnavailable"]) == ("models-staging", 1)
