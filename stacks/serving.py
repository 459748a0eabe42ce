"""What the builders of serving's objects are given in an environment."""

from typing import Final

from components.apps.calls import API_PORT
from components.apps.certificates import secret_of, service_names
from services.serving.inference import Place, RuntimeArgs
from services.serving.storage_container import StorageArgs
from stacks.config import AppsStack
from stacks.namespaces import SERVICES

TRUST: Final = "trust"
"""ConfigMap with trust.json, in the predictors' namespace. It holds public keys only; who verifies offline has the same file."""
API: Final = f"https://{service_names('api', SERVICES)[0]}:{API_PORT}"


def runtime_args(config: AppsStack) -> RuntimeArgs:
    """A predictor loads one small model and answers one request at a time."""
    place = Place()
    return RuntimeArgs(
        name=place.runtime,
        namespace=place.of(config.environment),
        image=config.apps.image,
        environment=config.environment,
        api=API,
        requests={"cpu": "1", "memory": "2Gi"},
        limits={"cpu": "2", "memory": "2Gi"},
        identity=secret_of("predictor"),
        trust=TRUST,
    )


def storage_args(config: AppsStack, objects: str) -> StorageArgs:
    """objects: where the API keeps its objects, as AI_INFRA_OBJECTS. Files go to the disk as they come, so memory does not grow
    with a model."""
    return StorageArgs(
        image=config.apps.image,
        environment=config.environment,
        api=API,
        objects=objects,
        requests={"cpu": "500m", "memory": "512Mi"},
        limits={"cpu": "2", "memory": "1Gi"},
    )
