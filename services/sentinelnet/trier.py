"""The process of a trial: a bundle and inputs on stdin, its verdicts on stdout. argv: seconds of processor time it may take."""

import json
import os
import resource
import sys
from typing import Any

from services.core import rego
from services.core.bundle import BadBundle, Bundle, load_bundle
from services.core.dsse import decode64
from services.sentinelnet.domain import describe


def main() -> None:
    # The bounds of a process whose parent was killed, too.
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
    order = json.loads(sys.stdin.buffer.read())
    json.dump(_answer(load_bundle(decode64(order["bundle"])), order["inputs"]), sys.stdout)


def _answer(bundle: Bundle, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        rego.check_bundle(bundle)
    except BadBundle as error:
        return {"refused": str(error)}
    verdicts = [rego.verdict_on(bundle, value) for value in inputs]
    rules = sorted({rule for stated in bundle.actions.values() for rule in stated})
    return {
        "verdicts": [{"verdict": verdict.verdict, "rules": verdict.rules_json()} for verdict in verdicts],
        "reads": {rule: [path for path in _reads(bundle, rule) if isinstance(path, str)] for rule in rules},
    }


def _reads(bundle: Bundle, rule: str) -> list[Any]:
    found = describe(bundle, rule).get("reads")
    return found if isinstance(found, list) else []


if __name__ == "__main__":
    main()
