"""`ai-infra infra check`: the infra rules over graph, plan and change, then checkov over the plans; rules alone over a cluster.

What they find is a violation. It plans nothing and knows no YAML of an environment: see `infra.render`, `infra.terraform`,
`infra.diff`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.checkov import Failure, failures, find_checkov
from infra.facts import Change, Stack, facts
from infra.graph import Graph
from infra.kube_facts import kube_facts
from infra.manifests import manifests
from infra.written import Skip, exceptions, skips
from services.core.bundle import Bundle
from services.core.rego import verdict_on

EXCEPTIONS = Path("stacks") / "exceptions.yaml"
SKIPS = Path("infra") / "checkov-skips.yaml"
ADDRESS = re.compile(r"[a-z][a-z0-9]*_[a-z0-9_]+\.[A-Za-z0-9_-]+(?=[ .#])|[A-Z][A-Za-z0-9]*(/[a-z0-9.-]+)+(?= )")
"""Of Terraform, or an id of `kube_facts`."""


@dataclass(frozen=True, order=True)
class Violation:
    """rule: as infra.tags or CKV_AWS_18; resource: address, empty where it is about the whole; reason: with the remedy."""

    rule: str
    resource: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"rule": self.rule, "resource": self.resource, "reason": self.reason}


def check(root: Path, bundle: Bundle, stack: Stack, now: int, change: Change | None = None) -> list[Violation]:
    """What is wrong with a stack, rules first.

    Args:
        root: the checkout with the written exceptions and skips, and checkov's environment beside them.
        now: epoch seconds; exceptions end.
    Raises:
        BadInput: a written file is no good, or the plan is not of the program.
        CheckovFailed, MissingTool: checkov did not judge, or is not here.
    """
    noted = [item.to_fact() for item in exceptions(root / EXCEPTIONS, stack.name)]
    ruled = by_rules(bundle, facts(stack, now, noted, change))
    plans = [stack.plan] if change is None else [stack.plan, change.plan]
    return ruled + by_checkov(failures(find_checkov(root), plans), skips(root / SKIPS, stack.name))


def check_cluster(root: Path, bundle: Bundle, graphs: Sequence[Graph]) -> list[Violation]:
    """What is wrong with what a later layer makes in the cluster. What the charts render to is not judged: see `components`.

    Args:
        root: the checkout; the layer apps has manifests there too.
        graphs: of the layers up to the one that is judged.
    Raises:
        BadInput: an object cannot be judged, or a manifest is no YAML.
    """
    layer = graphs[-1]
    found = manifests(root, layer.environment) if layer.layer == "apps" else ()
    return by_rules(bundle, kube_facts(graphs, found))


def by_rules(bundle: Bundle, given: Mapping[str, Any]) -> list[Violation]:
    """One violation for each reason of each rule that does not pass."""
    return [
        Violation(report["rule"], _named(reason), reason)
        for report in verdict_on(bundle, given).refusals
        for reason in report["reasons"]
    ]


def by_checkov(found: Sequence[Failure], skipped: Mapping[tuple[str, str], Skip]) -> list[Violation]:
    """Failures that nobody gave a reason for, and reasons that no failure needs."""
    keys = {(failure.check, failure.resource) for failure in found}
    failed = [
        Violation(item.check, item.resource, f"{item.title}: change the resource, or give a reason in {SKIPS}")
        for item in found
        if (item.check, item.resource) not in skipped
    ]
    needless = f"the skip in {SKIPS} is not needed: remove it"
    return failed + [Violation(check, resource, needless) for check, resource in sorted(skipped.keys() - keys)]


def _named(reason: str) -> str:
    """The address that a reason begins with; of a statement of a policy, the resource that holds the policy."""
    found = ADDRESS.match(reason)
    return found.group() if found else ""
