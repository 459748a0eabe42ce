"""The way in for inference requests: Envoy Gateway, and one Gateway whose load balancer is within the network only.

To predictors it speaks mutual TLS, as `gateway`. Whom it finds there it checks by a BackendTLSPolicy for each of their Services,
which the serving back end writes with the models (`services.serving.gateway`).
"""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.chart import Chart, release, sized
from services.core.tls import service_id

CHART: Final = Chart(name="oci://docker.io/envoyproxy/gateway-helm")
API: Final = "gateway.networking.k8s.io/v1"
OWN: Final = "gateway.envoyproxy.io"
CERTIFICATES: Final = "cert-manager.io/v1"
NAME: Final = "inference"
CLIENT: Final = "gateway"
"""Who it is to predictors."""
KEY: Final = {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"}
GROWTH: Final = 4
"""How many times as many proxies as at rest there may be."""
BUSY: Final = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
"""Of what a proxy asks for: there is another one before requests wait. The add-on metrics-server tells."""
INTERNAL: Final = {
    "service.beta.kubernetes.io/aws-load-balancer-type": "nlb",
    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
}
"""Envoy Gateway puts them on the Service of the Gateway; without the second one its address would be public."""


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """namespace: of controller and proxies, and of the Gateway; replicas: of the controller, and of proxies at rest.

    models: the only namespace whose routes it takes; domain: all hosts are below it; issuer: ClusterIssuer of its certificate.
    """

    namespace: str
    version: str
    replicas: int
    models: str
    domain: str
    issuer: Input[str]


class Gateway(pulumi.ComponentResource):
    """TLS of clients ends here, and requests go on to predictors over TLS of its own. Routes are KServe's to write."""

    def __init__(self, name: str, args: GatewayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Gateway", name, None, opts)
        self._args = args
        made = release("envoy-gateway", CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self._certificate(NAME, {"dnsNames": [f"*.{args.domain}"], "usages": ["digital signature", "server auth"]})
        client = self._certificate(CLIENT, {"uris": [service_id(CLIENT)], "usages": ["digital signature", "client auth"]})
        proxy = self._proxy(ResourceOptions(parent=self, depends_on=[made, client]))
        self._gateway(ResourceOptions(parent=self, depends_on=[made, proxy]))
        self.register_outputs({})

    def _certificate(self, name: str, of: dict[str, Any]) -> CustomResource:
        """By the environment's own authority: no other one's is believed by predictors."""
        spec = of | {
            "secretName": f"{name}-tls",
            "duration": "2160h",
            "renewBefore": "720h",
            "privateKey": KEY,
            "issuerRef": {"name": self._args.issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
        }
        return self._object(CERTIFICATES, "Certificate", self._args.namespace, spec, ResourceOptions(parent=self), name)

    def _proxy(self, opts: ResourceOptions) -> CustomResource:
        """How many proxies there are, and how they speak to predictors.

        Not as `Gateway.spec.tls.backend`: Envoy Gateway before 1.8 does not read it, and later ones let it replace all of this.
        The versions have to be said: as a client Envoy offers TLS 1.2 at most, and predictors take 1.3.
        """
        secret = {"group": "", "kind": "Secret", "name": f"{CLIENT}-tls", "namespace": self._args.namespace}
        tls = {"clientCertificateRef": secret, "minVersion": "1.3", "maxVersion": "1.3"}
        spec = {"backendTLS": tls, "provider": {"type": "Kubernetes", "kubernetes": _proxies(self._args.replicas)}}
        return self._object(f"{OWN}/v1alpha1", "EnvoyProxy", self._args.namespace, spec, opts)

    def _gateway(self, after: ResourceOptions) -> None:
        args = self._args
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
        proxy = {"group": OWN, "kind": "EnvoyProxy", "name": NAME}
        spec = {
            "gatewayClassName": NAME,
            "infrastructure": {"annotations": INTERNAL, "parametersRef": proxy},
            "listeners": [listener],
        }
        self._object(API, "Gateway", args.namespace, spec, ResourceOptions(parent=self, depends_on=[kind]))

    def _object(
        self, api: str, kind: str, namespace: str | None, spec: dict[str, Any], opts: ResourceOptions, name: str = NAME
    ) -> CustomResource:
        metadata = ObjectMetaArgs(name=name, namespace=namespace)
        return CustomResource(f"{name}-{kind.lower()}", api, kind, metadata=metadata, spec=spec, opts=opts)


def _proxies(replicas: int) -> dict[str, Any]:
    """Without state, so they come and go with the load, as our services cannot (ADR 20)."""
    zones = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    selector = {"matchLabels": {"gateway.envoyproxy.io/owning-gateway-name": NAME}}
    return {
        "envoyDeployment": {
            # No limit for the CPU: these are an object of ours, under no default of a chart.
            "container": {"resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}},
            "pod": {"topologySpreadConstraints": [zones | {"labelSelector": selector}]},
        },
        "envoyHpa": {"minReplicas": replicas, "maxReplicas": GROWTH * replicas, "metrics": [BUSY]},
        "envoyPDB": {"minAvailable": 1 if replicas > 1 else 0},
    }


def _values(args: GatewayArgs) -> dict[str, Any]:
    return {
        "deployment": {"replicas": args.replicas, "envoyGateway": {"resources": sized("100m", "1Gi")}},
        "podDisruptionBudget": {"minAvailable": 1 if args.replicas > 1 else 0},
    }
