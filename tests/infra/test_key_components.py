"""Data keys and signing keys: what a component makes of its arguments."""

from dataclasses import replace
from typing import Any

import pytest
from pulumi_aws import Provider

from components.key_policy import Keepers, allow
from components.keys import DataKey, DataKeyArgs
from components.signing_keys import SigningKeys, SigningKeysArgs
from tests.infra.recorded import Graph, changed, recorded

ACCOUNT = "111122223333"
ADMIN, BREAK_GLASS, PROXY = (
    f"arn:aws:iam::{ACCOUNT}:role/{role}" for role in ("deploy", "break-glass", "ai-infra-dev-signing-proxy")
)
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
KEEPERS = Keepers(account=ACCOUNT, admins=[ADMIN], enders=[BREAK_GLASS])
DATA = DataKeyArgs(
    environment="dev", region="eu-central-1", keepers=KEEPERS, purpose="objects", deletion_days=7, via=["s3"], grants=True
)
SIGNING = SigningKeysArgs(
    environment="dev",
    keepers=KEEPERS,
    proxy_role_arn=PROXY,
    deletion_days=7,
    generations=1,
    current=1,
    retired=0,
    replicated=False,
)


def data(args: DataKeyArgs = DATA) -> Graph:
    return recorded(lambda: DataKey("audit", args))


def signing(args: SigningKeysArgs = SIGNING) -> Graph:
    return recorded(lambda: SigningKeys("audit", args))


def test_data_key_rotates_and_has_an_alias() -> None:
    made = data()
    key = made["Key", "audit-key"].inputs
    assert (key["enableKeyRotation"], key["keyUsage"], key["deletionWindowInDays"]) == (True, "ENCRYPT_DECRYPT", 7)
    assert made["Alias", "audit-key"].inputs == {"name": "alias/ai-infra-dev-audit", "targetKeyId": "audit-key.id"}


def test_data_key_is_used_through_its_services_alone() -> None:
    statements = data()["Key", "audit-key"].statements()
    through = {"StringEquals": {"kms:ViaService": ["s3.eu-central-1.amazonaws.com"]}}
    assert statements["Use"]["Condition"] == through
    assert statements["Grant"]["Condition"] == through | {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert (statements["Retire"]["Action"], statements["Retire"]["Condition"]) == (["kms:RetireGrant"], through)
    assert not {"Grant", "Retire"} & data(replace(DATA, grants=False))["Key", "audit-key"].statements().keys()


@pytest.mark.parametrize("graph", [data, signing])
def test_who_changes_a_key_cannot_use_it_and_no_action_is_a_pattern(graph: Any) -> None:
    [key] = [item for item in graph().values() if item.type == "Key"]
    statements = key.statements()
    assert statements["Change"]["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [ADMIN]}}
    for sid in ("Look", "Change", "End"):
        assert not {"kms:Sign", "kms:Decrypt", "kms:Encrypt", "kms:CreateGrant"} & set(statements[sid]["Action"])
    assert not [action for item in statements.values() for action in item["Action"] if "*" in action]


@pytest.mark.parametrize("graph", [data, signing])
def test_only_enders_and_the_root_user_end_a_key_and_take_its_alias_before(graph: Any) -> None:
    [key] = [item for item in graph().values() if item.type == "Key"]
    end, deny = key.statements()["End"], key.statements()["NobodyElseEndsIt"]
    assert {"kms:DeleteAlias", "kms:DisableKey", "kms:ScheduleKeyDeletion"} <= set(end["Action"])
    assert end["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [BREAK_GLASS, ROOT]}}
    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert set(deny["Action"]) == {"kms:DisableKey", "kms:ScheduleKeyDeletion"}
    assert deny["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": [BREAK_GLASS, ROOT]}}


def test_data_key_of_prod_is_protected() -> None:
    assert not data()["Key", "audit-key"].protect
    assert data(replace(DATA, environment="prod"))["Key", "audit-key"].protect


def test_key_in_a_cloudhsm_store_is_asked_for_no_rotation() -> None:
    key = data(replace(DATA, key_store_id="cks-0123456789abcdef0"))["Key", "audit-key"].inputs
    assert (key["customKeyStoreId"], key["enableKeyRotation"]) == ("cks-0123456789abcdef0", False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deletion_days": 6}, "7 to 30"),
        ({"via": [], "grants": False}, "nobody could use"),
        ({"via": [], "statements": [allow("Use", ACCOUNT, ["kms:Decrypt"])]}, "grants wants via"),
    ],
)
def test_data_key_that_nobody_could_use_or_get_back_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DATA, **changes)


@pytest.mark.parametrize("nobody", ["admins", "enders"])
def test_key_without_anybody_to_change_or_end_it_is_refused(nobody: str) -> None:
    with pytest.raises(ValueError, match="nobody could change"):
        replace(KEEPERS, **{nobody: []})


def test_signing_key_is_p256_and_protected_in_every_environment() -> None:
    key = signing()["Key", "audit-1"]
    assert (key.inputs["customerMasterKeySpec"], key.inputs["keyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    assert key.protect


def test_proxy_signs_and_everybody_else_is_denied() -> None:
    statements = signing()["Key", "audit-1"].statements()
    signs = {sid for sid, item in statements.items() if item["Effect"] == "Allow" and "kms:Sign" in item["Action"]}
    assert signs == {"ProxySigns"}
    assert statements["ProxySigns"]["Principal"] == {"AWS": PROXY}
    deny = statements["NobodyElseSigns"]
    assert (deny["Effect"], deny["Principal"], deny["Action"], deny["Resource"]) == ("Deny", "*", ["kms:Sign"], "*")
    assert deny["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": PROXY}}


def test_a_generation_more_changes_nothing_that_signs() -> None:
    assert changed(signing(), signing(replace(SIGNING, generations=2))) == {("Key", "audit-2")}


def test_rotation_moves_the_alias_alone() -> None:
    before, after = (signing(replace(SIGNING, generations=2, current=current)) for current in (1, 2))
    assert changed(before, after) == {("Alias", "audit")}
    assert after["Alias", "audit"].inputs == {"name": "alias/ai-infra-dev-audit-signing", "targetKeyId": "audit-2.id"}


def test_retired_key_stays_and_signs_for_nobody() -> None:
    before, after = (signing(replace(SIGNING, generations=2, current=2, retired=retired)) for retired in (0, 1))
    assert changed(before, after) == {("Key", "audit-1")}
    deny = after["Key", "audit-1"].statements()["RetiredKeyNeverSigns"]
    assert "Condition" not in deny
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", ["kms:Sign"])


def test_replica_has_the_policy_and_the_alias_of_its_primary() -> None:
    args = replace(SIGNING, replicated=True)
    made = recorded(lambda: SigningKeys("audit", args, replica=Provider("aws-away", region="eu-west-1")))
    primary, copy = made["Key", "audit-1"], made["ReplicaKey", "audit-1-replica"]
    assert primary.inputs["multiRegion"]
    assert copy.inputs["primaryKeyArn"] == "audit-1.arn"
    assert copy.statements() == primary.statements()
    assert copy.protect
    assert made["Alias", "audit-replica"].inputs["name"] == made["Alias", "audit"].inputs["name"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current": 2}, "generations"),
        ({"retired": 1}, "retired"),
        ({"deletion_days": 31}, "7 to 30"),
        ({"environment": "prod"}, "must be replicated"),
    ],
)
def test_signing_keys_that_could_not_sign_or_be_lost_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIGNING, **changes)
