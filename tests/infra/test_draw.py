"""The drawings of the environments: those of the docs are of the program as it is."""

import xml.etree.ElementTree as ET

import pytest

from infra.draw import draw
from infra.render import render
from tests.infra.graphs import ground
from tests.peers import ROOT


def _texts(svg: str) -> set[str]:
    return {item.text or "" for item in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_drawing_in_the_docs_is_of_the_program_as_it_is(environment: str) -> None:
    drawn = draw(ground(environment))
    file = f"docs/infra-{environment}.svg"
    assert (ROOT / file).read_text(encoding="utf-8") == drawn, f"draw it again: ai-infra infra graph --env {environment} -o {file}"


def test_drawing_says_what_the_configuration_says() -> None:
    text = (ROOT / "stacks/prod/Pulumi.prod-ground.yaml").read_text(encoding="utf-8")
    changed = text.replace("audit: 2557", "audit: 3000").replace("name: gpu-spot", "name: cheap").replace("max: 4", "max: 5")
    before, after = draw(ground("prod")), draw(render(ROOT, "prod", config_text=changed))
    assert _texts(after) - _texts(before) == {"cheap", "locked 3000 days, compliance", "0 to 5 nodes, on demand"}
    assert {"only signing-proxy signs", "eu-west-1", "protected from deletion", "key: stores-replica"} <= _texts(before)
