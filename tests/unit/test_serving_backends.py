"""Which serving backend is opened, and what it wants to be told."""

from pathlib import Path

import pytest

from services.core import backends as register
from services.core.errors import BadSetting
from services.core.tls import DevelopmentCa, Identity, service_id
from services.serving import backends
from services.serving.backends import kserve


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return DevelopmentCa(tmp_path / "ca").issue(service_id("api"), tmp_path / "api")


def test_production_takes_kserve_and_refuses_the_embedded_one() -> None:
    assert register.names(backends) == ["kserve", "local"]
    assert register.load(backends, "kserve", env="prod").PRODUCTION
    with pytest.raises(BadSetting, match="local"):
        register.load(backends, "local", env="prod")


def test_kserve_wants_prometheus(identity: Identity) -> None:
    with pytest.raises(BadSetting, match="AI_INFRA_PROMETHEUS_URL"):
        kserve.open_backend({}, identity)


def test_kserve_wants_a_token_and_says_where(identity: Identity, tmp_path: Path) -> None:
    environ = {
        "AI_INFRA_PROMETHEUS_URL": "http://127.0.0.1:9090",
        "AI_INFRA_KUBE_CA": str(identity.ca),
        "AI_INFRA_KUBE_TOKEN": str(tmp_path / "none"),
    }
    with pytest.raises(BadSetting, match="AI_INFRA_KUBE_TOKEN"):
        kserve.open_backend(environ, identity)


def test_kserve_refuses_a_time_that_is_none(identity: Identity) -> None:
    with pytest.raises(BadSetting, match="SETTLE_S"):
        kserve.open_backend({"AI_INFRA_PROMETHEUS_URL": "http://x", "AI_INFRA_PROMETHEUS_SETTLE_S": "soon"}, identity)
