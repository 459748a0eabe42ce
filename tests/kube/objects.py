"""Small values that the tests here build objects from."""

from typing import Any

from services.core.digests import FileEntry, sha256
from services.serving.inference import RuntimeArgs
from services.serving.predictor.order import Order
from services.serving.storage_container import StorageArgs
from services.training.rayjob import RayJobArgs

IMAGE = "registry.example/ai-infra@" + sha256(b"image")


def order(number: int, model: str = "digits", environment: str = "staging", deployment: str = "") -> Order:
    return Order(
        deployment=deployment or f"dep-{number:032x}",
        environment=environment,
        model=model,
        number=number,
        artifact_id=sha256(f"artifact {number}".encode()),
        files=(FileEntry("config.json", 1, sha256(b"x")),),
        manifest=sha256(f"manifest {number}".encode()),
        bundle=sha256(f"bundle {number}".encode()),
    )


def runtime_args(namespace: str, image: str = IMAGE) -> RuntimeArgs:
    return RuntimeArgs(
        name="ai-infra",
        namespace=namespace,
        image=image,
        environment="staging",
        api="https://api.ai-infra.svc:8443",
        requests={"cpu": "1", "memory": "2Gi"},
        limits={"memory": "2Gi"},
        identity="predictor-tls",
        trust="trust",
    )


def storage_args(image: str = IMAGE) -> StorageArgs:
    return StorageArgs(
        image=image,
        environment="staging",
        api="https://api.ai-infra.svc:8443",
        objects="s3://ai-infra-staging-111122223333-artifacts/objects?retention_days=1",
        region="eu-central-1",
        requests={"cpu": "1", "memory": "1Gi"},
        limits={"memory": "1Gi"},
    )


def ray_job_args(namespace: str, **more: Any) -> RayJobArgs:
    values: dict[str, Any] = {
        "run_id": "run-0001",
        "namespace": namespace,
        "account": "training",
        "image": IMAGE,
        "ray_version": "2.60.0",
        "workers": 2,
        "requests": {"cpu": "4", "memory": "16Gi"},
        "gpus": 1,
        "spot": True,
        "queue": "team-a",
        "priority": "research",
        "volume": "runs",
        "limit_s": 86_400,
    }
    return RayJobArgs(**(values | more))
