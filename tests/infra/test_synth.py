"""Graph to Terraform JSON: nothing is left out, nothing is guessed, no secret and no reference becomes a literal."""

import importlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from infra.graph import Resource
from infra.render import ENVIRONMENTS, render
from infra.schema import Schema
from infra.synth import OFFLINE, addresses, synthesise
from infra.table import attribute, table
from infra.terraform import Terraform
from services.core.errors import BadInput
from tests.infra.edits import configured
from tests.infra.graphs import CONTEXT, component, graph, ground, join, ref, resource, secret
from tests.peers import ROOT, need

ALIAS = "aws.aws-eu-central-1"


@pytest.fixture(scope="module")
def terraform() -> Terraform:
    need("terraform")
    return Terraform()


@pytest.fixture(scope="module")
def schema(terraform: Terraform) -> Schema:
    return terraform.schema()


def _one(schema: Schema, item: Resource, *others: Resource) -> dict[str, Any]:
    """The resource as Terraform gets it, but for its provider."""
    made = graph(item, *others)
    kind, name = addresses(made)[item.urn].split(".")
    found: dict[str, Any] = synthesise(made, schema)["resource"][kind][name]
    assert found.pop("provider") == ALIAS
    return found


NODES = resource("eks/nodeGroup:NodeGroup", "nodes")
CLUSTER = resource("eks/cluster:Cluster", "cluster")
VPC = resource("ec2/vpc:Vpc", "vpc")

SHAPES: list[tuple[str, Resource, dict[str, Any]]] = [
    (
        "a block of one item at most is a list again",
        resource("s3/bucketVersioningV2:BucketVersioningV2", "b", {"versioningConfiguration": {"status": "Enabled"}}),
        {"versioning_configuration": [{"status": "Enabled"}]},
    ),
    (
        "plural is singular in Terraform",
        resource(
            "eks/nodeGroup:NodeGroup", "b", {"taints": [{"key": "gpu", "effect": "NO_SCHEDULE"}], "instanceTypes": ["g5.xlarge"]}
        ),
        {"taint": [{"key": "gpu", "effect": "NO_SCHEDULE"}], "instance_types": ["g5.xlarge"]},
    ),
    (
        "singular is plural in Terraform",
        resource("ec2/launchTemplate:LaunchTemplate", "b", {"networkInterfaces": [{"deviceIndex": 0.0}]}),
        {"network_interfaces": [{"device_index": 0}]},
    ),
    (
        "an attribute that reads as a block has all its keys",
        resource("ec2/securityGroup:SecurityGroup", "b", {"ingress": [{"protocol": "tcp", "fromPort": 443, "toPort": 443}]}),
        {
            "ingress": [
                {
                    "cidr_blocks": None,
                    "description": None,
                    "from_port": 443,
                    "ipv6_cidr_blocks": None,
                    "prefix_list_ids": None,
                    "protocol": "tcp",
                    "security_groups": None,
                    "self": None,
                    "to_port": 443,
                }
            ]
        },
    ),
    (
        "an alarm's name is its alarm name",
        resource("cloudwatch/metricAlarm:MetricAlarm", "b", {"name": "ai-infra-dev-root"}),
        {"alarm_name": "ai-infra-dev-root"},
    ),
    (
        "keys of tags stay as they are",
        resource("ec2/vpc:Vpc", "b", {"tags": {"kubernetes.io/cluster/x": "${owned}", "costCentre": "7"}}),
        {"tags": {"kubernetes.io/cluster/x": "$${owned}", "costCentre": "7"}},
    ),
    (
        "templates of other languages stay text",
        resource("kms/key:Key", "b", {"policy": '{"Resource": "${aws:username}", "Sid": "%{x}"}'}),
        {"policy": '{"Resource": "$${aws:username}", "Sid": "%%{x}"}'},
    ),
]


@pytest.mark.parametrize(("item", "expected"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES])
def test_input_takes_the_shape_of_the_schema(schema: Schema, item: Resource, expected: dict[str, Any]) -> None:
    assert _one(schema, item) == expected


REFERENCES: list[tuple[str, Any, str]] = [
    ("one attribute", ref("cluster", "arn"), "${aws_eks_cluster.cluster.arn}"),
    ("in a list", ref("cluster", "identities", 0, "oidcs", 0, "issuer"), "${aws_eks_cluster.cluster.identity[0].oidc[0].issuer}"),
    ("one item at most", ref("nodes", "scalingConfig", "minSize"), "${aws_eks_node_group.nodes.scaling_config[0].min_size}"),
    ("in a map", ref("vpc", "tags", "Name"), '${aws_vpc.vpc.tags["Name"]}'),
    ("in a text", join("arn/", ref("vpc", "id"), "/${x}"), "arn/${aws_vpc.vpc.id}/$${x}"),
    ("after a dollar", join("cost: $", ref("vpc", "id")), 'cost: ${"$"}${aws_vpc.vpc.id}'),
    ("template in two parts", join(ref("vpc", "id"), "$", "{x}"), "${aws_vpc.vpc.id}$${x}"),
    ("secret", secret(ref("vpc", "id")), "${aws_vpc.vpc.id}"),
]


@pytest.mark.parametrize(("value", "expected"), [case[1:] for case in REFERENCES], ids=[case[0] for case in REFERENCES])
def test_reference_stays_one(schema: Schema, value: Any, expected: str) -> None:
    key = resource("kms/key:Key", "key", {"description": value})
    assert _one(schema, key, NODES, CLUSTER, VPC) == {"description": expected}


def test_reference_to_a_list_is_no_list_of_lists(schema: Schema) -> None:
    group = resource("rds/subnetGroup:SubnetGroup", "group", {"subnetIds": ref("nodes", "subnetIds")})
    assert _one(schema, group, NODES) == {"subnet_ids": "${aws_eks_node_group.nodes.subnet_ids}"}


def test_text_in_templates_means_what_it_says(terraform: Terraform) -> None:
    """As Terraform itself reads it back."""
    text = "${aws:username} %{if} $${x} costs $"
    made = graph(VPC, text=text, joined=join("$", secret("x"), "${", "y}"))
    changes = terraform.plan(synthesise(replace(made, secret_outputs=("joined",))))["output_changes"]
    assert (changes["text"]["after"], changes["joined"]["after"]) == (text, "$not-the-secret${y}")


def test_secret_is_a_sensitive_variable_wherever_it_is(schema: Schema) -> None:
    password = secret(join("hush-", ref("vpc", "id")))
    database = resource("rds/instance:Instance", "db", {"password": password, "tags": secret({"pin": "1234"})})
    document = synthesise(graph(database, VPC), schema)
    assert "hush" not in json.dumps(document)
    assert "1234" not in json.dumps(document)
    assert document["resource"]["aws_db_instance"]["db"] == {
        "provider": ALIAS,
        "password": "${var.secret_aws_db_instance_db_password__join_0}${aws_vpc.vpc.id}",
        "tags": {"pin": "${var.secret_aws_db_instance_db_tags_pin}"},
    }
    variable = {"type": "string", "sensitive": True}
    names = ["secret_aws_db_instance_db_password__join_0", "secret_aws_db_instance_db_tags_pin"]
    assert document["variable"] == dict.fromkeys(names, variable)


def test_secret_output_is_sensitive(schema: Schema) -> None:
    made = replace(graph(VPC, vpc=ref("vpc", "id"), pin=secret("1234")), secret_outputs=("pin",))
    assert synthesise(made, schema)["output"] == {
        "vpc": {"value": "${aws_vpc.vpc.id}"},
        "pin": {"value": "${var.secret_pin}", "sensitive": True},
    }


def test_protected_resource_may_not_be_destroyed_and_ignored_changes_stay_paths(schema: Schema) -> None:
    ignored = ("scalingConfig.desiredSize", 'tags["Name"]', "taints[0].value", "version")
    item = replace(NODES, protect=True, ignore_changes=ignored)
    with pytest.raises(BadInput, match=r"aws_eks_node_group\.nodes: changes of taints.*in a set"):
        _one(schema, item)
    assert _one(schema, replace(item, ignore_changes=(*ignored[:2], ignored[3]))) == {
        "lifecycle": {"prevent_destroy": True, "ignore_changes": ["scaling_config[0].desired_size", 'tags["Name"]', "version"]}
    }


def test_component_is_waited_for_as_all_that_is_in_it(schema: Schema) -> None:
    network = component("network")
    inner = component("inner", parent=network.urn)
    others = (network, inner, replace(VPC, parent=inner.urn), replace(CLUSTER, parent=network.urn), component("empty"))
    item = replace(NODES, depends_on=(network.urn, "urn:empty", "urn:vpc"))
    assert _one(schema, item, *others) == {"depends_on": ["aws_eks_cluster.cluster", "aws_vpc.vpc"]}


def test_provider_is_offline_and_keeps_region_and_tags(schema: Schema) -> None:
    replica = replace(CONTEXT, urn="urn:replica", name="replica", inputs={"region": "eu-west-1"})
    document = synthesise(graph(replica, VPC, resource("kms/key:Key", "copy", provider="urn:replica")), schema)
    main = {"region": "eu-central-1", "default_tags": [{"tags": {"environment": "dev"}}], "skip_region_validation": True}
    assert document["provider"]["aws"] == [
        {"alias": "aws-eu-central-1", **OFFLINE, **main},
        {"alias": "replica", **OFFLINE, "region": "eu-west-1"},
    ]
    assert document["resource"]["aws_kms_key"]["copy"] == {"provider": "aws.replica"}


def test_what_is_not_of_aws_is_left_to_others(schema: Schema) -> None:
    other = resource("kubernetes:core/v1:Namespace", "space", provider=None)
    assert addresses(graph(component("c"), other, VPC)) == {"urn:vpc": "aws_vpc.vpc"}
    assert synthesise(graph(component("c"), other, VPC), schema)["resource"] == {"aws_vpc": {"vpc": {"provider": ALIAS}}}


def test_names_are_legal_in_terraform() -> None:
    named = [resource("ec2/vpc:Vpc", name) for name in ("a.b/c", "9th", "ok-1_x")]
    assert list(addresses(graph(*named)).values()) == ["aws_vpc.a_b_c", "aws_vpc._9th", "aws_vpc.ok-1_x"]


FAULTS: list[tuple[Resource, str]] = [
    (resource("ec2/vpc:Vpc", "v", {"cidrBlok": "10.0.0.0/16"}), r"aws_vpc\.v: cidrBlok is not in the provider's schema"),
    (
        resource("s3/bucketVersioningV2:BucketVersioningV2", "v", {"versioningConfiguration": {"state": "x"}}),
        r"aws_s3_bucket_versioning\.v\.versioningConfiguration: state is not in the provider's schema",
    ),
    (resource("ec2/vpc:Vpc", "v", {"cidrBlock": ["10.0.0.0/16"]}), r"aws_vpc\.v\.cidrBlock: a list is given"),
    (resource("kms/key:Key", "v", {"policy": {"Statement": []}}), r"aws_kms_key\.v\.policy: an object is given"),
    (resource("ec2/vpc:Vpc", "v", {"tags": "x"}), r"aws_vpc\.v\.tags: 'x' is given where an object belongs"),
    (
        resource("eks/nodeGroup:NodeGroup", "v", {"taints": ["x"]}),
        r"aws_eks_node_group\.v\.taints\.0: 'x' is given where an object",
    ),
    (
        resource("eks/nodeGroup:NodeGroup", "v", {"scalingConfig": ref("nodes", "scalingConfig")}),
        r"aws_eks_node_group\.v\.scalingConfig: an object is given by reference",
    ),
    (resource("kms/key:Key", "v", {"description": ref("nodes", "size")}), r"aws_kms_key\.v\.description.*nodes: size is not in"),
    (resource("kms/key:Key", "v", {"description": ref("nodes", "arn", "x")}), "a plain value has no parts"),
    (resource("kms/key:Key", "v", {"description": ref("c", "arn")}), "urn:c, which is no AWS resource"),
    (resource("rds/clusterParameterGroup:ClusterParameterGroup", "v"), "type aws:rds/clusterParameterGroup.* is not in types.yaml"),
    (resource("ec2/vpc:Vpc", "nodes", provider=None), r"aws_vpc\.nodes has no provider"),
]


@pytest.mark.parametrize(("item", "message"), FAULTS, ids=[message[:40] for _, message in FAULTS])
def test_what_cannot_be_translated_is_named(schema: Schema, item: Resource, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        synthesise(graph(item, *([] if item.name == "nodes" else [NODES]), component("c")), schema)


def test_two_resources_of_one_address_are_refused() -> None:
    with pytest.raises(BadInput, match=r"aws_vpc\.a_b is two resources"):
        addresses(graph(resource("ec2/vpc:Vpc", "a.b"), resource("ec2/vpc:Vpc", "a/b")))


NOT_OF_THE_PROVIDER = {("aws:eks/cluster:Cluster", "defaultAddonsToRemoves"), ("aws:rds/instance:Instance", "name")}
"""What Pulumi alone takes. A program that gives one of them does not translate."""


@pytest.mark.parametrize("token", sorted(table()))
def test_every_property_of_every_type_is_one_attribute(schema: Schema, token: str) -> None:
    """Over all that Pulumi lets a program say, not only what this one says; and no name in the table is idle or wrong."""
    from pulumi._types import input_type_py_to_pulumi_names

    row = table()[token]
    module, _, kind = re.split("[/:]", token)[1:]
    source = importlib.import_module(getattr(importlib.import_module(f"pulumi_aws.{module}"), kind).__module__)
    properties = set(input_type_py_to_pulumi_names(getattr(source, f"{kind}Args")).values())
    fields = schema.resource(row.type).fields
    known = {name for name in properties if (token, name) not in NOT_OF_THE_PROVIDER}
    found = {name: attribute(name, fields, row.names) for name in known}
    assert len(set(found.values())) == len(found)
    assert row.names.keys() <= known
    assert set(row.names.values()) <= fields.keys()
    for name in properties - known:
        with pytest.raises(BadInput):
            attribute(name, fields, row.names)
    for name in row.names:
        with pytest.raises(BadInput):
            attribute(name, fields, {})


def test_table_is_of_the_types_that_the_environments_have() -> None:
    """A missing one stops the environment; one that nobody uses is reviewed by nobody. An account that pays for itself has more."""
    payer = render(ROOT, "dev", config_text=configured("dev", {"ground.state.budget.payer": True}))
    used = {item.type for made in (payer, *map(ground, ENVIRONMENTS)) for item in made.resources}
    assert table().keys() == {token for token in used if token.startswith("aws:")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_provider_takes_every_environment_as_new(terraform: Terraform, environment: str) -> None:
    made = ground(environment)
    plan = terraform.plan(synthesise(made))
    actions = {row["address"]: row["change"]["actions"] for row in plan["resource_changes"]}
    assert actions == {address: ["create"] for address in addresses(made).values()}
