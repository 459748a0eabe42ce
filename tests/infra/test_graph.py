"""A graph as JSON and back, and what is no graph."""

import json
from typing import Any

import pytest

from infra.graph import Graph, Reference, Resource, references
from services.core.errors import BadInput

KEY, BUCKET = "urn:pulumi:dev-ground::ai-infra::aws:kms/key:Key::k", "urn:pulumi:dev-ground::ai-infra::aws:s3/bucketV2:BucketV2::b"


def _ref(urn: str, *path: str | int) -> dict[str, Any]:
    return {"$ref": {"urn": urn, "path": list(path)}}


def _graph() -> Graph:
    key = Resource(urn=KEY, name="k", type="aws:kms/key:Key", custom=True, protect=True, ignore_changes=("policy",))
    inputs = {"bucket": "b", "text": {"$join": ["key ", _ref(KEY, "arn")]}, "hidden": {"$secret": [1, _ref(KEY, "parts", 0)]}}
    bucket = Resource(
        urn=BUCKET,
        name="b",
        type="aws:s3/bucketV2:BucketV2",
        custom=True,
        inputs=inputs,
        depends_on=(KEY,),
        secret_inputs=("hidden",),
    )
    named: dict[str, Any] = {"environment": "dev", "layer": "ground", "project": "ai-infra", "stack": "dev-ground"}
    return Graph(**named, resources=(key, bucket), outputs={"key": _ref(KEY, "arn")}, secret_outputs=())


def test_graph_comes_back_from_its_json_as_it_was() -> None:
    text = json.dumps(_graph().to_json())
    assert Graph.from_json(json.loads(text)) == _graph()
    assert json.loads(text)["resources"][0]["ignoreChanges"] == ["policy"]


def test_references_are_found_in_text_and_in_secrets() -> None:
    assert list(references(_graph().resource(BUCKET).inputs)) == [Reference(KEY, ("arn",)), Reference(KEY, ("parts", 0))]


def test_resources_are_found_by_urn_and_by_type() -> None:
    graph = _graph()
    assert graph.resource(KEY) is graph.resources[0]
    assert graph.of("aws:kms/key:Key") == (graph.resources[0],)
    with pytest.raises(BadInput, match="urn:none is no resource of dev-ground"):
        graph.resource("urn:none")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version: Input should be 1"),
        ({"extra": 1}, "extra: Unexpected keyword argument"),
        ({"resources": [{"urn": "u"}]}, r"resources\.0\.name: Field required"),
        (
            {"resources": [{"urn": "u", "name": "n", "type": "t", "custom": "yes"}]},
            r"resources\.0\.custom: Input should be a valid bool",
        ),
        ({"outputs": {"a": _ref("urn:absent", "id")}}, "the outputs refers to urn:absent, which is no resource"),
        ({"outputs": {"a": {"$file": "x"}}}, r"\$file is no form of a value"),
        ({"outputs": {"a": {"$ref": {"urn": KEY, "path": []}}}}, r"\$ref is no form of a value"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_is_no_graph_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Graph.from_json(_graph().to_json() | change)


def test_urn_of_two_resources_is_refused() -> None:
    value = _graph().to_json()
    value["resources"].append(value["resources"][0])
    with pytest.raises(BadInput, match="is there twice"):
        Graph.from_json(value)
