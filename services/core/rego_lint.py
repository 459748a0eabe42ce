"""What a policy may not say, because OPA and the embedded engines would not answer alike. Reads text; evaluates nothing.

Differences between OPA 1.22 and regopy 1.5 (tests/policy/test_builtins.py): a built-in that regopy lacks yields nothing,
without an error; min, max and sort compare numbers as text ("10" before "9"); text functions see escapes (`\\"` counts as two
characters); sprintf leaves %q as it is; RFC 3339 times ending in Z are undefined; `with input as` ends the process; concat of a set
has another order; a regular expression with flags or groups that begin with `(?` is undefined; regex.find_n finds empty texts in
more places; `not` in the body of `every` is true whatever it denies.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ALLOWED = frozenset(
    {
        "abs", "array.concat", "ceil", "concat", "count", "endswith", "floor", "is_array", "is_boolean", "is_null", "is_number",
        "is_object", "is_set", "is_string", "numbers.range", "object.get", "object.keys", "object.remove", "regex.find_n",
        "regex.match", "round", "set", "sort", "sprintf", "startswith", "sum", "type_name",
    }
)  # fmt: skip
"""Built-ins that both engines answer alike on the examples of tests/policy/test_builtins.py; a new one needs examples there.
sort and concat: of arrays of texts only; one that is made from a set is in another order on each engine until it is sorted."""

UNREPEATABLE = ("http.", "net.", "opa.", "rand.", "rego.", "time.", "trace", "uuid.", "io.jwt.decode_verify", "io.jwt.encode")
"""Built-ins whose answer depends on more than input and data: a decision must be the same when it is computed again."""

HINTS = {
    "min": "the embedded engine compares numbers as text; compare with < and else",
    "max": "the embedded engine compares numbers as text; compare with < and else",
    "print": "OPA alone has it",
}

_KEYWORDS = frozenset({"in", "not", "if", "with", "as", "some", "every", "else", "default", "import", "package"})
_STRING = r'"(?:\\.|[^"\\\n])*"|`[^`]*`'
_TOKEN = re.compile(rf"(?P<format>(?<![\w.])sprintf\(\s*(?P<literal>{_STRING})?)|{_STRING}|#[^\n]*")
_PATTERN = re.compile(rf"(?<![\w.])(?P<match>regex\.(?:match|find_n))\(\s*(?P<literal>{_STRING})?|{_STRING}|#[^\n]*")
_VERB = re.compile(r"%(.?)", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """line: from 1."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def problems(modules: Mapping[str, str]) -> list[Problem]:
    """Everything that would make the two engines disagree, by path and line. modules: path → source."""
    sources = {path: _Source.read(text) for path, text in modules.items()}
    functions: dict[str, set[str]] = {}
    for source in sources.values():
        functions.setdefault(source.package, set()).update(source.functions)
    found = [
        Problem(path, line, text)
        for path, source in sources.items()
        for line, text in (
            *_inputs_replaced(source), *_denials_in_every(source), *_foreign_calls(source, functions), *_texts(modules[path])
        )
    ]
    return sorted(found, key=lambda problem: (problem.path, problem.line, problem.text))


@dataclass(frozen=True)
class _Source:
    """code: without comments, with empty strings, so that words in them are not taken for calls; lines stay where they are."""

    code: str
    package: str
    imports: Mapping[str, str]
    functions: frozenset[str]

    @classmethod
    def read(cls, text: str) -> "_Source":
        code = re.sub(rf"{_STRING}|#[^\n]*", lambda found: _blank(found.group()), text)
        package = re.search(r"^package\s+([\w.]+)", code, re.MULTILINE)
        imported = re.finditer(r"^import\s+data\.([\w.]+)(?:\s+as\s+(\w+))?", code, re.MULTILINE)
        return cls(
            code,
            package.group(1) if package else "",
            {found.group(2) or found.group(1).rsplit(".", 1)[-1]: found.group(1) for found in imported},
            frozenset(re.findall(r"^(?:default\s+)?([A-Za-z_]\w*)\(", code, re.MULTILINE)),
        )

    def line(self, position: int) -> int:
        return self.code.count("\n", 0, position) + 1


def _blank(token: str) -> str:
    return "\n" * token.count("\n") + ('""' if token[0] in "\"`" else "")


def _inputs_replaced(source: _Source) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"\bwith\s+input\s+as\b", source.code):
        yield source.line(found.start()), "`with input as` ends the embedded engine; set parts of it (`with input.x as`)"


def _denials_in_every(source: _Source) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"\bevery\b", source.code):
        # The domain may have braces too: what is between the first brace and the end of the last pair on its line.
        end = start = source.code.find("{", found.end())
        while source.code[end:].lstrip(" \t").startswith("{"):
            end = _closed(source.code, source.code.index("{", end))
        for denial in re.finditer(r"\bnot\b", source.code[start:end]):
            line = source.line(start + denial.start())
            yield line, "`not` in the body of `every` is always true in the embedded engine: put it into a function"


def _closed(code: str, opened: int) -> int:
    """The place behind the brace that closes this one."""
    depth = 0
    for at in range(opened, len(code)):
        depth += (code[at] == "{") - (code[at] == "}")
        if depth == 0:
            return at + 1
    return len(code)


def _foreign_calls(source: _Source, functions: Mapping[str, set[str]]) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"(?<![\w.])([A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)\s*\(", source.code):
        name = re.sub(r"\s+", "", found.group(1))
        if name not in ALLOWED and name not in _KEYWORDS and not _is_own(name, source, functions):
            yield source.line(found.start()), _why_not(name)


def _is_own(name: str, source: _Source, functions: Mapping[str, set[str]]) -> bool:
    head, _, function = name.rpartition(".")
    if not head:
        return name in source.functions or name in functions.get(source.package, ())
    package = head.removeprefix("data.") if head.startswith("data.") else source.imports.get(head, "")
    return function in functions.get(package, ())


def _why_not(name: str) -> str:
    if name.startswith(UNREPEATABLE):
        return f"{name} can answer differently later; a decision must be repeatable"
    hint = HINTS.get(name, "the bundle defines no such function either")
    return f"{name} is no built-in that OPA and the embedded engine answer alike ({hint})"


def _texts(text: str) -> Iterator[tuple[int, str]]:
    yield from _formats(text)
    yield from _patterns(text)


def _formats(text: str) -> Iterator[tuple[int, str]]:
    for found in _TOKEN.finditer(text):
        if found.group("format") is None:
            continue
        line = text.count("\n", 0, found.start()) + 1
        literal = found.group("literal")
        if literal is None:
            yield line, "sprintf wants its format as a literal text"
        elif wrong := sorted({verb for verb in _VERB.findall(literal) if verb not in ("s", "d", "%")}):
            yield line, f"sprintf formats %s and %d alike on both engines, not %{wrong[0]}"


def _patterns(text: str) -> Iterator[tuple[int, str]]:
    for found in _PATTERN.finditer(text):
        name = found.group("match")
        if name is None:
            continue
        line = text.count("\n", 0, found.start()) + 1
        literal = found.group("literal")
        if literal is None:
            yield line, f"{name} wants its pattern as a literal text"
        elif "(?" in literal:
            yield line, f"{name} has no flags or special groups `(?` in the embedded engine: it would be undefined"
        elif name == "regex.find_n" and _takes_nothing(literal):
            yield line, f"{name} wants a pattern that finds no empty text: the engines count those differently"


def _takes_nothing(literal: str) -> bool:
    """Whether a pattern finds an empty text. One that is no pattern, OPA refuses."""
    try:
        return re.match(literal[1:-1] if literal[0] == "`" else json.loads(literal), "") is not None
    except (re.error, ValueError):
        return False
