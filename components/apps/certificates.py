"""Certificates of an environment's services: one SPIFFE URI each, from the authority that the platform made.

Not here: the authority, and certificates of people, which are asked for by hand from the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from services.core.tls import service_id

API: Final = "cert-manager.io/v1"
KEY: Final = {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a certificate. names: DNS names under which it is called, none for who only calls."""

    namespace: str
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CertificatesArgs:
    """issuer: a ClusterIssuer; holders: by the service's name in its SPIFFE URI; hours: that a certificate is valid, renewed after
    two thirds of them."""

    issuer: Input[str]
    holders: Mapping[str, Holder]
    hours: int = 2160

    def __post_init__(self) -> None:
        if self.hours < 3:
            raise ValueError(f"hours is {self.hours}: cert-manager renews nothing that is valid for less than 3")


class Certificates(pulumi.ComponentResource):
    """Secret `NAME-tls` in each holder's namespace, with tls.crt, tls.key and ca.crt."""

    def __init__(self, name: str, args: CertificatesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Certificates", name, None, opts)
        for service, holder in args.holders.items():
            CustomResource(
                f"{service}-certificate",
                API,
                "Certificate",
                metadata=ObjectMetaArgs(name=service, namespace=holder.namespace),
                spec=_spec(service, holder, args),
                opts=ResourceOptions(parent=self),
            )
        self.register_outputs({})


def secret_of(service: str) -> str:
    """Name of the secret with a service's certificate."""
    return f"{service}-tls"


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """DNS names of a Service, and the one under which probes, and people who forward its port, call it."""
    within = f"{service}.{namespace}.svc"
    return (within, f"{within}.cluster.local", "localhost")


def _spec(service: str, holder: Holder, args: CertificatesArgs) -> dict[str, Any]:
    named = {"dnsNames": list(holder.names)} if holder.names else {}
    return named | {
        "secretName": secret_of(service),
        "duration": f"{args.hours}h",
        "renewBefore": f"{args.hours // 3}h",
        "privateKey": KEY,
        "uris": [service_id(service)],
        "usages": ["digital signature", "client auth", *(["server auth"] if holder.names else [])],
        "issuerRef": {"name": args.issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
    }
