"""The manifests in stacks/: what the builders write, and nothing else."""

from pathlib import Path

import pytest
import yaml

from services.core.settings import ENVIRONMENTS
from services.serving.inference import DEPLOYMENT
from stacks.examples import write
from tests.peers import ROOT

STACKS = ROOT / "stacks"


def manifests(root: Path) -> dict[str, bytes]:
    found = [path for folder in ("inference", "jobs") for path in root.glob(f"*/{folder}/*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_they_are_what_the_builders_write_now_byte_for_byte(tmp_path: Path) -> None:
    """If not: `make examples`."""
    write(tmp_path)
    assert manifests(tmp_path) == manifests(STACKS)
    assert {name.split("/")[0] for name in manifests(STACKS)} == set(ENVIRONMENTS)


def test_what_no_builder_writes_any_more_goes(tmp_path: Path) -> None:
    write(tmp_path)
    left = tmp_path / "dev" / "jobs" / "left.yaml"
    left.write_text("{}")
    write(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_canary_is_shown_and_all_that_is_served_is_on_the_list(environment: str) -> None:
    folder = STACKS / environment / "inference"
    service, listed = (yaml.safe_load((folder / name).read_text()) for name in ("digits.yaml", "servable-models.yaml"))
    (canary,) = service["spec"]["canary"]
    sides = (service["spec"]["predictor"], canary["predictor"])
    assert {side["labels"][DEPLOYMENT]: side["model"]["storageUri"] for side in sides} == listed["data"]
    assert canary["trafficPercent"] == 10
