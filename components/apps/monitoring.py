"""What Prometheus and Grafana are given about our services: which pods to scrape, rules, dashboards.

Rules and dashboards lie as their own tools' files in `monitoring/`, so that promtool and Grafana take them as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi
import yaml
from pulumi import ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import ConfigMap
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.apps.calls import NAME
from services.core.metrics import PATH

API: Final = "monitoring.coreos.com/v1"
FOLDER: Final = Path(__file__).resolve().parents[2] / "monitoring"
DASHBOARD: Final = {"grafana_dashboard": "1"}
"""Label by which Grafana's sidecar finds dashboards."""


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """Pods of one service. port: name of the container's port; server_name: in the certificate that they show."""

    name: str
    namespace: str
    port: str
    server_name: str


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """namespace: of Prometheus and Grafana; secret: there, with the certificate that Prometheus shows, its key and our CA."""

    namespace: str
    secret: str
    scraped: Sequence[Scraped]
    interval_s: int = 15


class Monitoring(pulumi.ComponentResource):
    """Everything is in Prometheus' own namespace: a namespace of ours needs no right over what is watched."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Monitoring", name, None, opts)
        self._args, self._child = args, ResourceOptions(parent=self)
        for scraped in args.scraped:
            self._custom("PodMonitor", scraped.name, pod_monitor(scraped, args.secret, args.interval_s))
        self._custom("PrometheusRule", "ai-infra", yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8")))
        for path in sorted(FOLDER.glob("dashboards/*.json")):
            self._dashboard(path)
        self.register_outputs({})

    def _custom(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        metadata = ObjectMetaArgs(name=name, namespace=self._args.namespace)
        CustomResource(f"{name}-{kind.lower()}", api_version=API, kind=kind, metadata=metadata, spec=spec, opts=self._child)

    def _dashboard(self, path: Path) -> None:
        name = f"ai-infra-dashboard-{path.stem}"
        # Without its line breaks: they are for people who read the file.
        data = {path.name: json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))}
        metadata = ObjectMetaArgs(name=name, namespace=self._args.namespace, labels=dict(DASHBOARD))
        ConfigMap(name, metadata=metadata, data=data, opts=self._child)


def pod_monitor(scraped: Scraped, secret: str, interval_s: int) -> dict[str, Any]:
    """Each pod by its own address: behind a Service one of several would answer for all."""

    def part(key: str) -> dict[str, str]:
        return {"name": secret, "key": key}

    tls = {
        "ca": {"secret": part("ca.crt")},
        "cert": {"secret": part("tls.crt")},
        "keySecret": part("tls.key"),
        "serverName": scraped.server_name,
    }
    endpoint = {"port": scraped.port, "path": PATH, "scheme": "https", "interval": f"{interval_s}s", "tlsConfig": tls}
    return {
        "jobLabel": NAME,
        "namespaceSelector": {"matchNames": [scraped.namespace]},
        "selector": {"matchLabels": {NAME: scraped.name}},
        "podMetricsEndpoints": [endpoint],
    }
