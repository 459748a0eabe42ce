"""Programs, run without the engine: what the record holds, and what no record could hold and is refused by name."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.graph import Graph, Resource
from infra.render import PROJECT, config_file, render
from services.core.errors import BadInput, NotFound
from tests.peers import ROOT

START = """
import json
import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import Provider, eks, iam, kms, rds, s3
provider = Provider("aws", region="eu-central-1")
opts = ResourceOptions(provider=provider)
key = kms.Key("k", description="data", opts=ResourceOptions(provider=provider, protect=True))
cluster = eks.Cluster("c", role_arn="arn:r", vpc_config={"subnet_ids": ["s-1"]}, opts=opts)
"""


def _rendered(tmp_path: Path, program: str) -> Graph:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__main__.py").write_text(START + textwrap.dedent(program), encoding="utf-8")
    return render(tmp_path, "dev", config_text="config: {ai-infra:stack: {team: ml}}")


def _named(graph: Graph, name: str) -> Resource:
    return next(item for item in graph.resources if item.name == name)


def _ref(graph: Graph, name: str, *path: str | int) -> dict[str, Any]:
    return {"$ref": {"urn": _named(graph, name).urn, "path": list(path)}}


def test_outputs_stay_references_alone_in_text_in_policies_and_within_objects(tmp_path: Path) -> None:
    graph = _rendered(
        tmp_path,
        """
        bucket = s3.BucketV2("b", bucket="b", opts=opts)
        policy = Output.json_dumps({"Resource": bucket.arn.apply(lambda arn: f"{arn}/*")})
        role = iam.Role("r", assume_role_policy=policy, description=Output.concat("for ", bucket.bucket), opts=opts)
        iam.OpenIdConnectProvider("o", url=cluster.identities[0].oidcs[0].issuer, client_id_lists=["c"], opts=opts)
        kms.Alias("a", name="alias/a", target_key_id=key.key_id, opts=opts)
        pulumi.export("role", role.arn)
        """,
    )
    role = _named(graph, "r").inputs
    assert role["assumeRolePolicy"] == {"$join": ['{"Resource": "', _ref(graph, "b", "arn"), '/*"}']}
    assert role["description"] == {"$join": ["for ", _ref(graph, "b", "bucket")]}
    assert _named(graph, "o").inputs["url"] == _ref(graph, "c", "identities", 0, "oidcs", 0, "issuer")
    assert _named(graph, "a").inputs["targetKeyId"] == _ref(graph, "k", "keyId")
    assert graph.outputs == {"role": _ref(graph, "r", "arn")}


def test_list_whose_length_only_aws_knows_is_passed_on_whole(tmp_path: Path) -> None:
    graph = _rendered(
        tmp_path,
        'eks.Cluster("d", role_arn="arn:r", vpc_config={"subnet_ids": cluster.vpc_config.subnet_ids}, opts=opts)\n',
    )
    assert _named(graph, "d").inputs["vpcConfig"]["subnetIds"] == _ref(graph, "c", "vpcConfig", "subnetIds")


def test_options_are_recorded(tmp_path: Path) -> None:
    graph = _rendered(
        tmp_path,
        """
        class Stores(pulumi.ComponentResource):
            def __init__(self) -> None:
                super().__init__("ai-infra:test:Stores", "stores", None, ResourceOptions(providers=[provider]))
                more = ResourceOptions(
                    parent=self, depends_on=[key], ignore_changes=["tags"], delete_before_replace=True, retain_on_delete=True,
                    aliases=[pulumi.Alias(name="old")],
                )
                s3.BucketV2("b", bucket="b", tags={"key": key.arn}, opts=more)
                s3.BucketV2("a", bucket="a", opts=ResourceOptions(parent=self, depends_on=[key]))

        Stores()
        """,
    )
    stores, key, bucket = (_named(graph, name) for name in ("stores", "k", "b"))
    assert (key.protect, key.parent, stores.custom, stores.provider) == (True, None, False, None)
    assert bucket.urn == "urn:pulumi:dev-ground::ai-infra::ai-infra:test:Stores$aws:s3/bucketV2:BucketV2::b"
    assert (bucket.parent, bucket.provider) == (stores.urn, _named(graph, "aws").urn)
    assert (bucket.ignore_changes, bucket.delete_before_replace, bucket.retain_on_delete) == (("tags",), True, True)
    assert [alias["spec"]["name"] for alias in bucket.aliases if "name" in alias.get("spec", {})] == ["old"]
    # What inputs refer to is not said a second time.
    assert (bucket.depends_on, _named(graph, "a").depends_on) == ((), (key.urn,))


def test_secret_is_marked_wherever_it_goes(tmp_path: Path) -> None:
    graph = _rendered(
        tmp_path,
        """
        word = Output.secret("hush")
        rds.Instance("d", instance_class="db.t4g.medium", password=Output.concat(word, "!"), opts=opts)
        pulumi.export("word", word)
        """,
    )
    database = _named(graph, "d")
    assert (database.inputs["password"], database.secret_inputs) == ({"$secret": "hush!"}, ("password",))
    assert (graph.outputs["word"], graph.secret_outputs) == ({"$secret": "hush"}, ("word",))


COMPUTED = {
    "upper case": "key.arn.apply(str.upper)",
    "lower case": "key.arn.apply(str.lower)",
    "a part": 'key.arn.apply(lambda arn: arn.split("/")[-1])',
    "a slice": "key.arn.apply(lambda arn: arn[:4])",
    "a length": "key.arn.apply(lambda arn: str(len(arn)))",
    "something replaced": 'key.arn.apply(lambda arn: arn.replace(":", "-"))',
    "base64": "key.arn.apply(lambda arn: __import__('base64').b64encode(arn.encode()).decode())",
}


@pytest.mark.parametrize("computed", COMPUTED.values(), ids=COMPUTED)
def test_value_computed_from_an_unknown_is_refused_by_resource_and_property(tmp_path: Path, computed: str) -> None:
    with pytest.raises(BadInput, match=r"^b\.bucket: is computed from what only AWS knows: use the output as it is"):
        _rendered(tmp_path, f's3.BucketV2("b", bucket={computed}, opts=opts)\n')


def test_number_of_resources_that_only_aws_knows_is_refused(tmp_path: Path) -> None:
    program = 'cluster.vpc_config.subnet_ids.apply(lambda found: [s3.BucketV2(f"b{n}", opts=opts) for n, _ in enumerate(found)])\n'
    with pytest.raises(BadInput, match=r"^b3: whether or how often it is made depends on what only AWS knows"):
        _rendered(tmp_path, program)


REFUSED = {
    "an invoke": ("import pulumi_aws\npulumi_aws.get_caller_identity()\n", r"asks AWS \(aws:index/getCallerIdentity"),
    "a look-up": ('s3.BucketV2.get("b", "id")\n', "^b: the program looks up a aws:s3/bucketV2:BucketV2"),
    "a file": (
        's3.BucketObjectv2("o", bucket="b", source=pulumi.StringAsset("x"), opts=opts)\n',
        r"^o\.source: files cannot be inputs",
    ),
    "one name twice": ('kms.Key("k", opts=opts)\n', "^k: two resources of type aws:kms/key:Key"),
    "an import": (
        'kms.Key("i", opts=ResourceOptions(provider=provider, import_="id"))\n',
        "^i: the option importId is not recorded",
    ),
    "a key only AWS knows": (
        's3.BucketV2("b", tags=key.arn.apply(lambda arn: {arn: "x"}), opts=opts)\n',
        r"^b\.tags: .* cannot be a key",
    ),
    "an error of the program": ("raise ValueError('no')\n", r"^infra/__main__\.py:10: ValueError: no$"),
    "a refusal of the program": ("raise pulumi.RunError('retention_days: too low')\n", "^retention_days: too low$"),
}


@pytest.mark.parametrize(("program", "says"), REFUSED.values(), ids=REFUSED)
def test_program_that_cannot_be_recorded_is_refused_by_name(tmp_path: Path, program: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        _rendered(tmp_path, program)


def test_program_sees_its_configuration_and_nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    graph = _rendered(
        tmp_path,
        """
        import os
        print("noise on stdout")
        pulumi.export("config", json.dumps(pulumi.Config("ai-infra").require_object("stack")))
        pulumi.export("environ", sorted(name for name in os.environ if name.startswith("AWS")))
        """,
    )
    assert graph.outputs == {"config": '{"team": "ml"}', "environ": []}
    assert "AWS_SECRET_ACCESS_KEY" in os.environ


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_environment_renders_the_same_each_time(environment: str) -> None:
    first, second = (render(ROOT, environment) for _ in range(2))
    assert first == second
    assert Graph.from_json(json.loads(json.dumps(first.to_json()))) == first
    assert {item.provider for item in first.resources if item.type.startswith("aws:")} <= {
        item.urn for item in first.of("pulumi:providers:aws")
    }


def test_dangerous_configuration_is_refused_with_the_remedy() -> None:
    text = (ROOT / config_file("prod")).read_text(encoding="utf-8").replace("nat: per-zone", "nat: one")
    with pytest.raises(BadInput, match=r"(?s)^the configuration of prod-ground is refused:.*network\.nat must be per-zone in prod"):
        render(ROOT, "prod", config_text=text)


@pytest.mark.parametrize(
    ("text", "says"), [("config: [", "is not YAML"), ("{}", "has no mapping `config`"), ("config: []", "has no mapping `config`")]
)
def test_file_that_is_no_configuration_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=f"^stacks/dev/Pulumi.dev-ground.yaml {says}"):
        render(ROOT, "dev", config_text=text)


def test_environment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"stacks/qa/Pulumi\.qa-ground\.yaml is not there: --env is one of dev, staging, prod"):
        render(ROOT, "qa")
    with pytest.raises(NotFound, match=r"has no infra/__main__\.py"):
        render(tmp_path, "dev")


def test_the_engine_runs_the_program_that_is_judged() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert (project["name"], project["main"], project["runtime"]["name"]) == (PROJECT, "infra/", "python")
    assert [path.name for path in ROOT.glob("Pulumi*")] == ["Pulumi.yaml"]


def test_without_pulumis_packages_a_command_says_how_to_get_them(tmp_path: Path) -> None:
    for item in Path(pulumi.__file__).parents[1].iterdir():
        if not item.name.startswith("pulumi"):
            (tmp_path / item.name).symlink_to(item)
    command = [sys.executable, "-S", "-m", "services.cli", "infra", "cost", "--env", "dev", "--root", str(ROOT)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "run `make infra`" in done.stderr
