"""CI's deploy role may make all that the environments have, and roles made by it may do all that their policies say.

Policies are read from their text: which actions a statement names, and whether it allows or denies them on everything.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from components.budget import Budget, BudgetArgs
from infra.render import ENVIRONMENTS
from tests.infra.deploy_actions import ACTIONS, SERVICE_ROLES
from tests.infra.graphs import ground
from tests.infra.recorded import recorded
from tests.peers import ROOT

BOOTSTRAP = ROOT / "infra" / "bootstrap"
STATEMENT = re.compile(r"\bSid\s+= \"(\w+)\"(.*?)(?=\bSid\s+= |\Z)", re.S)
GLOBAL = {"budgets", "ce", "iam", "route53"}
NAMED = re.compile(r'"([a-z0-9-]+:[A-Za-z*]+)"')


def _patterns(text: str, effect: str) -> set[str]:
    """Of statements with an effect, those that deny only where they hold for every resource without a condition."""
    return set(_of_statements(text, effect))


def _of_statements(text: str, effect: str) -> Iterator[str]:
    for _, body in STATEMENT.findall(text):
        everywhere = "Condition" not in body and re.search(r'Resource\s+= "\*"', body)
        if f'Effect = "{effect}"' in re.sub(r" +", " ", body) and (effect == "Allow" or everywhere):
            yield from NAMED.findall(re.split(r"\bResource\b|\bCondition\b", body)[0])


def _matches(action: str, patterns: set[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _deploy() -> set[str]:
    return _patterns(_deploy_text(), "Allow")


def _deploy_text() -> str:
    return (BOOTSTRAP / "deploy.tf").read_text(encoding="utf-8").split("ceilings = {")[0]


def _never() -> set[str]:
    """Of the ceiling: what is denied on every resource."""
    text = (BOOTSTRAP / "deploy.tf").read_text(encoding="utf-8")
    blocks = re.findall(r"\n    \w+ = \{\n      Action = \[(.*?)\]\n      Resource = \"\*\"", text, re.S)
    return {action for block in blocks for action in NAMED.findall(block)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_deploy_role_may_make_each_type_of_resource_of_the_environment(environment: str) -> None:
    kinds = {item.type for item in ground(environment).resources if item.type.startswith("aws:")}
    allowed, never = _deploy(), _never()
    assert len(allowed) > 40
    assert {"kms:Sign", "sts:AssumeRole"} <= never
    assert kinds - ACTIONS.keys() == set(), "say what it asks of IAM, in deploy_actions.py"
    asked = {(kind, action) for kind in kinds for action in ACTIONS[kind]}
    assert {pair for pair in asked if not _matches(pair[1], allowed) or _matches(pair[1], never)} == set()


def test_deploy_role_may_make_what_only_an_account_that_pays_its_own_bill_has() -> None:
    kinds = _of_payers()
    assert len(kinds) == 3
    assert {action for kind in kinds for action in ACTIONS[kind] if not _matches(action, _deploy())} == set()


def test_table_has_no_type_that_no_environment_makes() -> None:
    kinds = {item.type for environment in ENVIRONMENTS for item in ground(environment).resources}
    assert ACTIONS.keys() - kinds == _of_payers()


def _of_payers() -> set[str]:
    args = BudgetArgs(environment="dev", monthly_usd=500, anomaly_usd=50, payer=True, topic_arn="arn:topic")
    more = {item.type for item in recorded(lambda: Budget("budget", args)).values()} - {"Budget"}
    return {kind for kind in ACTIONS if kind.rsplit(":", 1)[1] in more}


def test_deploy_role_may_make_the_role_of_each_service_that_wants_one_and_of_no_other() -> None:
    body = dict(STATEMENT.findall(_deploy_text()))["ServiceRoles"]
    kinds = {item.type for environment in ENVIRONMENTS for item in ground(environment).resources}
    assert SERVICE_ROLES.keys() <= kinds
    assert all("iam:CreateServiceLinkedRole" in ACTIONS[kind] for kind in SERVICE_ROLES)
    wanted = {f"{service}.amazonaws.com" for services in SERVICE_ROLES.values() for service in services}
    assert set(re.findall(r'"([a-z0-9.-]+\.amazonaws\.com)"', body)) == wanted


def test_actions_of_services_without_regions_are_not_asked_for_one() -> None:
    """Such a call goes to us-east-1, wherever it is for."""
    bodies = [body for _, body in STATEMENT.findall(_deploy_text()) if "aws:RequestedRegion" in body]
    assert len(bodies) > 1
    assert [action for body in bodies for action in NAMED.findall(body) if action.split(":")[0] in GLOBAL] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_boundary_lets_each_role_do_what_its_policy_says(environment: str) -> None:
    text = (BOOTSTRAP / "boundary.tf").read_text(encoding="utf-8")
    allowed, denied = _patterns(text, "Allow"), _patterns(text, "Deny")
    assert "s3:PutBucketPolicy" in denied
    given = {
        (item.name, action) for item in ground(environment).of("aws:iam/rolePolicy:RolePolicy") for action in _actions(item.inputs)
    }
    assert len(given) > 50
    assert {pair for pair in given if not _matches(pair[1], allowed) or _matches(pair[1], denied)} == set()


@pytest.mark.parametrize("missing", ["xray:PutTraceSegments", "kms:CreateKey"])
def test_action_that_no_boundary_has_would_be_found(missing: str) -> None:
    text = (BOOTSTRAP / "boundary.tf").read_text(encoding="utf-8").replace('"xray:Put*",', "")
    assert not _matches(missing, _patterns(text, "Allow")) or _matches(missing, _patterns(text, "Deny"))


def _actions(inputs: dict[str, Any]) -> Iterator[str]:
    policy = inputs["policy"]
    text = policy if isinstance(policy, str) else "".join("~" if isinstance(part, dict) else part for part in policy["$join"])
    for statement in json.loads(text)["Statement"]:
        actions = statement["Action"]
        yield from [actions] if isinstance(actions, str) else actions
