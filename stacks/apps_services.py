"""What the API and the signing proxy of an environment are given."""

from components.apps.api import ApiArgs, Training
from components.apps.calls import API, PROXY
from components.apps.signing_proxy import IN_KMS, SigningProxyArgs
from components.platform.storage import CLASS
from services.training.placing import VOLUME
from stacks.config import AppsStack
from stacks.namespaces import SERVICES
from stacks.outputs import GroundOutputs, PlatformOutputs
from stacks.serving import STORE


def api_args(config: AppsStack, ground: GroundOutputs, platform: PlatformOutputs) -> ApiArgs:
    wanted = config.apps
    return ApiArgs(
        environment=config.environment,
        region=config.region,
        namespace=SERVICES,
        image=wanted.image,
        opa_image=wanted.opa_image,
        database=ground.database_endpoint,
        store=ground.store_names[STORE],
        retention_days=wanted.retention_days,
        prometheus_url=platform.prometheus_url,
        otlp_url=platform.otlp_url,
        role_arn=ground.role_arns[API],
        training=Training(image=wanted.training_image, runs=VOLUME, queue=wanted.queue, priority=wanted.priority),
        storage_class=CLASS,
        witnesses=wanted.witnesses.urls,
    )


def proxy_args(config: AppsStack, ground: GroundOutputs, platform: PlatformOutputs) -> SigningProxyArgs:
    return SigningProxyArgs(
        environment=config.environment,
        region=config.region,
        namespace=SERVICES,
        image=config.apps.image,
        database=ground.database_endpoint,
        aliases={name: ground.signing_aliases[name] for name in IN_KMS},
        versions=config.apps.key_versions,
        vault_url=platform.vault_url,
        otlp_url=platform.otlp_url,
        role_arn=ground.role_arns[PROXY],
    )
