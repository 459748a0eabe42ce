"""Runs a Pulumi program without the engine, and writes down all that it registers: the JSON of `graph`.

A script for a process of its own, started by `render`: it imports nothing of this project, so one recorder reads every checkout.

What only AWS knows is an opaque token while the program runs. A program may pass tokens on and join them into text. To notice when
it computes from one (upper case, a slice, a length) it is run twice, with tokens spelled differently: both graphs must be equal.
So are the outputs of other stacks that it reads: texts in them are tokens too, in the shape that their own graphs have.
"""

import asyncio
import json
import re
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, get_args, get_origin

import pulumi
from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from google.protobuf.struct_pb2 import Struct, Value  # type: ignore[import-untyped]
from pulumi import _types
from pulumi.runtime import rpc, run_in_stack, set_all_config, set_mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import ROOT, SETTINGS

Json = dict[str, Any]

STACK = "pulumi:pulumi:Stack"
REFERENCE = "pulumi:pulumi:StackReference"
UNRECORDED = ("importId", "replaceOnChanges", "replace_with", "deletedWith", "transforms")
"""Options that change what the engine would do, and that a graph does not hold."""


class Fault(Exception):
    """The program does what no graph can hold. The message names resource and property."""


@dataclass(frozen=True)
class Spelling:
    """Of tokens: around their number. items: how many a list has whose length only AWS knows."""

    before: str
    after: str
    items: int


SPELLINGS = (Spelling("@{", "}@", items=3), Spelling("@Ab.c-{", "}/x:Yz_@", items=4))
"""The second has what programs cut texts at, and letters of both cases.

Neither begins with https://: to take that away is allowed, as the provider gives the OIDC issuer with it at first, later without.
"""


class Tokens:
    """What stands for outputs in one run, and back again."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._pattern = re.compile(f"{re.escape(spelling.before)}([0-9]+){re.escape(spelling.after)}")
        self._places: list[tuple[str, tuple[str | int, ...]]] = []
        self._lists: dict[tuple[str, tuple[str | int, ...]], int] = {}

    def stand_in(self, urn: str, path: tuple[str | int, ...], kind: Any) -> Any:
        """A value in the shape of an output's type, with a token at each end."""
        if isinstance(kind, type) and _types.is_output_type(kind):
            return {key: self.stand_in(urn, (*path, key), part) for key, part in _types.output_type_types(kind).items()}
        origin = get_origin(kind)
        if isinstance(origin, type) and issubclass(origin, Sequence):
            self._lists[urn, path] = self._spelling.items
            return [self.stand_in(urn, (*path, number), get_args(kind)[0]) for number in range(self._spelling.items)]
        return self._token(urn, path)

    def handed(self, urn: str, path: tuple[str | int, ...], value: Any) -> Any:
        """Another stack's output in the engine's form. value: as its graph has it; a list that AWS alone knows is one token."""
        match value:
            case {"$secret": hidden}:
                return {rpc._special_sig_key: rpc._special_secret_sig, "value": self.handed(urn, path, hidden)}
            case str() | {"$ref": _} | {"$join": _}:
                return self._token(urn, path)
            case dict():
                return {key: self.handed(urn, (*path, key), item) for key, item in value.items()}
            case list():
                self._lists[urn, path] = len(value)
                return [self.handed(urn, (*path, number), item) for number, item in enumerate(value)]
        return value

    def _token(self, urn: str, path: tuple[str | int, ...]) -> str:
        self._places.append((urn, path))
        return f"{self._spelling.before}{len(self._places) - 1}{self._spelling.after}"

    def read(self, value: Value, at: str) -> Any:
        """A value of the engine's protocol in the forms of `graph`. at: what it is, for messages."""
        match value.WhichOneof("kind"):
            case "string_value":
                return self._text(value.string_value, at)
            case "number_value":
                # Numbers of the protocol are all doubles.
                number = value.number_value
                return int(number) if number.is_integer() else number
            case "bool_value":
                return value.bool_value
            case "list_value":
                return self._list([self.read(item, f"{at}[{number}]") for number, item in enumerate(value.list_value.values)])
            case "struct_value":
                return self._struct(value.struct_value, at)
        return None

    def object(self, struct: Struct, at: str) -> Json:
        found = {key: self.read(value, f"{at}.{key}" if at else key) for key, value in sorted(struct.fields.items())}
        odd = next((key for key in found if key.startswith("$") or self._pattern.search(key)), None)
        if odd is not None:
            raise Fault(f"{at}: {odd} cannot be a key: give it one that is known now, and does not begin with $")
        return found

    def _struct(self, struct: Struct, at: str) -> Any:
        if rpc._special_sig_key not in struct.fields:
            return self.object(struct, at)
        kind = struct.fields[rpc._special_sig_key].string_value
        if kind == rpc._special_secret_sig:
            return {"$secret": self.read(struct.fields["value"], at)}
        if kind == rpc._special_resource_sig:
            return {"$ref": {"urn": struct.fields["urn"].string_value, "path": ["id"]}}
        raise Fault(f"{at}: files cannot be inputs: give text")

    def _text(self, text: str, at: str) -> Any:
        if text == rpc.UNKNOWN:
            raise Fault(f"{at}: comes from an output that its resource does not have, or from no resource")
        parts: list[Any] = self._pattern.split(text)
        # Texts and numbers take turns.
        parts[1::2] = [self._reference(int(number)) for number in parts[1::2]]
        kept = [part for part in parts if part != ""]
        if len(kept) < 2:
            return kept[0] if kept else ""
        return {"$join": kept}

    def _reference(self, number: int) -> Json:
        urn, path = self._places[number]
        return {"$ref": {"urn": urn, "path": list(path)}}

    def _list(self, items: list[Any]) -> Any:
        """All items of one output are the output itself."""
        first = items[0].get("$ref") if items and isinstance(items[0], dict) else None
        if first is None or self._lists.get((first["urn"], tuple(first["path"][:-1]))) != len(items):
            return items
        whole = {"urn": first["urn"], "path": first["path"][:-1]}
        of_whole = [{"$ref": whole | {"path": [*whole["path"], number]}} for number in range(len(items))]
        return {"$ref": whole} if items == of_whole else items


class Recorder(MockMonitor):
    """Stands where the engine's resource monitor does, and sees whole requests."""

    def __init__(self, spelling: Spelling, references: Mapping[str, Json]) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # all that would ask mocks is answered here
        self.tokens = Tokens(spelling)
        self._references = references
        self.made: dict[str, Json] = {}
        self.exports: Json = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """The engine's: the stack is no part of what its children are."""
        within = "" if not parent or parent.split("::")[2] == STACK else parent.split("::")[2] + "$"
        return f"urn:pulumi:{SETTINGS.stack}::{SETTINGS.project}::{within}{type_}::{name}"

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == STACK:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        self._add(urn, self._entry(urn, request))
        if not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)
        if request.type.startswith("kubernetes:"):
            # What the API server is given is what it has; all that it adds is not known.
            id_ = self.tokens.stand_in(urn, ("id",), str)
            return resource_pb2.RegisterResourceResponse(urn=urn, id=id_, object=request.object)
        outputs = Struct()
        outputs.update({key: self.tokens.stand_in(urn, (key,), kind) for key, kind in output_types(request.type).items()})
        return resource_pb2.RegisterResourceResponse(urn=urn, id=self.tokens.stand_in(urn, ("id",), str), object=outputs)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn.split("::")[2] == STACK:
            self.exports = self.tokens.object(request.outputs, "")
        return empty_pb2.Empty()

    def Invoke(self, request: Any) -> Any:
        raise Fault(f"the program asks AWS ({request.tok}): take account, zones, region and the like from the configuration")

    def ReadResource(self, request: Any) -> Any:
        if request.type != REFERENCE:
            raise Fault(f"{request.name}: the program looks up a {request.type}: take what it needs from the configuration")
        if request.id not in self._references:
            earlier = ", ".join(self._references) or "none"
            raise Fault(f"{request.name}: {request.id} is no stack of a layer before this one: those are {earlier}")
        urn = self.make_urn(request.parent, request.type, request.name)
        entry = {"urn": urn, "name": request.name, "type": request.type, "custom": True, "inputs": {"name": request.id}}
        self._add(urn, entry | {"parent": request.parent if request.parent in self.made else None})
        outputs = self.tokens.handed(urn, ("outputs",), self._references[request.id])
        secret = [name for name, value in self._references[request.id].items() if next(_secrets(value), None)]
        properties = Struct()
        properties.update({"name": request.id, "outputs": outputs, "secretOutputNames": secret})
        return resource_pb2.ReadResourceResponse(urn=urn, properties=properties)

    def _add(self, urn: str, entry: Json) -> None:
        if urn in self.made:
            raise Fault(f"{entry['name']}: two resources of type {entry['type']} have this name: rename one")
        self.made[urn] = entry

    def _entry(self, urn: str, request: Any) -> Json:
        given = next((option for option in UNRECORDED if getattr(request, option)), None)
        if given is not None:
            raise Fault(f"{request.name}: the option {given} is not recorded: do without it")
        inputs = self.tokens.object(request.object, request.name)
        return {
            "urn": urn,
            "name": request.name,
            "type": request.type,
            "custom": request.custom,
            "parent": request.parent if request.parent in self.made else None,
            # A provider is told as its URN and its id.
            "provider": request.provider.rpartition("::")[0] or None if request.custom else None,
            "inputs": inputs,
            "protect": request.protect,
            "dependsOn": sorted(set(request.dependencies) - set(_referred(inputs))),
            "ignoreChanges": list(request.ignoreChanges),
            "aliases": [MessageToDict(alias) for alias in request.aliases],
            "deleteBeforeReplace": request.deleteBeforeReplace,
            "retainOnDelete": request.retainOnDelete,
            "secretInputs": [path for path, _ in _secrets(inputs)],
        }


def output_types(kind: str) -> Mapping[str, Any]:
    """Of the Python class of a resource, by the engine's spelling. Classes are imported once a program uses them."""
    classes = list(pulumi.CustomResource.__subclasses__())
    for found in classes:
        if getattr(found, "pulumi_type", None) == kind:
            return _types.resource_types(found)
        classes.extend(found.__subclasses__())
    return {}


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]["urn"]
        else:
            yield from chain.from_iterable(map(_referred, value.values()))
    elif isinstance(value, list):
        yield from chain.from_iterable(map(_referred, value))


def _secrets(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and "$secret" in value:
        yield at, value["$secret"]
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _secrets(item, f"{at}[{number}]")


def record(program: str, stack: str, project: str, config: Mapping[str, str], references: Mapping[str, Json]) -> Json:
    """Resources, outputs and names of secret outputs of a program, after two runs that agree.

    Args:
        references: full name of a stack that the program may refer to → its outputs, as its graph has them.
    Raises:
        Fault: see there. Whatever else the program raises comes through.
    """
    first, second = (_run(program, stack, project, config, Recorder(spelling, references)) for spelling in SPELLINGS)
    _compare(first, second)
    return first


def _run(program: str, stack: str, project: str, config: Mapping[str, str], monitor: Recorder) -> Json:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    set_all_config(dict(config))
    set_mocks(None, project=project, stack=stack, preview=True, monitor=monitor)  # type: ignore[arg-type]
    # The stack that mocks come with is finished already, and could export nothing. That of an earlier run has no monitor any more.
    ROOT.set(None)
    SETTINGS.rpc_manager.clear()
    SETTINGS.outputs.clear()
    loop.run_until_complete(run_in_stack(lambda: _execute(program)))
    return {
        "resources": sorted(monitor.made.values(), key=lambda item: _ancestry(monitor.made, item["urn"])),
        "outputs": monitor.exports,
        "secretOutputs": [name for name, value in monitor.exports.items() if next(_secrets(value), None)],
    }


def _execute(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


def _ancestry(made: Mapping[str, Json], urn: str | None) -> tuple[str, ...]:
    """URNs from the top down. Registrations come in any order, for what waits for nothing."""
    return (*_ancestry(made, made[urn]["parent"]), urn) if urn is not None else ()


def _compare(first: Json, second: Json) -> None:
    """Raises Fault with the first thing that is not the same."""
    one, two = ({item["urn"]: item for item in found["resources"]} for found in (first, second))
    for urn in sorted(one.keys() ^ two.keys()):
        name = (one.get(urn) or two[urn])["name"]
        raise Fault(f"{name}: whether or how often it is made depends on what only AWS knows: take it from the configuration")
    for urn, item in one.items():
        _compare_values(item["name"], item["inputs"], two[urn]["inputs"])
        _compare_values(item["name"], item, two[urn])
    _compare_values("outputs", first["outputs"], second["outputs"])


def _compare_values(at: str, one: Any, two: Any) -> None:
    if one == two:
        return
    if (
        isinstance(one, dict)
        and isinstance(two, dict)
        and one.keys() == two.keys()
        and not one.keys() & {"$ref", "$join", "$secret"}
    ):
        for key in one:
            _compare_values(f"{at}.{key}", one[key], two[key])
    if isinstance(one, list) and isinstance(two, list):
        for number, (item, other) in enumerate(zip_longest(one, two)):
            _compare_values(f"{at}[{number}]", item, other)
    raise Fault(f"{at}: is computed from what only AWS knows: use the output as it is, or join it into text")


def _told(error: BaseException, checkout: Path) -> str:
    """An error of the program with the line of the checkout that it comes from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(checkout)]
    places = [f"{Path(frame.filename).relative_to(checkout)}:{frame.lineno}: " for frame in frames if ".venv" not in frame.filename]
    return f"{places[-1] if places else ''}{type(error).__name__}: {error}"


def main() -> None:
    """Reads {checkout, program, stack, project, config, references} from stdin, writes {recorded} or {refused} to stdout."""
    out, sys.stdout = sys.stdout, sys.stderr  # what the program prints is no part of the answer
    asked = json.load(sys.stdin)
    checkout = Path(asked.pop("checkout"))
    try:
        answer: Json = {"recorded": record(**asked)}
    except (Fault, pulumi.RunError) as error:
        answer = {"refused": str(error)}
    except Exception as error:
        # Any error of a program is an answer: it may raise what it likes.
        answer = {"refused": _told(error, checkout)}
    json.dump(answer, out)


if __name__ == "__main__":
    main()
