"""What runs in the cluster for everybody, joined in the order in which each can work. Deployed from within the network."""

from pulumi import ResourceOptions

from components.platform.cert_manager import CertManager, CertManagerArgs
from components.platform.gateway import NAME as GATEWAY_NAME
from components.platform.gateway import Gateway, GatewayArgs
from components.platform.kserve import KServe, KServeArgs
from components.platform.monitoring import Monitoring, MonitoringArgs
from components.platform.namespaces import Namespaces, NamespacesArgs
from components.platform.shared_volume import SharedVolume, SharedVolumeArgs
from components.platform.storage import CLASS, Storage, StorageArgs
from components.platform.telemetry import Telemetry, TelemetryArgs
from components.platform.vault import Vault, VaultArgs
from services.training.placing import VOLUME
from stacks.cluster import after, cluster_provider, reference
from stacks.config import PlatformStack
from stacks.namespaces import CERTIFICATES, CONTROLLERS, GATEWAY, KSERVE, MONITORING, SERVICES, VAULT, levels, models, training
from stacks.outputs import GroundOutputs, PlatformOutputs
from stacks.platform_controllers import capacity, jobs


def platform(config: PlatformStack) -> None:
    ground = GroundOutputs.of(reference(config, "ground"))
    opts = ResourceOptions(providers=[cluster_provider(config, ground)])
    namespaces = Namespaces("namespaces", NamespacesArgs(levels=levels(config.environment)), opts)
    storage = Storage("storage", StorageArgs(key_arn=ground.disks_key_arn), opts)
    SharedVolume("runs", _runs(config, ground), after(opts, namespaces))
    # It has the definitions of monitors, which all charts after it make some of.
    monitoring = _monitoring(config, ground, after(opts, namespaces, storage))
    monitored = after(opts, monitoring)
    certificates = _certificates(config, monitored)
    certified = after(opts, certificates)
    capacity(config, ground, monitored)
    jobs(config, certified)
    _serving(config, certificates, certified)
    PlatformOutputs(
        issuer=certificates.issuer,
        vault_url=_vault(config, ground, certificates, certified).vault_url,
        prometheus_url=monitoring.prometheus_url,
        otlp_url=_telemetry(config, ground, monitored).otlp_url,
    ).export()


def _runs(config: PlatformStack, ground: GroundOutputs) -> SharedVolumeArgs:
    """Where the API and training jobs meet."""
    return SharedVolumeArgs(claim=VOLUME, namespaces=(SERVICES, training(config.environment)), handle=ground.runs_volume)


def _monitoring(config: PlatformStack, ground: GroundOutputs, opts: ResourceOptions) -> Monitoring:
    wanted = config.platform
    args = MonitoringArgs(
        namespace=MONITORING,
        watched=sorted(CONTROLLERS),
        version=wanted.charts["kube-prometheus-stack"],
        replicas=wanted.metrics.replicas,
        retention_days=wanted.metrics.retention_days,
        storage_gib=wanted.metrics.storage_gib,
        storage_class=CLASS,
        region=config.region,
        topic_arn=ground.alerts_topic_arn,
        role_arn=ground.role_arns["alertmanager"],
    )
    return Monitoring("monitoring", args, opts)


def _certificates(config: PlatformStack, opts: ResourceOptions) -> CertManager:
    wanted = config.platform
    args = CertManagerArgs(
        environment=config.environment, namespace=CERTIFICATES, version=wanted.charts["cert-manager"], replicas=wanted.replicas
    )
    return CertManager("cert-manager", args, opts)


def _serving(config: PlatformStack, certificates: CertManager, opts: ResourceOptions) -> None:
    wanted = config.platform
    gateway = Gateway(
        "gateway",
        GatewayArgs(
            namespace=GATEWAY,
            version=wanted.charts["envoy-gateway"],
            replicas=wanted.replicas,
            models=models(config.environment),
            domain=wanted.domain,
            issuer=certificates.issuer,
        ),
        opts,
    )
    args = KServeArgs(namespace=KSERVE, version=wanted.charts["kserve"], gateway=f"{GATEWAY}/{GATEWAY_NAME}", domain=wanted.domain)
    KServe("kserve", args, after(opts, gateway))


def _vault(config: PlatformStack, ground: GroundOutputs, certificates: CertManager, opts: ResourceOptions) -> Vault:
    wanted = config.platform
    args = VaultArgs(
        namespace=VAULT,
        version=wanted.charts["vault"],
        replicas=wanted.vault.replicas,
        storage_gib=wanted.vault.storage_gib,
        audit_gib=wanted.vault.audit_gib,
        storage_class=CLASS,
        region=config.region,
        unseal_key_arn=ground.unseal_key_arn,
        role_arn=ground.role_arns["vault"],
        issuer=certificates.issuer,
    )
    return Vault("vault", args, opts)


def _telemetry(config: PlatformStack, ground: GroundOutputs, opts: ResourceOptions) -> Telemetry:
    wanted = config.platform
    args = TelemetryArgs(
        namespace=MONITORING,
        version=wanted.charts["opentelemetry-collector"],
        replicas=wanted.replicas,
        region=config.region,
        role_arn=ground.role_arns["opentelemetry-collector"],
    )
    return Telemetry("telemetry", args, opts)
