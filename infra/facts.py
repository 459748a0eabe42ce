"""The input of the infra rules: what the program says and what the plan makes of it, in one compact document. It judges nothing.

    {"action": "provision", "now": epoch seconds, "environment", "layer", "account",
     "resources": {terraform type: [{"address", "protect", "target", "tags", every attribute that has a value}]},
     "statements": [{"id": "ADDRESS#SID", "governs": address, "kind": "identity" | "resource" | "trust", "effect", "principals",
                     "actions", "notActions", "resources", "notResources", "conditions": [{"test", "key", "values"}], "holders"}],
     "texts": [{"resource", "path", "text"}],
     "changes": null | [{"address", "type", "actions", "protect", "before", "after"}],
     "exceptions": [{"rule", "resource", "reason", "approvedBy", "expires": epoch seconds}]}

A value is the plan's where the plan knows it, else the program's: a reference stays `${address.attribute}`. `target` is the address
of what a resource configures (a bucket's versioning: the bucket). `tags` are those that AWS gets, with the provider's defaults;
without the field the type takes none. Actions and condition keys are in lower case, for IAM has no case there. `holders` are the
roles that an identity policy belongs to. `texts` are all literals of the program, those of outputs and of providers too: what is
secret is a variable and no literal; their paths are in lower case. What is not of AWS is no part of it: see `stack`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.statements import policy_of, statements
from infra.values import filled, literals, referred
from services.core.errors import BadInput

Json = dict[str, Any]

TARGETS = {
    "aws_backup_vault_lock_configuration": ("backup_vault_name", "name"),
    "aws_backup_vault_policy": ("backup_vault_name", "name"),
    "aws_flow_log": ("vpc_id", "id"),
    "aws_kms_key_policy": ("key_id", "id"),
    "aws_s3_bucket_object_lock_configuration": ("bucket", "bucket"),
    "aws_s3_bucket_policy": ("bucket", "bucket"),
    "aws_s3_bucket_public_access_block": ("bucket", "bucket"),
    "aws_s3_bucket_replication_configuration": ("bucket", "bucket"),
    "aws_s3_bucket_server_side_encryption_configuration": ("bucket", "bucket"),
    "aws_s3_bucket_versioning": ("bucket", "bucket"),
    "aws_secretsmanager_secret_policy": ("secret_arn", "arn"),
    "aws_sns_topic_policy": ("arn", "arn"),
    "aws_sqs_queue_policy": ("queue_url", "url"),
}
"""Type → its attribute that names what it configures, and the attribute of that thing with the same value."""


@dataclass(frozen=True)
class Stack:
    """One layer of one environment as Terraform sees it.

    account: that the AWS providers may work in, empty without one; protected: addresses that the engine refuses to destroy;
    document: Terraform JSON of the program; plan: `terraform show -json` of its plan; beside: by name, what the document leaves
    out, as values of `graph`.
    """

    environment: str
    layer: str
    account: str
    protected: frozenset[str]
    document: Json
    plan: Json
    beside: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.environment}-{self.layer}"


@dataclass(frozen=True)
class Change:
    """A stack's program planned against the state that another one planned. protected: addresses in that other one."""

    protected: frozenset[str]
    plan: Json


def facts(stack: Stack, now: int, exceptions: Sequence[Json] = (), change: Change | None = None) -> Json:
    """The input of the rules.

    Raises:
        BadInput: the plan is not of this program.
    """
    reader = _Reader(stack)
    return {
        "action": "provision",
        "now": now,
        "environment": stack.environment,
        "layer": stack.layer,
        "account": stack.account,
        "resources": reader.resources(),
        "statements": list(reader.statements()),
        "texts": list(reader.texts()),
        "changes": None if change is None else _changes(change, stack.protected | change.protected),
        "exceptions": list(exceptions),
    }


class _Reader:
    """One stack, resource by resource."""

    def __init__(self, stack: Stack) -> None:
        self.written: dict[str, Json] = {
            f"{kind}.{name}": values for kind, named in stack.document.get("resource", {}).items() for name, values in named.items()
        }
        planned = stack.plan["planned_values"]["root_module"].get("resources", [])
        self.planned: dict[str, Json] = {item["address"]: item.get("values", {}) for item in planned if item["mode"] == "managed"}
        if self.planned.keys() != self.written.keys():
            apart = ", ".join(sorted(self.planned.keys() ^ self.written.keys())[:3])
            raise BadInput(f"the plan is not of this program: {apart} is in one of them only; plan it again")
        self.protected, self.beside = stack.protected, stack.beside
        self.roles = {
            address: f"arn:aws:iam::{stack.account}:role{values.get('path') or '/'}{values['name']}"
            for address, values in self.planned.items()
            if address.startswith("aws_iam_role.") and values.get("name")
        }
        self.texts_of = {address: self._resolved(values) for address, values in self.written.items()}

    def resources(self) -> dict[str, list[Json]]:
        found: dict[str, list[Json]] = {}
        for address, planned in self.planned.items():
            kind = address.split(".")[0]
            values = filled(self.texts_of[address], planned)
            fact = {key: value for key, value in values.items() if key not in ("tags", "tags_all") and policy_of(value) is None}
            fact |= {"address": address, "protect": address in self.protected}
            if "tags_all" in planned:
                fact["tags"] = planned["tags_all"] or {}
            if kind in TARGETS:
                fact["target"] = self._target(address, kind)
            found.setdefault(kind, []).append(fact)
        return found

    def statements(self) -> Iterator[Json]:
        for address, values in self.texts_of.items():
            kind = address.split(".")[0]
            for path, text in literals(values):
                document = policy_of(text)
                if document is not None:
                    owner = address if path == "policy" else f"{address}.{path}"
                    target, holders = self._target(address, kind), self._holders(address)
                    yield from statements(document, owner, _kind(kind, path), target, holders)

    def texts(self) -> Iterator[Json]:
        for owner, values in {**self.written, **_told(self.beside)}.items():
            for path, text in literals(values):
                yield {"resource": owner, "path": path.lower(), "text": text}

    def _target(self, address: str, kind: str) -> str:
        """The address of what a resource configures; its own when it configures nothing else."""
        attribute, named = TARGETS.get(kind, ("", ""))
        value = self.written[address].get(attribute)
        if value is None:
            return address
        name = self.planned[address].get(attribute)
        others = (other for other, values in self.planned.items() if other != address and name and values.get(named) == name)
        return referred(value) or next(others, address)

    def _holders(self, address: str) -> list[str]:
        """ARNs of the roles that have an identity policy, inline or attached."""
        if address.startswith("aws_iam_role."):
            return [self.roles[address]] if address in self.roles else []
        if address.startswith("aws_iam_role_policy."):
            return [self._role(address)]
        attachments = (other for other in self.written if other.startswith("aws_iam_role_policy_attachment."))
        return sorted(self._role(other) for other in attachments if referred(self.written[other].get("policy_arn")) == address)

    def _role(self, address: str) -> str:
        """ARN of the role that an inline policy or an attachment names; the name itself if no role here has it."""
        written, name = self.written[address].get("role"), self.planned[address].get("role")
        named = (arn for arn in self.roles.values() if arn.rsplit("/", 1)[-1] == name)
        return self.roles.get(referred(written) or "") or next(named, str(name or written))

    def _resolved(self, value: Any) -> Any:
        """References to a role's ARN are that ARN: account and name are in the program."""
        if isinstance(value, dict):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        if isinstance(value, str) and "${aws_iam_role." in value:
            for address, arn in self.roles.items():
                value = value.replace(f"${{{address}.arn}}", arn)
        return value


def _told(value: Any) -> Any:
    """A value of `graph` without its references and secrets."""
    match value:
        case {"$ref": _} | {"$secret": _}:
            return None
        case dict():
            return {key: _told(item) for key, item in value.items()}
        case list():
            return [_told(item) for item in value]
    return value


def _kind(kind: str, path: str) -> str:
    if path == "assume_role_policy":
        return "trust"
    return "identity" if kind.startswith("aws_iam_") else "resource"


def _changes(change: Change, protected: frozenset[str]) -> list[Json]:
    rows = [item for item in change.plan.get("resource_changes", []) if item["mode"] == "managed"]
    return [
        {
            "address": item["address"],
            "type": item["type"],
            "actions": item["change"]["actions"],
            "protect": item["address"] in protected,
            "before": item["change"]["before"],
            "after": item["change"]["after"],
        }
        for item in rows
        if item["change"]["actions"] not in (["no-op"], ["create"])
    ]
