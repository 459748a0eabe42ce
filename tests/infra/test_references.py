"""Outputs of one layer as inputs of the next: references in its graph, refused by name where they are not there."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

from infra.graph import Graph
from infra.render import ENVIRONMENTS, LAYERS, config_file, render
from services.core.errors import BadInput, NotFound
from tests.peers import ROOT

GROUND = """
import pulumi
from pulumi import Output
from pulumi_aws import Provider, eks
cluster = eks.Cluster(
    "c", role_arn="arn:r", vpc_config={"subnet_ids": ["s-1"]}, opts=pulumi.ResourceOptions(provider=Provider("aws"))
)
pulumi.export("name", cluster.name)
pulumi.export("zones", {"a": cluster.arn, "b": Output.concat(cluster.arn, "/b")})
pulumi.export("keys", [cluster.arn, cluster.name, cluster.id])
pulumi.export("four", [cluster.arn, cluster.name, cluster.id, "known"])
pulumi.export("known", "text")
pulumi.export("limits", {"cpu": 4, "burst": True})
pulumi.export("word", Output.secret("hush"))
"""
START = """
import pulumi
from pulumi import Output, ResourceOptions, StackReference
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import ConfigMap
ground = StackReference("organization/ai-infra/dev-ground")
def made(name, /, **data):
    return ConfigMap(name, metadata={"name": name}, data=data)
"""


def _platform(tmp_path: Path, program: str) -> Graph:
    """A program of two layers."""
    (tmp_path / "infra").mkdir()
    layers = {"ground": GROUND, "platform": START + textwrap.dedent(program)}
    main = "import runpy, pulumi\nrunpy.run_path(f'infra/{pulumi.get_stack()}.py')\n"
    (tmp_path / "infra" / "__main__.py").write_text(main, encoding="utf-8")
    for layer, text in layers.items():
        (tmp_path / "infra" / f"dev-{layer}.py").write_text(text, encoding="utf-8")
        (tmp_path / config_file("dev", layer)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / config_file("dev", layer)).write_text("config: {}", encoding="utf-8")
    return render(tmp_path, "dev", "platform")


def _named(graph: Graph, name: str) -> Any:
    return next(item for item in graph.resources if item.name == name)


def _output(graph: Graph, *path: str | int) -> dict[str, Any]:
    return {"$ref": {"urn": _named(graph, "organization/ai-infra/dev-ground").urn, "path": ["outputs", *path]}}


def test_outputs_of_another_layer_stay_references_alone_in_text_in_mappings_and_whole(tmp_path: Path) -> None:
    graph = _platform(
        tmp_path,
        """
        zones = ground.require_output("zones")
        made("m", name=ground.require_output("name"), zone=zones["b"], known=Output.concat("a ", ground.require_output("known")))
        pulumi.export("keys", ground.require_output("keys"))
        pulumi.export("four", ground.require_output("four"))
        pulumi.export("limits", ground.require_output("limits"))
        """,
    )
    joined = {"$join": ["a ", _output(graph, "known")]}
    named = {"known": joined, "name": _output(graph, "name"), "zone": _output(graph, "zones", "b")}
    assert _named(graph, "m").inputs["data"] == named
    assert graph.outputs == {"keys": _output(graph, "keys"), "four": _output(graph, "four"), "limits": {"burst": True, "cpu": 4}}


def test_secret_output_of_another_layer_is_secret_here_and_no_other_is(tmp_path: Path) -> None:
    graph = _platform(tmp_path, 'made("m", word=ground.get_output("word"))\npulumi.export("name", ground.get_output("name"))\n')
    assert _named(graph, "m").secret_inputs == ("data.word",)
    assert graph.outputs == {"name": _output(graph, "name")}


def test_object_of_the_cluster_has_what_it_was_given(tmp_path: Path) -> None:
    graph = _platform(tmp_path, 'm = made("m", a="b")\nmade("n", name=m.metadata.name, zone=ground.require_output("name"))\n')
    assert _named(graph, "n").inputs["data"] == {"name": "m", "zone": _output(graph, "name")}


COMPUTED = {
    "upper case": 'ground.require_output("name").apply(str.upper)',
    "a literal's upper case": 'ground.require_output("known").apply(str.upper)',
    "a slice": 'ground.require_output("zones")["a"].apply(lambda arn: arn[:4])',
    "a length": 'ground.require_output("name").apply(lambda name: str(len(name)))',
}


@pytest.mark.parametrize("computed", COMPUTED.values(), ids=COMPUTED)
def test_value_computed_from_another_layers_output_is_refused_by_resource_and_property(tmp_path: Path, computed: str) -> None:
    with pytest.raises(BadInput, match=r"^m\.data\.value: is computed from what only AWS knows"):
        _platform(tmp_path, f'made("m", value={computed})\n')


def test_stack_that_is_no_layer_before_this_one_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"prod-ground is no stack of a layer before this one: those are organization/ai-infra/d"):
        _platform(tmp_path, 'StackReference("organization/ai-infra/prod-ground")\n')


TYPED = """
from dataclasses import dataclass
from stacks.outputs import Entries, Outputs
@dataclass(frozen=True, kw_only=True)
class Read(Outputs):
    {field}
read = Read.of(ground)
"""
ABSENT = {
    "an output": ("absent: Output[str]", "", "dev-ground has no output absent: deploy that layer first"),
    "a text": ("zones: Output[str]", "", "dev-ground has something else than a str as its output zones"),
    "a mapping": ("name: Entries[str]", "", "dev-ground has something else than a dict as its output name"),
    "an entry": ("zones: Entries[str]", 'made("m", zone=read.zones["c"])', "the output zones has no c, only a, b"),
}


@pytest.mark.parametrize(("field", "use", "says"), ABSENT.values(), ids=ABSENT)
def test_output_that_is_not_there_or_of_another_type_is_refused_by_name(tmp_path: Path, field: str, use: str, says: str) -> None:
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks")
    with pytest.raises(BadInput, match=says):
        _platform(tmp_path, TYPED.format(field=field) + use)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_layers_of_an_environment_read_only_what_the_layers_before_them_write(environment: str) -> None:
    graphs = {layer: render(ROOT, environment, layer) for layer in LAYERS}
    read = {layer: {item.inputs["name"] for item in graph.of("pulumi:pulumi:StackReference")} for layer, graph in graphs.items()}
    names = [f"organization/ai-infra/{environment}-{layer}" for layer in LAYERS]
    assert read == {"ground": set(), "platform": {names[0]}, "apps": {names[0], names[1]}}
    assert Graph.from_json(json.loads(json.dumps(graphs["apps"].to_json()))) == graphs["apps"]


def test_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="attic is no layer: --layer is one of ground, platform, apps"):
        render(ROOT, "dev", "attic")
