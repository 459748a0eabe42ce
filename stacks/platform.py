"""What runs in the cluster for everybody, joined from components. Deployed from within the network: its API is private."""

from pulumi import Output, ResourceOptions

from components.platform.namespaces import Namespaces, NamespacesArgs
from stacks.cluster import cluster_provider, reference
from stacks.config import PlatformStack
from stacks.namespaces import levels
from stacks.outputs import GroundOutputs, PlatformOutputs


def platform(config: PlatformStack) -> None:
    ground = GroundOutputs.of(reference(config, "ground"))
    opts = ResourceOptions(providers=[cluster_provider(config, ground)])
    Namespaces("namespaces", NamespacesArgs(levels=levels(config.environment)), opts)
    PlatformOutputs(
        opa_url=Output.from_input("https://opa.opa.svc:8181"),
        vault_url=Output.from_input("https://vault-active.vault.svc:8200"),
        prometheus_url=Output.from_input("http://prometheus.monitoring.svc:9090"),
        otlp_url=Output.from_input("http://opentelemetry-collector.monitoring.svc:4318"),
    ).export()
