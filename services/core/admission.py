"""ValidatingAdmissionPolicies, as pure functions: their form. What is refused, and of what, each of ours says where it belongs.

CEL sees the object as it is to be stored, the one before it, and who asks. It follows no reference to another object but a
parameter, decodes no PEM, and checks no signature. An error in an expression refuses too.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from services.core.kube import Object, Resource

POLICIES = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
BINDINGS = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")
LABELS: Final = {"app.kubernetes.io/managed-by": "ai-infra"}
SPEC_CHANGES: Final = "request.operation == 'CREATE' || object.spec != oldObject.spec"
"""What was admitted before a policy, or an older one, must still lose its finalizers."""


def policy(
    name: str,
    judged: Resource,
    refusals: Iterable[Object],
    *,
    variables: Mapping[str, str] | None = None,
    when: str = SPEC_CHANGES,
    subresources: Iterable[str] = (),
    parameter: str = "",
) -> Object:
    """judged: in whatever version it is written, it is judged as in this one; variables: name → expression, in the order in which
    they name each other; when: an expression; subresources: of it, which are judged too; parameter: kind of core's v1, none without
    parameters."""
    named = {"paramKind": {"apiVersion": "v1", "kind": parameter}} if parameter else {}
    resources = [judged.plural, *(f"{judged.plural}/{part}" for part in subresources)]
    # Without wildcards: the server checks the types of no policy that has one.
    rule = {
        "apiGroups": [judged.group],
        "apiVersions": [judged.version],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    }
    return {
        "apiVersion": f"{POLICIES.group}/{POLICIES.version}",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": named
        | {
            "failurePolicy": "Fail",
            "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [rule]},
            "matchConditions": [{"name": "spec-changes", "expression": when}],
            "variables": [{"name": key, "expression": text} for key, text in (variables or {}).items()],
            "validations": list(refusals),
        },
    }


def binding(name: str, *, namespace: str = "", parameter: str = "") -> Object:
    """Puts the policy of that name in force. namespace: where, else everywhere; parameter: name of an object in the namespace of
    what is judged; without it everything is refused there."""
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    where = {"matchResources": selector} if namespace else {}
    given = {"paramRef": {"name": parameter, "parameterNotFoundAction": "Deny"}} if parameter else {}
    return {
        "apiVersion": f"{BINDINGS.group}/{BINDINGS.version}",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {"policyName": name, "validationActions": ["Deny"]} | where | given,
    }


def refuse_unless(expression: str, message: str) -> Object:
    return {"expression": expression, "message": message, "reason": "Forbidden"}
