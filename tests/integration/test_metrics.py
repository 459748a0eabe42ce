"""Prometheus' view of a running platform: every process that serves HTTP of ours is scraped with a certificate."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.core.tls import client_context
from services.home import Home, create
from services.supervisor import Platform, free_ports
from tests.monitoring import GROUPS, PANELS, metrics_in, of_ours, predictor_metrics
from tests.serving import wait_for

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = Home.at(tmp_path_factory.mktemp("metrics") / "home")
    create(home)
    with Platform(home, free_ports()) as running:
        yield running


def scrape(platform: Platform, process: str) -> tuple[set[str], Samples]:
    """Names of metrics, and samples by name and labels."""
    context = client_context(platform.home.person("aude"))
    with httpx.Client(verify=context) as client:
        text = client.get(platform.urls[process] + "/metrics").raise_for_status().text
    families = list(text_string_to_metric_families(text))
    found = {sample.name for family in families for sample in family.samples}
    return found, {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples
    }


def test_the_log_of_a_new_home_is_told(platform: Platform) -> None:
    first = ("ai_infra_audit_events_total", (("type", "policy.published"), ("verdict", "")))

    def settled() -> bool:
        _, samples = scrape(platform, "api")
        return (
            samples[first] == 1
            and samples["ai_infra_outbox_pending_events", ()] == 0
            and samples["ai_infra_log_unpublished_entries", ()] == 0
        )

    wait_for(settled, "the first policies are in the log, and published")
    _, samples = scrape(platform, "api")
    assert samples["ai_infra_log_entries", ()] >= 1
    assert samples["ai_infra_log_witnesses_missing", ()] == 0


def test_the_signing_proxy_tells_of_its_own_outbox(platform: Platform) -> None:
    _, samples = scrape(platform, "signing-proxy")
    assert samples["ai_infra_outbox_pending_events", ()] == 0
    checkpoints = ("ai_infra_http_requests_total", (("method", "POST"), ("route", "/v1/sign/checkpoint"), ("status", "200")))
    assert samples[checkpoints] >= 1


def test_every_metric_that_a_rule_or_a_panel_names_is_exported(platform: Platform) -> None:
    exported = scrape(platform, "api")[0] | scrape(platform, "signing-proxy")[0] | predictor_metrics()
    named = {name for text in (*GROUPS, *PANELS) for name in metrics_in(text)}
    assert {name for name in named if of_ours(name)} <= exported
    assert len({name for name in named if of_ours(name)}) >= 8
