"""Settings of the backend kuberay: what is missing or wrong is named."""

from pathlib import Path

import pytest

from services.core.errors import BadSetting
from services.training.domain import Compute
from services.training.placing import Placing

IMAGE = "registry.example/ai-infra@sha256:" + "a" * 64


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    pytest.importorskip("ray")
    return {
        "AI_INFRA_ENV": "staging",
        "AI_INFRA_TRAINING_IMAGE": IMAGE,
        "AI_INFRA_TRAINING_RUNS": str(tmp_path),
        "AI_INFRA_TRAINING_QUEUE": "team-a",
        "AI_INFRA_TRAINING_PRIORITY": "research",
    }


def test_what_is_not_said_has_a_default(environ: dict[str, str], tmp_path: Path) -> None:
    found = Placing.from_env(environ)
    assert (found.namespace, found.volume, found.runs, found.limit_s) == ("training-staging", "runs", tmp_path, 86_400)
    assert found.compute == Compute(queue="team-a", priority="research", cpu="4", memory="16Gi", gpus=0, spot=False)


@pytest.mark.parametrize("name", ["IMAGE", "RUNS", "QUEUE", "PRIORITY"])
def test_what_has_none_is_asked_for(environ: dict[str, str], name: str) -> None:
    del environ[f"AI_INFRA_TRAINING_{name}"]
    with pytest.raises(BadSetting, match=f"AI_INFRA_TRAINING_{name}"):
        Placing.from_env(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE", "registry.example/ai-infra:latest"),
        ("RUNS", "/no/such/folder"),
        ("SPOT", "maybe"),
        ("GPUS", "17"),
        ("LIMIT_S", "1"),
        ("MEMORY", "16 GB"),
        ("CPU", "0"),
        ("QUEUE", "Team A"),
    ],
)
def test_what_is_wrong_is_refused(environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(BadSetting, match="AI_INFRA_TRAINING_"):
        Placing.from_env(environ | {f"AI_INFRA_TRAINING_{name}": value})


def test_another_image_or_number_of_gpus_is_another_environment(environ: dict[str, str]) -> None:
    environments = [environ, environ | {"AI_INFRA_TRAINING_IMAGE": IMAGE[:-1] + "b"}, environ | {"AI_INFRA_TRAINING_GPUS": "1"}]
    assert len({Placing.from_env(found).environment().image for found in environments}) == 3
