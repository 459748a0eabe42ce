"""Terraform as a judge: offline, without anybody's credentials, and with a remedy when something is missing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.schema import Fields, ListOf, MapOf, Plain
from infra.terraform import REQUIRED, Terraform, TerraformRefused
from tests.peers import ROOT, need

OFFLINE = {
    "region": "eu-central-1",
    "access_key": "offline",
    "secret_key": "offline",
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_requesting_account_id": True,
}


@pytest.fixture(scope="module")
def terraform() -> Terraform:
    need("terraform")
    return Terraform()


def _document(**resources: Any) -> dict[str, Any]:
    return {"terraform": REQUIRED, "provider": {"aws": OFFLINE}, "resource": resources}


def _vpc(cidr: str, **more: Any) -> dict[str, Any]:
    return _document(aws_vpc={"main": {"cidr_block": cidr, **more}})


def _state(cidr: str) -> dict[str, Any]:
    attributes = {"id": "vpc-1", "cidr_block": cidr, "enable_dns_support": True, "instance_tenancy": "default", "tags_all": {}}
    provider = 'provider["registry.terraform.io/hashicorp/aws"]'
    instance = {"schema_version": 1, "attributes": attributes}
    vpc = {"mode": "managed", "type": "aws_vpc", "name": "main", "provider": provider, "instances": [instance]}
    return {"version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "base", "outputs": {}, "resources": [vpc]}


def _actions(plan: dict[str, Any]) -> dict[str, list[str]]:
    return {row["address"]: row["change"]["actions"] for row in plan["resource_changes"]}


def test_without_a_state_everything_is_new(terraform: Terraform) -> None:
    assert _actions(terraform.plan(_vpc("10.0.0.0/16"))) == {"aws_vpc.main": ["create"]}


@pytest.mark.parametrize(
    ("cidr", "more", "actions"),
    [
        ("10.0.0.0/16", {}, ["no-op"]),
        ("10.0.0.0/16", {"tags": {"team": "ml"}}, ["update"]),
        ("10.1.0.0/16", {}, ["delete", "create"]),
    ],
)
def test_state_is_taken_as_it_is(terraform: Terraform, cidr: str, more: dict[str, Any], actions: list[str]) -> None:
    assert _actions(terraform.plan(_vpc(cidr, **more), _state("10.0.0.0/16"))) == {"aws_vpc.main": actions}


def test_replacement_of_what_is_protected_is_refused_by_name(terraform: Terraform) -> None:
    document = _vpc("10.1.0.0/16", lifecycle={"prevent_destroy": True})
    with pytest.raises(TerraformRefused, match=r"(?s)aws_vpc\.main.*prevent_destroy"):
        terraform.plan(document, _state("10.0.0.0/16"))


def test_what_the_provider_does_not_take_is_refused_by_name(terraform: Terraform) -> None:
    with pytest.raises(TerraformRefused, match=r"(?s)No argument or block type is named \"cidr_blok\""):
        terraform.validate(_document(aws_vpc={"main": {"cidr_blok": "10.0.0.0/16"}}))


def test_value_that_aws_would_refuse_is_refused_by_the_plan(terraform: Terraform) -> None:
    with pytest.raises(TerraformRefused, match=r"(?s)deletion_window_in_days.*7 - 30"):
        terraform.plan(_document(aws_kms_key={"main": {"deletion_window_in_days": 3}}))


def test_secret_has_a_stand_in_and_is_sensitive(terraform: Terraform) -> None:
    values = {"name": "p", "type": "SecureString", "value": "${var.secret}"}
    document = _document(aws_ssm_parameter={"main": values}) | {"variable": {"secret": {"type": "string", "sensitive": True}}}
    change = terraform.plan(document)["resource_changes"][0]["change"]
    assert (change["after"]["value"], change["after_sensitive"]["value"]) == ("not-the-secret", True)


def test_user_settings_do_not_reach_the_provider(terraform: Terraform, tmp_path: Path) -> None:
    """A profile that is not there would stop the provider, and a settings file that is not there stops Terraform's init."""
    strange = {
        "AWS_PROFILE": "nobody",
        "TF_CLI_CONFIG_FILE": str(tmp_path / "absent"),
        "TF_VAR_secret": "theirs",
        "TF_LOG": "trace",
    }
    environment = os.environ | strange | {"XDG_CACHE_HOME": str(tmp_path)}
    code = f"from infra.terraform import Terraform; print(len(Terraform().plan({_vpc('10.0.0.0/16')!r})['resource_changes']))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_absent_program_is_named_with_a_remedy() -> None:
    code = "from infra.terraform import Terraform; Terraform()"
    environment = os.environ | {"PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "terraform is not on PATH: install Terraform 1.11 or newer" in done.stderr


def test_provider_that_cannot_be_had_is_named_with_a_remedy(terraform: Terraform, tmp_path: Path) -> None:
    empty = Terraform(program=terraform.program, mirror=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(TerraformRefused, match=r"AI_INFRA_TF_PLUGINS to a filesystem mirror that holds hashicorp/aws 5\.100\.0"):
        empty.plan(_vpc("10.0.0.0/16"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_cached_link_to_a_mirror_that_moved_is_made_anew(terraform: Terraform, tmp_path: Path) -> None:
    fresh = Terraform(cache=tmp_path)
    fresh.validate(_vpc("10.0.0.0/16"))
    (link,) = tmp_path.glob("work-*/.terraform/providers/*/*/*/*/*")
    if not link.is_symlink():
        pytest.skip("the provider was downloaded: there is no mirror to move")
    link.unlink()
    link.symlink_to(tmp_path / "moved")
    fresh.validate(_vpc("10.0.0.0/16"))


def test_equal_programs_on_equal_states_are_planned_once(terraform: Terraform, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    counting = tmp_path / "terraform"
    counting.write_text(f'#!/bin/sh\necho "$1" >> {calls}\nexec {terraform.program} "$@"\n')
    counting.chmod(0o755)
    counted = Terraform(program=str(counting), cache=tmp_path / "cache")
    asked = [(_vpc("10.0.0.0/16"), None), (_vpc("10.1.0.0/16"), None), (_vpc("10.1.0.0/16"), _state("10.0.0.0/16"))]
    plans = [counted.plan(*arguments) for arguments in asked * 2]
    assert plans[:3] == plans[3:]
    assert calls.read_text().split().count("plan") == len(asked)
    refused = _document(aws_kms_key={"main": {"deletion_window_in_days": 3}})
    for _ in range(2):
        with pytest.raises(TerraformRefused):
            counted.plan(refused)
    counting.touch()
    assert _actions(counted.plan(*asked[0])) == _actions(plans[0])
    assert calls.read_text().split().count("plan") == len(asked) + 2 + 1


def test_schema_knows_attributes_blocks_and_their_shapes(terraform: Terraform) -> None:
    cluster = terraform.schema().resource("aws_eks_cluster").fields
    assert cluster["name"] == Plain("string")
    assert cluster["tags"] == MapOf(Plain("string"))
    access = cluster["vpc_config"]
    assert isinstance(access, ListOf)
    assert isinstance(access.item, Fields)
    assert access.item.fields["subnet_ids"] == ListOf(Plain("string"), ordered=False)
