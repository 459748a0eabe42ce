"""cert-manager, and the authority of an environment: its own, known to nobody outside.

The authority's key is a secret of cert-manager's namespace, so none of our pods is near it. Whoever may make Certificates may have
any identity: no role of ours includes it, and the chart must not add it to the cluster's own `edit` and `admin`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.chart import Chart, release, sized

CHART: Final = Chart(name="cert-manager", repository="https://charts.jetstack.io")
ACCOUNT: Final = "cert-manager"
"""Service account of the controller: the only one that may ask the authority (`services.core.certificate_admission`)."""
API: Final = "cert-manager.io/v1"
GROUP: Final = "cert-manager.io"
AUTHORITY: Final = "ai-infra"
"""Name of the ClusterIssuer."""
KEY: Final = {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8"}


@dataclass(frozen=True, kw_only=True)
class CertManagerArgs:
    """replicas: of the controller, and of the webhook without which nobody makes a Certificate."""

    environment: str
    namespace: str
    version: str
    replicas: int


class CertManager(pulumi.ComponentResource):
    issuer: Output[str]
    """Name of the ClusterIssuer that signs for the environment."""

    def __init__(self, name: str, args: CertManagerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:CertManager", name, None, opts)
        self._args = args
        made = release(name, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        authority = self._authority(ResourceOptions(parent=self, depends_on=[made]))
        self.issuer = authority.id.apply(lambda _: AUTHORITY)
        self.register_outputs({"issuer": self.issuer})

    def _authority(self, opts: ResourceOptions) -> CustomResource:
        """Signs itself once; its key is kept when its certificate is renewed, so that old leaves still chain to it."""
        itself = _object("ClusterIssuer", "self-signed", f"{AUTHORITY}-self-signed", None, {"selfSigned": {}}, opts)
        spec = {
            "isCA": True,
            "commonName": f"ai-infra {self._args.environment}",
            "secretName": f"{AUTHORITY}-ca",
            "duration": "87600h",
            "renewBefore": "17520h",
            "privateKey": KEY | {"rotationPolicy": "Never"},
            "usages": ["cert sign", "crl sign"],
            "issuerRef": {"name": f"{AUTHORITY}-self-signed", "kind": "ClusterIssuer", "group": GROUP},
        }
        after = ResourceOptions(parent=self, depends_on=[itself])
        # Where cert-manager looks for the secrets of ClusterIssuers.
        root = _object("Certificate", "authority-certificate", f"{AUTHORITY}-ca", self._args.namespace, spec, after)
        ready = ResourceOptions(parent=self, depends_on=[root])
        return _object("ClusterIssuer", "authority", AUTHORITY, None, {"ca": {"secretName": f"{AUTHORITY}-ca"}}, ready)


def _values(args: CertManagerArgs) -> dict[str, Any]:
    budget = {"enabled": args.replicas > 1}
    return {
        # Its default lets everybody with `edit` in one namespace have a certificate of any service or person.
        "global": {"rbac": {"aggregateClusterRoles": False}},
        # Kept with what was made of them when the release goes.
        "crds": {"enabled": True, "keep": True},
        "serviceAccount": {"name": ACCOUNT},
        "replicaCount": args.replicas,
        "podDisruptionBudget": budget,
        "resources": sized("50m", "128Mi"),
        "webhook": {"replicaCount": args.replicas, "podDisruptionBudget": budget, "resources": sized("50m", "64Mi")},
        "cainjector": {"resources": sized("50m", "256Mi")},
        # Its series are about other namespaces than its own.
        "prometheus": {"enabled": True, "servicemonitor": {"enabled": True, "honorLabels": True}},
    }


def _object(
    kind: str, logical: str, name: str, namespace: str | None, spec: Mapping[str, Any], opts: ResourceOptions
) -> CustomResource:
    metadata = ObjectMetaArgs(name=name, namespace=namespace)
    return CustomResource(logical, API, kind, metadata=metadata, spec=dict(spec), opts=opts)
