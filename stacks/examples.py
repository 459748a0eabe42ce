"""`python -m stacks.examples`: writes `stacks/<env>/inference` and `stacks/<env>/jobs` anew, by the builders of the back ends.

They show what the platform puts into a cluster, and are judged with it. Digests of models, deployments and runs in them are made
up: real ones are written by `ai-infra deploy`, `ai-infra rollout start` and `ai-infra train`.
"""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

from services.core.digests import FileEntry, sha256
from services.core.kube import Object
from services.core.settings import ENVIRONMENTS
from services.serving.gateway import backend_policies
from services.serving.inference import Place, Predictor, Split, allowed, inference_service, serving_runtime
from services.serving.predictor.order import Order
from services.serving.storage_container import storage_container
from services.training.placing import ACCOUNT, VOLUME, WORKER_CPU, WORKER_MEMORY_GIB
from services.training.rayjob import RayJobArgs, ray_job
from stacks.config import AppsStack, PlatformStack, Stack, parse
from stacks.namespaces import training
from stacks.serving import runtime_args, storage_args

ROOT: Final = Path(__file__).resolve().parent
HEADER: Final = "# Written by `make examples`: the builders in services/ change it, no hand does.\n"
REPLICAS: Final[Mapping[str, int]] = {"dev": 1, "staging": 2, "prod": 3}
CANARY: Final = Split(rollout="rol-00000000000000000000000000000001", phases=((0.01, 1_767_225_600_000), (0.1, 1_767_229_200_000)))
"""An hour at 1 %, since then 10 %."""


class _Plain(yaml.SafeDumper):
    """Without anchors: what two objects share is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def examples(environment: str) -> dict[Path, str]:
    """Path within the checkout's `stacks` → text."""
    apps, platform = _config(environment, "apps"), _config(environment, "platform")
    assert isinstance(apps, AppsStack)
    assert isinstance(platform, PlatformStack)
    place = Place()
    stable, canary = (Predictor(order=_order(environment, number), replicas=REPLICAS[environment]) for number in (1, 2))
    service = inference_service(place, stable, canary, CANARY)
    objects = {
        "inference/storage-container": storage_container(storage_args(apps)),
        "inference/serving-runtime": serving_runtime(runtime_args(apps)),
        "inference/servable-models": allowed(place.of(environment), [stable.order, canary.order]),
        "inference/digits": service,
        **{f"inference/{policy['metadata']['name']}": policy for policy in backend_policies(place, service)},
        "jobs/digits": ray_job(_job(apps, platform)),
    }
    return {Path(environment, f"{name}.yaml"): HEADER + _text(item) for name, item in objects.items()}


def write(root: Path = ROOT) -> None:
    """Writes all files of all environments, and removes what is no longer one."""
    for environment in ENVIRONMENTS:
        written = {root / path: text for path, text in examples(environment).items()}
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for folder in {path.parent for path in written}:
            for path in set(folder.glob("*.yaml")) - written.keys():
                path.unlink()


def _config(environment: str, layer: str) -> Stack:
    name = f"{environment}-{layer}"
    text = (ROOT / environment / f"Pulumi.{name}.yaml").read_text(encoding="utf-8")
    return parse(name, yaml.safe_load(text)["config"]["ai-infra:stack"])


def _order(environment: str, number: int) -> Order:
    def made_up(what: str) -> str:
        return sha256(f"{environment} {what} {number}".encode())

    return Order(
        deployment=f"dep-{number:032x}",
        environment=environment,
        model="digits",
        number=number,
        artifact_id=made_up("artifact"),
        files=(FileEntry("config.json", 1, made_up("file")),),
        manifest=made_up("manifest"),
        bundle=made_up("bundle"),
    )


def _job(apps: AppsStack, platform: PlatformStack) -> RayJobArgs:
    """Two workers with a GPU each, on spot, in the first team's queue with the least priority."""
    capacity = platform.platform.capacity
    return RayJobArgs(
        run_id="run-00000000000000000000000000000001",
        namespace=training(apps.environment),
        account=ACCOUNT,
        image=apps.apps.training_image,
        ray_version=metadata.version("ray"),
        workers=2,
        requests={"cpu": str(WORKER_CPU), "memory": f"{WORKER_MEMORY_GIB}Gi"},
        gpus=1,
        spot=True,
        queue=capacity.teams[0].name,
        priority=min(capacity.priorities, key=capacity.priorities.__getitem__),
        volume=VOLUME,
        limit_s=86_400,
    )


def _text(item: Object) -> str:
    return yaml.dump(item, Dumper=_Plain, sort_keys=False, width=132, allow_unicode=True)


if __name__ == "__main__":
    write()
