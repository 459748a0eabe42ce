"""Objects of a graph: whole, in an order in which they can be made, with texts of the right form where values are not known."""

from infra.kubernetes import objects
from tests.infra.graphs import component, graph, join, ref, resource, secret


def _object(kind: str, name: str, **fields: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | fields


def test_objects_are_those_of_the_cluster_with_namespaces_first() -> None:
    made = graph(
        component("c"),
        resource("kubernetes:core/v1:ConfigMap", "m", _object("ConfigMap", "m", data={"n": "1"})),
        resource("kubernetes:core/v1:Namespace", "n", _object("Namespace", "n")),
        resource("kubernetes:helm.sh/v3:Release", "r", {"chart": "r"}),
        resource("pulumi:providers:kubernetes", "p"),
        resource("s3/bucketV2:BucketV2", "b", {"bucket": "b"}),
    )
    assert objects(made) == (_object("Namespace", "n"), _object("ConfigMap", "m", data={"n": "1"}))


def test_texts_of_unknown_values_have_the_form_of_what_they_stand_for() -> None:
    data = {
        "role": secret(join("role=", ref("g", "outputs", "role_arns", "api"))),
        "group": ref("g", "outputs", "node_security_group_id"),
        "list": [ref("g", "outputs", "node_subnet_ids", "a")],
        "other": ref("m", "id"),
    }
    [made] = objects(graph(resource("kubernetes:core/v1:ConfigMap", "m", _object("ConfigMap", "m", data=data))))
    assert made["data"] == {
        "role": "role=arn:aws:iam::111122223333:role/sample",
        "group": "sg-0123456789abcdef0",
        "list": ["subnet-0123456789abcdef0"],
        "other": "sample",
    }
