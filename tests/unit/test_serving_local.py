"""The backend that asks the router: what its answers mean."""

import json

import httpx
import pytest

from services.core.errors import Unavailable
from services.serving.backends.local import LocalBackend
from services.serving.domain import Pair, Probe

PROBES = [Probe(f"golden:{number}", (float(number),), str(number)) for number in range(2)]


def backend(stable: list[str] | None, canary: list[str] | None) -> LocalBackend:
    """Over a router that answers so to the probes."""

    def router(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/rollouts/rol-1/answers"
        assert json.loads(request.content) == {"probes": ["golden:0", "golden:1"], "rows": [[0.0], [1.0]]}
        return httpx.Response(200, json={"stable": stable, "canary": canary})

    return LocalBackend(httpx.Client(base_url="https://router", transport=httpx.MockTransport(router)))


def test_probes_that_both_answered_are_pairs() -> None:
    assert backend(["0", "1"], ["0", "7"]).answer("rol-1", PROBES) == [Pair("golden:0", "0", "0"), Pair("golden:1", "1", "7")]


@pytest.mark.parametrize(("silent", "answers"), [("canary", (["0", "1"], None)), ("stable", (None, ["0", "1"]))])
def test_one_request_without_an_answer_is_no_pair_for_each_probe_in_it(
    silent: str, answers: tuple[list[str] | None, list[str] | None]
) -> None:
    """A predictor that ended once would count as many times as there are probes in a request: a rollout's end by one event."""
    with pytest.raises(Unavailable, match=f"{silent} did not answer"):
        backend(*answers).answer("rol-1", PROBES)
