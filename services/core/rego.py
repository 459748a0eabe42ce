"""The embedded policy engine (regopy) behind one function, for the platform's embedded backend and for the offline verifier.

What regopy 1.5 does differently from OPA, and what is done about it here:

* a built-in that it lacks yields nothing, without an error, and some answer otherwise: `check_bundle` refuses a bundle that uses
  one (`rego_lint`), and `verdict.decide` takes silence for a deny;
* `Interpreter.set_input` writes strings as they come, where JSON text has escapes, and fractions with six digits: it gets escaped
  strings, and an input with a fraction goes in as JSON text, which takes twice the time;
* it compiles at the first query: a compiled bundle is kept for each revision.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

import regopy

from services.core.bundle import BadBundle, Bundle, load_bundle, to_tar
from services.core.canonical import canonical
from services.core.errors import AiInfraError
from services.core.rego_lint import problems
from services.core.verdict import Verdict, decide

__all__ = [
    "BadBundle", "Bundle", "EvaluationFailed", "check_bundle", "evaluate", "load_bundle", "to_tar", "verdict_on",
]

ENTRY_POINT = "data.sentinelnet.decision"
COMPILED_KEPT = 8

regopy.set_default_log_level("None")  # it would write compile errors to stderr; they come as exceptions too


class EvaluationFailed(AiInfraError):
    """The engine raised, or gave no value. The caller takes it for a deny of every rule."""


def evaluate(bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
    """The value of the entry point: normally a list of reports, which `verdict.decide` judges. Takes milliseconds.

    Raises:
        EvaluationFailed: the engine raised, or the entry point is undefined.
    """
    with _lock:
        value = _query(_compiled(bundle), input_value)
    if value is None:
        raise EvaluationFailed(f"{ENTRY_POINT} is undefined")
    return value


def verdict_on(bundle: Bundle, input_value: Mapping[str, Any]) -> Verdict:
    """Evaluates and judges in one step. What a policy does never raises; an input that is no JSON does (BadJson)."""
    expected = bundle.rules_for(input_value.get("action"))
    try:
        return decide(evaluate(bundle, input_value), expected)
    except EvaluationFailed as error:
        return decide(None, expected, str(error))


def check_bundle(bundle: Bundle) -> None:
    """What a bundle must fulfil before it can become active: it gives the same decisions on every engine that we use.

    Raises:
        BadBundle: what `rego_lint` refuses, a module that does not compile, or an action some rule of which does not report on
            an empty input.
    """
    refused = problems(bundle.modules)
    if refused:
        more = f" (and {len(refused) - 1} more: `ai-infra policy lint`)" if len(refused) > 1 else ""
        raise BadBundle(f"{refused[0]}{more}")
    for action in bundle.actions:
        silent = [report for report in verdict_on(bundle, {"action": action}).reports if not _reported(report.reasons)]
        if silent:
            raise BadBundle(f"action {action}: {silent[0].rule}: {silent[0].reasons[0]}")


_lock = threading.Lock()
"""regopy says nothing about threads; a decision takes milliseconds, so they take turns."""

_cache: OrderedDict[str, Any] = OrderedDict()
_kept: list[Any] = []


def _compiled(bundle: Bundle) -> Any:
    if bundle.revision in _cache:
        _cache.move_to_end(bundle.revision)
        return _cache[bundle.revision]
    try:
        interpreter = regopy.Interpreter()
        for path, text in bundle.modules.items():
            interpreter.add_module(path, text)
        interpreter.add_data_json(_text(bundle.data))
        plan = interpreter.build(ENTRY_POINT)
    except Exception as error:  # whatever the native engine raises: no decision
        raise EvaluationFailed(f"the bundle does not compile: {_first_line(error)}") from error
    _cache[bundle.revision] = plan
    while len(_cache) > COMPILED_KEPT:
        _cache.popitem(last=False)
    return plan


def _query(plan: Any, input_value: Mapping[str, Any]) -> Any:
    canonical(dict(input_value))  # refuses what is no JSON
    # The interpreter is kept: making one and reading its first input takes longer than most decisions. One that failed is not.
    interpreter = _kept.pop() if _kept else regopy.Interpreter()
    try:
        _give(interpreter, input_value)
        output = interpreter.query_bundle(plan)
        if not output.ok() or not output.results or not output.results[0].expressions:
            return None
        _kept.append(interpreter)
        return output.results[0].expressions[0]
    except Exception as error:
        raise EvaluationFailed(_first_line(error)) from error


def _give(interpreter: Any, input_value: Mapping[str, Any]) -> None:
    try:
        interpreter.set_input(_escaped(input_value))
    except _Fraction:
        interpreter.set_input_term(_text(input_value))


class _Fraction(Exception):
    """A value has a number that `set_input` would round."""


def _escaped(value: Any) -> Any:
    """JSON with its strings as `_text` has them between their quotes. Raises _Fraction."""
    match value:
        case str():
            return encode_basestring(value)[1:-1]
        case float():
            raise _Fraction
        case dict():
            return {encode_basestring(key)[1:-1]: _escaped(item) for key, item in value.items()}
        case list() | tuple():
            return [_escaped(item) for item in value]
        case _:
            return value


def _text(value: Mapping[str, Any]) -> str:
    # JSON is a Rego term too. Only what JSON must escape is escaped, as in the literals of rules: texts are compared as written.
    return json.dumps(value, ensure_ascii=False)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = re.search(r"errormsg \d+:([^)]*)\)", text)
    return (named.group(1) if named else text)[:300] or type(error).__name__


def _reported(reasons: tuple[str, ...]) -> bool:
    return not any(reason.startswith(("the rule did not report", "the rule reported", "the rule's report is malformed",
                                      "the policy could not be evaluated")) for reason in reasons)
