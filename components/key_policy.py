"""Statements of key policies. Plain documents; nothing is made here.

A key without a statement for its account's root is out of reach for good once the roles in its policy are gone: KMS keeps roles by
an id that their successors do not have. So every statement names the root, which means "whom IAM policies let", and says in a
condition which roles that may be. No action is a pattern: `kms:*` would let administrators sign and decrypt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Statement = dict[str, Any]

LOOK: Final = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:GetPublicKey",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:Verify",
)
CHANGE: Final = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:PutKeyPolicy",
    "kms:ReplicateKey",
    "kms:RevokeGrant",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
END: Final = ("kms:DisableKey", "kms:ScheduleKeyDeletion")
USE: Final = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)

UNSEAL: Final = ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt")
"""What Vault asks of the key that wraps its own."""


@dataclass(frozen=True, kw_only=True)
class Keepers:
    """Who may do what with keys, but use them. admins: change; enders: with the root user the only ones that disable or delete."""

    account: str
    admins: Sequence[str]
    enders: Sequence[str]

    def __post_init__(self) -> None:
        if not self.admins or not self.enders:
            raise ValueError("admins or enders is empty: nobody could change the key again, or end it, so name a role")


def keeping(keepers: Keepers) -> list[Statement]:
    """The statements that every key has.

    Danger: an admin can put another policy in place of this one; nothing of KMS prevents that. The alarm on PutKeyPolicy tells.
    """
    root = f"arn:aws:iam::{keepers.account}:root"
    enders = [*keepers.enders, root]
    others = {"ArnNotEquals": {"aws:PrincipalArn": enders}}
    # An alias goes before its key.
    end = [*END, "kms:CancelKeyDeletion", "kms:DeleteAlias", "kms:PutKeyPolicy"]
    return [
        allow("Look", keepers.account, LOOK),
        allow("Change", keepers.account, CHANGE, by(keepers.admins)),
        allow("End", keepers.account, end, by(enders)),
        {"Sid": "NobodyElseEndsIt", "Effect": "Deny", "Principal": "*", "Action": list(END), "Resource": "*", "Condition": others},
    ]


def by(roles: Sequence[str]) -> dict[str, Any]:
    """The condition that one of the roles asks."""
    return {"ArnEquals": {"aws:PrincipalArn": list(roles)}}


def allow(sid: str, account: str, actions: Sequence[str], condition: dict[str, Any] | None = None) -> Statement:
    """To whom IAM policies of the account let."""
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": list(actions),
        "Resource": "*",
    }
    return statement if condition is None else statement | {"Condition": condition}


def allow_service(sid: str, service: str, actions: Sequence[str], condition: dict[str, Any]) -> Statement:
    """To a service of AWS, which asks by itself and not for somebody; the condition says for whose things."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": list(actions),
        "Resource": "*",
        "Condition": condition,
    }
