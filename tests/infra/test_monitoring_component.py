"""What Prometheus and Grafana are given: each service is scraped with a certificate, rules and dashboards arrive whole."""

import json

import pytest
import yaml

from components.apps.monitoring import Monitoring, MonitoringArgs, Scraped
from tests.infra.recorded import Graph, Made, recorded
from tests.monitoring import FOLDER

ARGS = MonitoringArgs(
    namespace="monitoring",
    secret="prometheus-tls",
    scraped=(
        Scraped(name="api", namespace="ai-infra", port="https", server_name="api.ai-infra.svc"),
        Scraped(name="predictor", namespace="models-dev", port="https", server_name="predictor"),
    ),
)


@pytest.fixture(scope="module")
def made() -> Graph:
    return recorded(lambda: Monitoring("monitoring", ARGS))


def of(graph: Graph, kind: str) -> list[Made]:
    return [item for item in graph.values() if item.type == kind]


def test_each_service_is_scraped_by_pod_over_mutual_tls(made: Graph) -> None:
    found = {item.inputs["metadata"]["name"]: item.inputs["spec"] for item in of(made, "PodMonitor")}
    assert set(found) == {"api", "predictor"}
    assert found["api"]["namespaceSelector"] == {"matchNames": ["ai-infra"]}
    assert found["api"]["selector"] == {"matchLabels": {"app.kubernetes.io/name": "api"}}
    [endpoint] = found["api"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["path"], endpoint["port"]) == ("https", "/metrics", "https")
    assert endpoint["tlsConfig"]["serverName"] == "api.ai-infra.svc"
    assert endpoint["tlsConfig"]["keySecret"] == {"name": "prometheus-tls", "key": "tls.key"}
    assert "insecureSkipVerify" not in endpoint["tlsConfig"]


def test_the_rules_are_those_that_promtool_judges(made: Graph) -> None:
    [rules] = of(made, "PrometheusRule")
    assert rules.inputs["spec"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())


def test_every_dashboard_is_found_by_its_label_and_is_unchanged(made: Graph) -> None:
    found = {key: json.loads(text) for item in of(made, "ConfigMap") for key, text in item.inputs["data"].items()}
    assert found == {path.name: json.loads(path.read_text()) for path in FOLDER.glob("dashboards/*.json")}
    assert len(found) == 2
    assert {item.inputs["metadata"]["labels"]["grafana_dashboard"] for item in of(made, "ConfigMap")} == {"1"}
