"""What the builders of serving's objects are given in an environment."""

from typing import Final

from components.apps.calls import API_PORT
from components.apps.certificates import service_names
from components.apps.common import TRUST_MAP
from components.store_names import store_name
from services.serving.inference import Place, RuntimeArgs
from services.serving.storage_container import StorageArgs
from stacks.config import AppsStack
from stacks.namespaces import SERVICES

STORE: Final = "artifacts"
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
        identity=place.identity,
        trust=TRUST_MAP,
    )


def objects(config: AppsStack) -> str:
    """AI_INFRA_OBJECTS of predictors. The bucket's name is known before the bucket is."""
    bucket = store_name(config.environment, config.account, STORE)
    return f"s3://{bucket}/objects?retention_days={config.apps.retention_days}"


def storage_args(config: AppsStack) -> StorageArgs:
    """Files go to the disk as they come, so memory does not grow with a model."""
    return StorageArgs(
        image=config.apps.image,
        environment=config.environment,
        api=API,
        objects=objects(config),
        region=config.region,
        requests={"cpu": "500m", "memory": "512Mi"},
        limits={"cpu": "2", "memory": "1Gi"},
    )
