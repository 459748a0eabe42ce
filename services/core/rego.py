"""The embedded policy engine (regopy) behind one function, for the platform's embedded backend and for the offline verifier.

What regopy 1.5 does differently from OPA, and what is done about it here:

* a built-in that it lacks yields nothing, without an error: `check_bundle` refuses the bundle, and `verdict.decide` takes silence
  for a deny;
* `with input as …` ends the process: refused;
* `Interpreter.set_input` writes numbers with six digits and strings without escapes: the input goes in as JSON text instead;
* it compiles at the first query: a compiled bundle is kept for each revision.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import regopy

from services.core.bundle import BadBundle, Bundle, bundle_revision, load_bundle, to_tar
from services.core.canonical import canonical
from services.core.errors import AiInfraError
from services.core.verdict import Verdict, decide

__all__ = [
    "BadBundle", "Bundle", "EvaluationFailed", "bundle_revision", "check_bundle", "evaluate", "load_bundle", "to_tar", "verdict_on",
]

ENTRY_POINT = "data.sentinelnet.decision"
COMPILED_KEPT = 8

UNREPEATABLE = ("http.", "net.", "opa.", "rand.", "rego.", "time.now_ns", "trace", "uuid.")
"""Built-ins whose answer depends on more than input and data: a decision must be the same when it is computed again."""

regopy.set_default_log_level("None")  # it would write compile errors to stderr; they come as exceptions too


class EvaluationFailed(AiInfraError):
    """The engine raised, or gave no value. The caller takes it for a deny of every rule."""


def evaluate(bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
    """The value of the entry point: normally a list of reports, which `verdict.decide` judges. Takes milliseconds.

    Raises:
        EvaluationFailed: the engine raised, or the entry point is undefined.
    """
    with _lock:
        value = _query(_compiled(bundle), _term(input_value))
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
        BadBundle: a call of a built-in that regopy lacks or whose answer can change, `with input as`, a module that does not
            compile, or an action some rule of which does not report on an empty input.
    """
    functions = {name for text in bundle.modules.values() for name in _defined(_code(text))}
    for path, text in bundle.modules.items():
        code = _code(text)
        if re.search(r"\bwith\s+input\s+as\b", code):
            raise BadBundle(f"{path}: `with input as` ends the embedded engine; set parts of it (`with input.x as`)")
        for name in sorted(set(_called(code))):
            if name.startswith(UNREPEATABLE):
                raise BadBundle(f"{path}: {name} can answer differently later; a decision must be repeatable")
            if name.rsplit(".", 1)[-1] not in functions and not _has_builtin(name):
                raise BadBundle(f"{path}: the embedded engine has no built-in {name}, and the bundle defines none")
    for action in bundle.actions:
        silent = [report for report in verdict_on(bundle, {"action": action}).reports if not _reported(report.reasons)]
        if silent:
            raise BadBundle(f"action {action}: {silent[0].rule}: {silent[0].reasons[0]}")


_lock = threading.Lock()
"""regopy says nothing about threads; a decision takes milliseconds, so they take turns."""

_cache: OrderedDict[str, Any] = OrderedDict()


def _compiled(bundle: Bundle) -> Any:
    if bundle.revision in _cache:
        _cache.move_to_end(bundle.revision)
        return _cache[bundle.revision]
    try:
        interpreter = regopy.Interpreter()
        for path, text in bundle.modules.items():
            interpreter.add_module(path, text)
        interpreter.add_data_json(json.dumps(bundle.data))
        plan = interpreter.build(ENTRY_POINT)
    except Exception as error:  # whatever the native engine raises: no decision
        raise EvaluationFailed(f"the bundle does not compile: {_first_line(error)}") from error
    _cache[bundle.revision] = plan
    while len(_cache) > COMPILED_KEPT:
        _cache.popitem(last=False)
    return plan


def _query(plan: Any, term: str) -> Any:
    try:
        interpreter = regopy.Interpreter()
        interpreter.set_input_term(term)
        output = interpreter.query_bundle(plan)
        if not output.ok() or not output.results or not output.results[0].expressions:
            return None
        return output.results[0].expressions[0]
    except Exception as error:
        raise EvaluationFailed(_first_line(error)) from error


def _term(input_value: Mapping[str, Any]) -> str:
    # ASCII only: a JSON text with escapes is a Rego term too.
    canonical(dict(input_value))
    return json.dumps(input_value, allow_nan=False)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = re.search(r"errormsg \d+:([^)]*)\)", text)
    return (named.group(1) if named else text)[:300] or type(error).__name__


def _code(text: str) -> str:
    """The source without comments and with empty strings, so that words in them are not taken for calls."""
    return re.sub(r'"(?:\\.|[^"\\\n])*"|`[^`]*`|#[^\n]*', lambda found: '""' if found.group()[0] in "\"`" else "", text)


def _called(code: str) -> Iterator[str]:
    for found in re.finditer(r"(?<![\w.])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\(", code):
        if found.group(1) not in {"in", "not", "if", "with", "as", "some", "every", "contains", "else", "default"}:
            yield found.group(1)


def _defined(code: str) -> Iterator[str]:
    for found in re.finditer(r"^(?:default\s+)?([A-Za-z_]\w*)\(", code, re.MULTILINE):
        yield found.group(1)


def _has_builtin(name: str) -> bool:
    return name == "set" or bool(regopy.Interpreter().is_builtin(name))


def _reported(reasons: tuple[str, ...]) -> bool:
    return not any(reason.startswith(("the rule did not report", "the rule reported", "the rule's report is malformed",
                                      "the policy could not be evaluated")) for reason in reasons)
