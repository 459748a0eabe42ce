"""The OpenTelemetry collector: it takes traces and metrics over OTLP; traces go on to X-Ray, metrics to Prometheus."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions

from components.platform.chart import Chart, release, sized
from components.trust import takes

CHART: Final = Chart(name="opentelemetry-collector", repository="https://open-telemetry.github.io/opentelemetry-helm-charts")
NAME: Final = "opentelemetry-collector"
"""Of the release, and of its service account, which has a role of AWS."""
UNUSED: Final = ("jaeger-compact", "jaeger-grpc", "jaeger-thrift", "zipkin")
"""Ports that the chart would open."""


@dataclass(frozen=True, kw_only=True)
class TelemetryArgs:
    """replicas: any of them takes any span, for none is sampled by its trace."""

    namespace: str
    version: str
    replicas: int
    region: str
    role_arn: Input[str]


class Telemetry(pulumi.ComponentResource):
    otlp_url: Output[str]

    def __init__(self, name: str, args: TelemetryArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Telemetry", name, None, opts)
        release(NAME, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self.otlp_url = Output.from_input(f"http://{NAME}.{args.namespace}.svc:4318")
        self.register_outputs({"otlp_url": self.otlp_url})


def _values(args: TelemetryArgs) -> dict[str, Any]:
    return {
        "mode": "deployment",
        "fullnameOverride": NAME,
        # The distribution that has an exporter for X-Ray.
        "image": {"repository": "otel/opentelemetry-collector-contrib"},
        "replicaCount": args.replicas,
        "serviceAccount": {"name": NAME, "annotations": takes(args.role_arn)},
        "resources": sized("100m", "512Mi"),
        "podDisruptionBudget": {"enabled": args.replicas > 1, "minAvailable": 1},
        "ports": {port: {"enabled": False} for port in UNUSED} | {"metrics": {"enabled": True, "containerPort": 8889}},
        "serviceMonitor": {"enabled": True, "metricsEndpoints": [{"port": "metrics"}]},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # In place of the chart's own, which takes what nobody here sends.
        "alternateConfig": _configuration(args),
    }


def _configuration(args: TelemetryArgs) -> dict[str, Any]:
    limits = {"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 25}
    stages = {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"]}
    return {
        "extensions": {"health_check": {"endpoint": "${env:MY_POD_IP}:13133"}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}, "http": {"endpoint": "0.0.0.0:4318"}}}},
        "processors": {"memory_limiter": limits, "batch": {"send_batch_size": 512, "timeout": "5s"}},
        "exporters": {"awsxray": {"region": args.region}, "prometheus": {"endpoint": "0.0.0.0:8889"}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": {"traces": stages | {"exporters": ["awsxray"]}, "metrics": stages | {"exporters": ["prometheus"]}},
        },
    }
