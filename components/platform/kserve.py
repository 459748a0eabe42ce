"""KServe's controller, for raw deployments behind the Gateway API. No runtime of its own: ours verifies what it loads."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import ResourceOptions

from components.platform.chart import Chart, release, sized

DEFINITIONS: Final = Chart(name="oci://ghcr.io/kserve/charts/kserve-crd")
CHART: Final = Chart(name="oci://ghcr.io/kserve/charts/kserve-resources")


@dataclass(frozen=True, kw_only=True)
class KServeArgs:
    """gateway: NAMESPACE/NAME of the Gateway that its routes attach to; domain: that of the Gateway."""

    namespace: str
    version: str
    gateway: str
    domain: str


class KServe(pulumi.ComponentResource):
    """After cert-manager, which signs for its webhooks, and after the definitions of the Gateway API."""

    def __init__(self, name: str, args: KServeArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:KServe", name, None, opts)
        child = ResourceOptions(parent=self)
        definitions = release(f"{name}-crd", DEFINITIONS, args.version, args.namespace, {}, child)
        after = ResourceOptions(parent=self, depends_on=[definitions])
        release(name, CHART, args.version, args.namespace, _values(args), after)
        self.register_outputs({})


def _values(args: KServeArgs) -> dict[str, Any]:
    gateway = {
        "domain": args.domain,
        "urlScheme": "https",
        "disableIstioVirtualHost": True,
        "ingressGateway": {"enableGatewayApi": True, "createGateway": False, "kserveGateway": args.gateway},
    }
    return {
        "kserve": {
            "controller": {"deploymentMode": "RawDeployment", "gateway": gateway, "resources": sized("100m", "512Mi")},
            # Predictors ask the API server nothing.
            "security": {"autoMountServiceAccountToken": False},
            "localmodel": {"enabled": False},
        }
    }
