"""The page docs/policies.md: what every rule is for, from the METADATA of its module. `ai-infra policy docs` writes it."""

import json
from collections.abc import Iterable
from typing import Any

from services.core.bundle import Bundle
from services.sentinelnet.domain import describe

HEAD = """\
# Policies

Written by `ai-infra policy docs policies/rego -o docs/policies.md` from the METADATA of the rules; change it there. A limit is a
path in `policies/rego/data.json`, with the value as shipped; *refuses with* is the worst verdict that the rule can give.

"""


def rules_of(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """By name: what `describe` says of a rule, and the actions that ask it."""
    names = sorted({rule for asked in bundle.actions.values() for rule in asked})
    asking = {name: sorted(action for action, asked in bundle.actions.items() if name in asked) for name in names}
    return {name: describe(bundle, name) | {"actions": asking[name]} for name in names}


def page(bundle: Bundle) -> str:
    """Markdown; rules by name."""
    index = "".join(f"| `{action}` | {_names(sorted(rules))} |\n" for action, rules in sorted(bundle.actions.items()))
    sections = "".join(_section(bundle, rule, found) for rule, found in rules_of(bundle).items())
    return f"{HEAD}| action | rules |\n|---|---|\n{index}{sections}"


def _section(bundle: Bundle, rule: str, found: dict[str, Any]) -> str:
    runbook = str(found["runbook"])
    lines = [
        f"\n## {rule}\n",
        f"\n**{found['title']}.** {found['description']}\n",
        "\n| | |\n|---|---|\n",
        f"| applies to | {_names(found['actions'])} |\n",
        f"| refuses with | `{found['severity']}` |\n",
        f"| reads | {_names(f'input.{path}' for path in found['reads'])} |\n",
        f"| limits | {'; '.join(_limit(bundle, path) for path in found['limits']) or 'none'} |\n",
        f"| owner | {found['owner']} |\n",
        f"| runbook | [{runbook}](../{runbook}) |\n",
    ]
    return "".join(lines)


def _names(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _limit(bundle: Bundle, path: str) -> str:
    """The path, and its value where that is one number, text or short list."""
    value: Any = bundle.data
    for part in path.split("."):
        value = value[part]
    short = value if not isinstance(value, dict) else None
    return f"`{path}`" if short is None else f"`{path}` = `{json.dumps(short)}`"
