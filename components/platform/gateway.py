"""The way in for inference requests: Envoy Gateway, and one Gateway whose load balancer is within the network only."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.helm.v3 import Release
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.chart import Chart, release, sized

CHART: Final = Chart(name="oci://docker.io/envoyproxy/gateway-helm")
API: Final = "gateway.networking.k8s.io/v1"
NAME: Final = "inference"
INTERNAL: Final = {
    "service.beta.kubernetes.io/aws-load-balancer-type": "nlb",
    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
}
"""Envoy Gateway puts them on the Service of the Gateway; without the second one its address would be public."""


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """namespace: of controller and proxies, and of the Gateway; models: the only namespace whose routes it takes.

    domain: all hosts are below it; issuer: ClusterIssuer of its certificate.
    """

    namespace: str
    version: str
    replicas: int
    models: str
    domain: str
    issuer: Input[str]


class Gateway(pulumi.ComponentResource):
    """TLS ends here, and requests go on to predictors. Routes are KServe's to write."""

    def __init__(self, name: str, args: GatewayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Gateway", name, None, opts)
        self._args = args
        made = release("envoy-gateway", CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self._certificate()
        self._gateway(made)
        self.register_outputs({})

    def _certificate(self) -> None:
        spec = {
            "secretName": f"{NAME}-tls",
            "duration": "2160h",
            "renewBefore": "720h",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
            "dnsNames": [f"*.{self._args.domain}"],
            "usages": ["digital signature", "server auth"],
            "issuerRef": {"name": self._args.issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
        }
        self._object("cert-manager.io/v1", "Certificate", self._args.namespace, spec, ResourceOptions(parent=self))

    def _gateway(self, made: Release) -> None:
        args, after = self._args, ResourceOptions(parent=self, depends_on=[made])
        controller = {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}
        kind = self._object(API, "GatewayClass", None, controller, after)
        listener = {
            "name": "https",
            "protocol": "HTTPS",
            "port": 443,
            "hostname": f"*.{args.domain}",
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": f"{NAME}-tls"}]},
            "allowedRoutes": {
                "namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": args.models}}},
                "kinds": [{"kind": "HTTPRoute"}],
            },
        }
        spec = {"gatewayClassName": NAME, "infrastructure": {"annotations": INTERNAL}, "listeners": [listener]}
        self._object(API, "Gateway", args.namespace, spec, ResourceOptions(parent=self, depends_on=[kind]))

    def _object(self, api: str, kind: str, namespace: str | None, spec: dict[str, Any], opts: ResourceOptions) -> CustomResource:
        metadata = ObjectMetaArgs(name=NAME, namespace=namespace)
        return CustomResource(f"{NAME}-{kind.lower()}", api, kind, metadata=metadata, spec=spec, opts=opts)


def _values(args: GatewayArgs) -> dict[str, Any]:
    return {
        "deployment": {"replicas": args.replicas, "envoyGateway": {"resources": sized("100m", "256Mi")}},
        "podDisruptionBudget": {"minAvailable": 1 if args.replicas > 1 else 0},
    }
