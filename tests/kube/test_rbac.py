"""What each service account may do on a real API server: exactly the table, as the server itself says when asked in their name."""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from components.apps.calls import API, PREDICTOR, PROXY, TRAINING
from components.apps.rbac import Rbac
from services.core.kube import Kube, Resource
from services.serving.inference import ALLOWED
from tests.infra.apps import MODELS, RBAC, SERVICES, TRAINING_SPACE
from tests.infra.recorded import recorded
from tests.kube.apiserver import ADMIN, ApiServer

NAMESPACES = Resource("", "v1", "namespaces")
RULES = Resource("authorization.k8s.io", "v1", "selfsubjectrulesreviews")
RESOURCES = {
    "ServiceAccount": Resource("", "v1", "serviceaccounts"),
    "ClusterRole": Resource("rbac.authorization.k8s.io", "v1", "clusterroles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io", "v1", "rolebindings"),
}
ELSEWHERE = "kube-system"
SPACES = (SERVICES, MODELS, TRAINING_SPACE, ELSEWHERE)
ACCOUNTS = {API: SERVICES, PROXY: SERVICES, PREDICTOR: MODELS, TRAINING: TRAINING_SPACE}

Verbs = dict[str, set[str]]
"""`resource.group`, or `resource.group/name`, to verbs."""

WATCH = {"get", "list", "watch"}
TABLE: Mapping[tuple[str, str], Verbs] = {
    (API, MODELS): {
        "inferenceservices.serving.kserve.io": WATCH | {"create", "patch", "delete"},
        "backendtlspolicies.gateway.networking.k8s.io": WATCH | {"create", "patch", "delete"},
        "pods": WATCH,
        "configmaps": WATCH | {"create"},
        f"configmaps/{ALLOWED}": {"patch"},
    },
    (API, TRAINING_SPACE): {
        "rayjobs.ray.io": WATCH | {"create", "patch", "delete"},
        "workloads.kueue.x-k8s.io": {"list", "watch"},
    },
    (API, SERVICES): {},
    (API, ELSEWHERE): {},
} | {(account, namespace): {} for account in (PROXY, PREDICTOR, TRAINING) for namespace in SPACES}


@pytest.fixture(scope="module")
def granted(cluster: ApiServer) -> Iterator[ApiServer]:
    kube = Kube(cluster.access(), "tests")
    for namespace in (SERVICES, MODELS, TRAINING_SPACE):
        kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for (kind, _), made in recorded(lambda: Rbac("rbac", RBAC)).items():
        kube.apply(RESOURCES[kind], made.inputs)
    yield cluster
    kube.close()


def may(cluster: ApiServer, account: str, namespace: str) -> dict[str, set[str]]:
    """What an account may do in a namespace, without what everybody may who has logged in."""
    own = rules(cluster, f"system:serviceaccount:{ACCOUNTS[account]}:{account}", ACCOUNTS[account], namespace)
    everybody = rules(cluster, f"system:serviceaccount:{ACCOUNTS[account]}:somebody", ACCOUNTS[account], namespace)
    found: dict[str, set[str]] = {}
    for what, verb in own - everybody:
        found.setdefault(what, set()).add(verb)
    return found


def rules(cluster: ApiServer, user: str, home: str, namespace: str) -> set[tuple[str, str]]:
    groups = ("system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{home}")
    headers = [("Authorization", f"Bearer {ADMIN}"), ("Impersonate-User", user), *(("Impersonate-Group", name) for name in groups)]
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    context = ssl.create_default_context(cafile=str(cluster.identity.ca))
    with httpx.Client(base_url=cluster.url, verify=context, timeout=30) as client:
        answer = client.post(RULES.collection(), json=review, headers=headers)
    status = answer.raise_for_status().json()["status"]
    assert status["incomplete"] is False
    return {pair for rule in status["resourceRules"] for pair in pairs(rule)}


def pairs(rule: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", [""]):
                what = ".".join(filter(None, (resource, group))) + (f"/{name}" if name else "")
                yield from ((what, verb) for verb in rule["verbs"])


@pytest.mark.parametrize(("account", "namespace"), TABLE)
def test_an_account_may_do_exactly_what_the_table_says(granted: ApiServer, account: str, namespace: str) -> None:
    assert may(granted, account, namespace) == TABLE[account, namespace]


def test_the_table_has_every_account_that_is_made_or_bound() -> None:
    bound = {(grant.account.name, grant.account.namespace) for grant in RBAC.grants}
    assert bound | {(account.name, account.namespace) for account in RBAC.accounts} <= set(ACCOUNTS.items())
