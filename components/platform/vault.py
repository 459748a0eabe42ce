"""Vault: replicas that agree by Raft, unsealed by a key of KMS, and reached by TLS only.

Not here: its first initialisation, which gives the recovery keys to people and to no program, and what is in it (`vault_access`).
"""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.chart import Chart, release, sized
from components.trust import takes

CHART: Final = Chart(name="vault", repository="https://helm.releases.hashicorp.com")
TLS: Final = "/vault/tls"
CERTIFICATE: Final = "vault-tls"
ACTIVE: Final = "vault-active"
"""Service of the replica that leads, the only one that writes."""
ADDRESSES: Final = ("127.0.0.1",)
"""In its certificate: of probes, and of who forwards the port."""


@dataclass(frozen=True, kw_only=True)
class VaultArgs:
    """replicas: an odd number, of which more than half must run; unseal_key_arn: in region, used by the service account `vault`,
    whose role is role_arn.

    storage_gib, audit_gib: of each replica, for what it holds and for its record of every request. issuer: ClusterIssuer of its
    certificate.
    """

    namespace: str
    version: str
    replicas: int
    storage_gib: int
    audit_gib: int
    storage_class: str
    region: str
    unseal_key_arn: Input[str]
    role_arn: Input[str]
    issuer: Input[str]

    def __post_init__(self) -> None:
        if self.replicas % 2 == 0:
            raise ValueError(f"replicas is {self.replicas}: an even number survives no more than the odd one below it")


class Vault(pulumi.ComponentResource):
    vault_url: Output[str]

    def __init__(self, name: str, args: VaultArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Vault", name, None, opts)
        certificate = CustomResource(
            "vault-certificate",
            "cert-manager.io/v1",
            "Certificate",
            metadata=ObjectMetaArgs(name="vault", namespace=args.namespace),
            spec=_certificate(args),
            opts=ResourceOptions(parent=self),
        )
        after = ResourceOptions(parent=self, depends_on=[certificate])
        release(name, CHART, args.version, args.namespace, _values(args), after)
        self.vault_url = Output.from_input(f"https://{ACTIVE}.{args.namespace}.svc:8200")
        self.register_outputs({"vault_url": self.vault_url})


def _certificate(args: VaultArgs) -> dict[str, Any]:
    services = [f"{service}.{args.namespace}.svc" for service in (ACTIVE, "vault", "vault-standby")]
    return {
        "secretName": CERTIFICATE,
        "duration": "2160h",
        "renewBefore": "720h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
        # The last as ADDRESSES.
        "dnsNames": [*services, *(f"{service}.cluster.local" for service in services), "*.vault-internal", "localhost"],
        "ipAddresses": list(ADDRESSES),
        "usages": ["digital signature", "server auth", "client auth"],
        "issuerRef": {"name": args.issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
    }


def _values(args: VaultArgs) -> dict[str, Any]:
    raft = {"enabled": True, "setNodeId": True, "config": _configuration(args)}
    return {
        "global": {"tlsDisable": False, "serverTelemetry": {"prometheusOperator": True}},
        "injector": {"enabled": False},
        "serverTelemetry": {"serviceMonitor": {"enabled": True}},
        "server": {
            "serviceAccount": {"name": "vault", "annotations": takes(args.role_arn)},
            # It asks the API server whose token a pod shows.
            "authDelegator": {"enabled": True},
            # The chart's budget for one replica lets it never go, and so no node be drained.
            "ha": {"enabled": True, "replicas": args.replicas, "raft": raft, "disruptionBudget": {"enabled": args.replicas > 1}},
            "dataStorage": {"size": f"{args.storage_gib}Gi", "storageClass": args.storage_class},
            "auditStorage": {"enabled": True, "size": f"{args.audit_gib}Gi", "storageClass": args.storage_class},
            "extraEnvironmentVars": {"VAULT_CACERT": f"{TLS}/ca.crt"},
            "volumes": [{"name": "tls", "secret": {"secretName": CERTIFICATE}}],
            "volumeMounts": [{"name": "tls", "mountPath": TLS, "readOnly": True}],
            # Ready before somebody initialises it, or the release would never be done.
            "readinessProbe": {"enabled": True, "path": "/v1/sys/health?standbyok=true&sealedcode=204&uninitcode=204"},
            "topologySpreadConstraints": [_spread()],
            "resources": sized("250m", "512Mi"),
            "statefulSet": {"securityContext": _security()},
        },
    }


def _spread() -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "vault", "component": "server"}
    zone = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    return zone | {"labelSelector": {"matchLabels": labels}}


def _security() -> dict[str, Any]:
    """100 and 1000: user and group of the image."""
    pod = {"runAsNonRoot": True, "runAsUser": 100, "runAsGroup": 1000, "fsGroup": 1000}
    return {
        "pod": pod | {"seccompProfile": {"type": "RuntimeDefault"}},
        "container": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _configuration(args: VaultArgs) -> Output[str]:
    """HCL. It has no mlock, which Raft's memory-mapped file would make useless; nodes have no swap."""
    return Output.concat(
        f"""\
ui = false
disable_mlock = true

listener "tcp" {{
  address            = "[::]:8200"
  cluster_address    = "[::]:8201"
  tls_cert_file      = "{TLS}/tls.crt"
  tls_key_file       = "{TLS}/tls.key"
  tls_min_version    = "tls12"

  telemetry {{
    unauthenticated_metrics_access = true
  }}
}}

storage "raft" {{
  path = "/vault/data"
{"".join(_join(number) for number in range(args.replicas))}}}

seal "awskms" {{
  region     = "{args.region}"
  kms_key_id = \"""",
        args.unseal_key_arn,
        """"
}

service_registration "kubernetes" {}

telemetry {
  prometheus_retention_time = "24h"
  disable_hostname          = true
}
""",
    )


def _join(number: int) -> str:
    return f"""
  retry_join {{
    leader_api_addr     = "https://vault-{number}.vault-internal:8200"
    leader_ca_cert_file = "{TLS}/ca.crt"
  }}
"""
