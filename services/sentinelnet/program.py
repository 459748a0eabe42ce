"""A policy bundle that OPA compiled to WebAssembly, and how it is asked: OPA's ABI 1.2 (opa_eval and its like), run by wasmtime.

The program keeps the bundle's data in its memory; each evaluation begins behind it, so that memory does not grow with their number.
Built-ins that OPA leaves to the host are here, for the formats and patterns that `core.rego_lint` lets a rule use.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import re2
from wasmtime import Engine, Func, FuncType, Instance, Limits, Linker, Memory, MemoryType, Module, Store, ValType

PAGE = 1 << 16
FIRST_PAGES, MOST_PAGES = 32, 2048
"""2 MiB to begin with, 128 MiB at most: the largest environment that `infra check` asks about takes 10."""
CHUNK = 1 << 12
"""Bytes read at a time in search of a text's end; most texts are shorter."""


class Broken(Exception):
    """The program ended by a trap, ran out of memory, or wants a built-in that is not here. It is not to be asked again."""


class Program:
    """One entry point. Not for several threads at once."""

    def __init__(self, code: bytes, data: bytes) -> None:
        """code: a module of `opa build -t wasm`; data: the bundle's document, as JSON. Compiling takes a third of a second.

        Raises:
            Broken: no such module, or it wants a built-in that is not here.
        """
        self._store = Store(Engine())
        try:
            self._start(code, data)
        except Exception as error:  # whatever wasmtime raises: no program
            self.close()
            raise Broken(_first_line(error)) from error

    def close(self) -> None:
        """Gives its memory back, which nothing else does: wasmtime keeps the built-ins, and they the program."""
        self._store.close()

    def _start(self, code: bytes, data: bytes) -> None:
        self._memory = Memory(self._store, MemoryType(Limits(FIRST_PAGES, MOST_PAGES)))
        instance = self._linked().instantiate(self._store, Module(self._store.engine, code))
        self._call = _calls(instance, self._store)
        wanted = self._json(self._call("builtins"))
        if unknown := sorted(set(wanted) - set(BUILTINS)):
            raise Broken(f"it uses {unknown[0]}, which is not here")
        self._builtins = {number: BUILTINS[name] for name, number in wanted.items()}
        self._data = self._placed(data)
        self._free = self._call("opa_heap_ptr_get")

    def evaluate(self, question: bytes) -> list[Any]:
        """The entry point's values: one in a list, or none when it is undefined. question: the input, as JSON.

        Raises:
            Broken: see there.
        """
        try:
            after = self._free + len(question)
            self._grow(after)
            self._memory.write(self._store, question, self._free)
            answer = self._call("opa_eval", 0, 0, self._data, self._free, len(question), after, 0)
            return [found["result"] for found in json.loads(self._text(answer))]
        except Exception as error:  # a trap, or an error of a built-in below it
            raise Broken(_first_line(error)) from error

    def _linked(self) -> Linker:
        linker, number = Linker(self._store.engine), ValType.i32()
        linker.define(self._store, "env", "memory", self._memory)
        for arity in range(5):
            kind = FuncType([number] * (arity + 2), [number])
            linker.define(self._store, "env", f"opa_builtin{arity}", Func(self._store, kind, self._builtin))
        linker.define(self._store, "env", "opa_abort", Func(self._store, FuncType([number], []), self._abort))
        return linker

    def _builtin(self, number: int, _context: int, *arguments: int) -> int:
        found = self._builtins[number](*(self._json(argument) for argument in arguments))
        return self._placed(json.dumps(found).encode())

    def _abort(self, address: int) -> None:
        raise Broken(self._text(address))

    def _placed(self, text: bytes) -> int:
        """Address of the value that a JSON text stands for."""
        at = self._call("opa_malloc", len(text))
        self._memory.write(self._store, text, at)
        found: int = self._call("opa_json_parse", at, len(text))
        if not found:
            raise Broken("the program does not take this for JSON")
        return found

    def _json(self, address: int) -> Any:
        return json.loads(self._text(self._call("opa_json_dump", address)))

    def _text(self, address: int) -> str:
        """What stands there until a zero byte."""
        found = b""
        while not (part := bytes(self._memory.read(self._store, address, address + CHUNK))).count(0):
            if not part:
                raise Broken("a text without an end")
            found, address = found + part, address + CHUNK
        return (found + part[: part.index(0)]).decode()

    def _grow(self, size: int) -> None:
        lacking = size - self._memory.data_len(self._store)
        if lacking > 0:
            self._memory.grow(self._store, -(-lacking // PAGE))


def _calls(instance: Instance, store: Store) -> Callable[..., Any]:
    exports = instance.exports(store)
    functions = {name: item for name, item in exports.items() if isinstance(item, Func)}
    return lambda name, *arguments: functions[name](store, *arguments)


def _sprintf(text: str, values: list[Any]) -> str:
    waiting = iter(values)
    written = re.sub("%(.)", lambda found: _formatted(found.group(1), waiting), text, flags=re.DOTALL)
    if next(waiting, None) is not None:
        raise ValueError(f"sprintf {text!r}: too many values")
    return written


def _formatted(verb: str, waiting: Any) -> str:
    if verb == "%":
        return verb
    value = next(waiting)
    if verb == "s" and isinstance(value, str):
        return value
    if verb == "d" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"sprintf: no %{verb} of {value!r}")


def _find_n(pattern: str, text: str, count: int) -> list[str]:
    # RE2, as in OPA: Python's own patterns end at a line's end too, and take the digits of all scripts.
    found = [match.group() for match in re2.finditer(pattern, text)]
    return found if count < 0 else found[:count]


BUILTINS: Mapping[str, Callable[..., Any]] = {"sprintf": _sprintf, "regex.find_n": _find_n}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
