"""Prometheus with its operator, Alertmanager and Grafana, from kube-prometheus-stack. Not here: rules, dashboards, monitors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions

from components.platform.chart import Chart, release, sized
from components.trust import takes

CHART: Final = Chart(name="kube-prometheus-stack", repository="https://prometheus-community.github.io/helm-charts")
NAME: Final = "kube-prometheus-stack"
ALERTMANAGER: Final = "alertmanager"
"""Its service account, which has a role of AWS."""
SELECTORS: Final = ("podMonitor", "probe", "rule", "scrapeConfig", "serviceMonitor")
HIDDEN: Final = ("kubeControllerManager", "kubeEtcd", "kubeProxy", "kubeScheduler")
"""EKS runs these out of sight: alerts that they are down would never end."""


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """watched: namespaces whose monitors and rules count; replicas: of Prometheus and Alertmanager; retention_days, storage_gib: of
    each Prometheus; topic_arn: gets the alerts, from Alertmanager in the role role_arn."""

    namespace: str
    watched: Sequence[str]
    version: str
    replicas: int
    retention_days: int
    storage_gib: int
    storage_class: str
    region: str
    topic_arn: Input[str]
    role_arn: Input[str]


class Monitoring(pulumi.ComponentResource):
    """It brings the definitions of ServiceMonitor and PrometheusRule, so that all who have some come after it."""

    prometheus_url: Output[str]

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Monitoring", name, None, opts)
        release(NAME, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self.prometheus_url = Output.from_input(f"http://{NAME}-prometheus.{args.namespace}.svc:9090")
        self.register_outputs({"prometheus_url": self.prometheus_url})


def _values(args: MonitoringArgs) -> dict[str, Any]:
    return {
        "fullnameOverride": NAME,
        "prometheus": {"prometheusSpec": _prometheus(args)},
        "alertmanager": _alertmanager(args),
        "grafana": {
            "resources": sized("100m", "512Mi"),
            # Dashboards are ConfigMaps of the program: what somebody clicks together is gone with the pod.
            "persistence": {"enabled": False},
            "sidecar": {"dashboards": {"enabled": True, "label": "grafana_dashboard", "searchNamespace": args.namespace}},
        },
        "prometheusOperator": {"resources": sized("100m", "256Mi")},
        # Of pods' labels none is exported unless it is named; an alert asks for what Vault says of itself in this one.
        "kube-state-metrics": {"metricLabelsAllowlist": ["pods=[vault-sealed]"]},
        **{part: {"enabled": False} for part in HIDDEN},
    }


def _prometheus(args: MonitoringArgs) -> dict[str, Any]:
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(args.watched)}
    return {
        "replicas": args.replicas,
        "retention": f"{args.retention_days}d",
        # Before the disk is full, the oldest goes.
        "retentionSize": f"{args.storage_gib * 85 // 100}GiB",
        "storageSpec": {"volumeClaimTemplate": {"spec": _claim(args.storage_class, args.storage_gib)}},
        "podAntiAffinity": "hard" if args.replicas > 1 else "soft",
        "resources": sized("500m", "4Gi"),
        # Not only those that carry this release's label. Of every namespace they must not be: whoever writes a rule, or has a pod
        # scraped, can make up the samples by which canaries are judged.
        **{f"{kind}SelectorNilUsesHelmValues": False for kind in SELECTORS},
        **{f"{kind}NamespaceSelector": {"matchExpressions": [named]} for kind in SELECTORS},
    }


def _alertmanager(args: MonitoringArgs) -> dict[str, Any]:
    """An alert that nobody routes goes to the topic on which the ground speaks."""
    topic = {"topic_arn": args.topic_arn, "sigv4": {"region": args.region}, "send_resolved": True}
    return {
        "serviceAccount": {"name": ALERTMANAGER, "annotations": takes(args.role_arn)},
        "alertmanagerSpec": {
            "replicas": args.replicas,
            "podAntiAffinity": "hard" if args.replicas > 1 else "soft",
            "storage": {"volumeClaimTemplate": {"spec": _claim(args.storage_class, 5)}},
            "resources": sized("50m", "128Mi"),
        },
        "config": {
            "route": {
                "receiver": "topic",
                "group_by": ["alertname", "namespace"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "4h",
                # Always firing, so that whoever watches from outside knows that alerts still come.
                "routes": [{"receiver": "nobody", "matchers": ["alertname = Watchdog"]}],
            },
            "receivers": [{"name": "topic", "sns_configs": [topic]}, {"name": "nobody"}],
        },
    }


def _claim(storage_class: str, gib: int) -> dict[str, Any]:
    return {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{gib}Gi"}},
    }
