"""Certificates of an environment's services, from an authority of its own within the cluster: one SPIFFE URI each.

The authority's key is a secret of cert-manager's namespace, so none of our pods is near it. Whoever may make Certificates there is
may have any identity: no role of ours includes it. People's certificates come from the same authority, and are asked for by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from services.core.tls import service_id

API: Final = "cert-manager.io/v1"
AUTHORITY: Final = "ai-infra"
"""Name of the ClusterIssuer."""
CONTROLLER: Final = "cert-manager"
"""Namespace in which cert-manager looks for the secrets of ClusterIssuers."""
KEY: Final = {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8"}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a certificate. names: DNS names under which it is called, none for who only calls."""

    namespace: str
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CertificatesArgs:
    """holders: by the service's name in its SPIFFE URI; hours: that a certificate is valid, renewed after two thirds of them."""

    environment: str
    holders: Mapping[str, Holder]
    hours: int = 2160

    def __post_init__(self) -> None:
        if self.hours < 3:
            raise ValueError(f"hours is {self.hours}: cert-manager renews nothing that lives for less than 3")


class Certificates(pulumi.ComponentResource):
    """Secret `NAME-tls` in each holder's namespace, with tls.crt, tls.key and ca.crt."""

    def __init__(self, name: str, args: CertificatesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Certificates", name, None, opts)
        self._args, self._child = args, ResourceOptions(parent=self)
        authority = self._authority()
        after = ResourceOptions(parent=self, depends_on=[authority])
        for service, holder in args.holders.items():
            spec = self._leaf(service, holder)
            _object("Certificate", f"{service}-certificate", service, holder.namespace, spec, after)
        self.register_outputs({})

    def _authority(self) -> CustomResource:
        """Signs itself once; its key is kept when its certificate is renewed, so that old leaves still chain to it."""
        itself = _object("ClusterIssuer", "self-signed", f"{AUTHORITY}-self-signed", None, {"selfSigned": {}}, self._child)
        spec = {
            "isCA": True,
            "commonName": f"ai-infra {self._args.environment}",
            "secretName": f"{AUTHORITY}-ca",
            "duration": "87600h",
            "renewBefore": "17520h",
            "privateKey": KEY | {"rotationPolicy": "Never"},
            "usages": ["cert sign", "crl sign"],
            "issuerRef": {"name": f"{AUTHORITY}-self-signed", "kind": "ClusterIssuer", "group": "cert-manager.io"},
        }
        after = ResourceOptions(parent=self, depends_on=[itself])
        root = _object("Certificate", "authority-certificate", f"{AUTHORITY}-ca", CONTROLLER, spec, after)
        ready = ResourceOptions(parent=self, depends_on=[root])
        return _object("ClusterIssuer", "authority", AUTHORITY, None, {"ca": {"secretName": f"{AUTHORITY}-ca"}}, ready)

    def _leaf(self, service: str, holder: Holder) -> dict[str, Any]:
        named = {"dnsNames": list(holder.names)} if holder.names else {}
        return named | {
            "secretName": secret_of(service),
            "duration": f"{self._args.hours}h",
            "renewBefore": f"{self._args.hours // 3}h",
            "privateKey": KEY | {"rotationPolicy": "Always"},
            "uris": [service_id(service)],
            "usages": ["digital signature", "client auth", *(["server auth"] if holder.names else [])],
            "issuerRef": {"name": AUTHORITY, "kind": "ClusterIssuer", "group": "cert-manager.io"},
        }


def secret_of(service: str) -> str:
    return f"{service}-tls"


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """DNS names of a Service, and the one under which its port is forwarded to a person's own machine."""
    within = f"{service}.{namespace}.svc"
    return (within, f"{within}.cluster.local", "localhost")


def _object(
    kind: str, logical: str, name: str, namespace: str | None, spec: Mapping[str, Any], opts: ResourceOptions
) -> CustomResource:
    metadata = ObjectMetaArgs(name=name, namespace=namespace)
    return CustomResource(logical, API, kind, metadata=metadata, spec=dict(spec), opts=opts)
