"""What the API server itself refuses: policies that services of ours state, each with where it is in force."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ResourceOptions

from components.apps.stated import stated
from services.core.kube import Object


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A ValidatingAdmissionPolicy and its binding."""

    policy: Object
    binding: Object


@dataclass(frozen=True, kw_only=True)
class AdmissionArgs:
    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        apart = [rule.policy["metadata"]["name"] for rule in self.rules if not _joined(rule)]
        if apart:
            raise ValueError(f"policies {', '.join(apart)}: their bindings name other ones, and nothing would be refused")


class Admission(pulumi.ComponentResource):
    """A policy without its binding refuses nothing: so each is whole before what it guards is made."""

    def __init__(self, name: str, args: AdmissionArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Admission", name, None, opts)
        for rule in args.rules:
            named = rule.policy["metadata"]["name"]
            policy = stated(f"{named}-policy", rule.policy, ResourceOptions(parent=self))
            stated(f"{named}-binding", rule.binding, ResourceOptions(parent=self, depends_on=[policy]))
        self.register_outputs({})


def _joined(rule: Rule) -> bool:
    named: str = rule.policy["metadata"]["name"]
    return bool(rule.binding["spec"]["policyName"] == named)
