"""Policy documents of IAM as statements of one form: lists for what may be one text, lower case where IAM has no case.

It does not evaluate them: what a statement means is for the rules.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.values import literal


def policy_of(text: Any) -> Mapping[str, Any] | None:
    """The policy document in a text of the program, or nothing."""
    if not isinstance(text, str) or '"Statement"' not in text:
        return None
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def statements(document: Mapping[str, Any], owner: str, kind: str, governs: str, holders: list[str]) -> Iterator[dict[str, Any]]:
    """owner: address of the resource that holds the document, with the attribute where it has several."""
    for number, statement in enumerate(_list(document.get("Statement"))):
        effect = statement.get("Effect")
        yield {
            "id": f"{owner}#{statement.get('Sid') or number}",
            "governs": governs,
            "kind": kind,
            "effect": effect,
            "principals": _principals(statement, effect),
            "actions": _lower(statement.get("Action")),
            "notActions": _lower(statement.get("NotAction")),
            "resources": _texts(statement.get("Resource")),
            "notResources": _texts(statement.get("NotResource")),
            "conditions": list(_conditions(statement.get("Condition", {}))),
            "holders": holders,
        }


def _principals(statement: Mapping[str, Any], effect: Any) -> list[str]:
    if "NotPrincipal" in statement:
        # An Allow to everybody but some is one to everybody; such a Deny leaves somebody out, so it is not one for everybody.
        return ["*"] if effect == "Allow" else ["not " + name for name in _names(statement["NotPrincipal"])]
    return _names(statement.get("Principal", []))


def _names(principal: Any) -> list[str]:
    if isinstance(principal, Mapping):
        return [literal(name) for kind in sorted(principal) for name in _list(principal[kind])]
    return _texts(principal)


def _conditions(tests: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for test, keys in tests.items():
        for key, values in keys.items():
            yield {"test": test, "key": literal(key).lower(), "values": [_text(value) for value in _list(values)]}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else literal(str(value))


def _lower(value: Any) -> list[str]:
    return [text.lower() for text in _texts(value)]


def _texts(value: Any) -> list[str]:
    return [literal(item) for item in _list(value)]


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
