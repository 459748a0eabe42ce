"""A stand-in for Prometheus: it evaluates the two forms of query that serving sends, over samples that a test gives."""

import re
from collections import defaultdict
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

QUERY = re.compile(r'sum by \((\w+)\) \(max_over_time\((\w+)\{deployment="([^"]+)"\}\[(\d+)s\]\)\)')


@dataclass
class PrometheusStandIn:
    """samples: (series, its labels, epoch seconds, value); away: nothing answers."""

    samples: list[tuple[str, dict[str, str], float, float]] = field(default_factory=list)
    away: bool = False

    def scrape(self, text: str, at_s: float) -> None:
        """Takes what an exporter shows."""
        for family in text_string_to_metric_families(text):
            self.samples += [(sample.name, dict(sample.labels), at_s, sample.value) for sample in family.samples]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://prometheus", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused")
        found = QUERY.fullmatch(request.url.params["query"])
        if found is None:
            return httpx.Response(400, json={"status": "error", "error": f"parse error: {request.url.params['query']}"})
        by, name, deployment, seconds = found.groups()
        end = float(request.url.params["time"])
        highest: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
        for series, labels, at, value in self.samples:
            if series == name and labels["deployment"] == deployment and end - int(seconds) < at <= end:
                key = tuple(sorted(labels.items()))
                highest[key] = max(highest[key], value)
        sums: dict[str, float] = defaultdict(float)
        for key, value in highest.items():
            sums[dict(key)[by]] += value
        result = [{"metric": {by: label}, "value": [end, str(value)]} for label, value in sums.items()]
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": result}})
