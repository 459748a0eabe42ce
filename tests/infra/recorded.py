"""What a piece of the Pulumi program makes, component by component: run without the engine, every request recorded.

A value that only AWS knows is `<logical name>.<property>` in texts of resources that use it.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime import MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import ROOT

OUTPUTS = ("arn", "endpoint", "resourceId", "url", "vpcId")


@dataclass(frozen=True)
class Made:
    """type: the last part of Pulumi's, as NodeGroup; depends: names of what it waits for."""

    type: str
    name: str
    inputs: dict[str, Any]
    protect: bool
    ignored: tuple[str, ...]
    depends: frozenset[str]

    def document(self, key: str) -> dict[str, Any]:
        """A policy of it."""
        read: dict[str, Any] = json.loads(self.inputs[key])
        return read

    def statements(self, key: str = "policy") -> dict[str, dict[str, Any]]:
        """Of a policy, by Sid."""
        return {item["Sid"]: item for item in self.document(key)["Statement"]}


class _Values(Mocks):
    def __init__(self) -> None:
        self.inputs: dict[tuple[str, str], dict[str, Any]] = {}

    def call(self, args: Any) -> Any:
        raise AssertionError(f"the program asks AWS: {args.token}")

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ, args.name] = args.inputs
        known: dict[str, Any] = {key: f"{args.name}.{key}" for key in OUTPUTS}
        known |= {"identities": [{"oidcs": [{"issuer": f"https://{args.name}.issuer"}]}]}
        known |= {"certificateAuthorities": [{"data": f"{args.name}.ca"}], "latestVersion": 1}
        known |= {"masterUserSecrets": [{"secretArn": f"{args.name}.secret"}]}
        return f"{args.name}.id", known | args.inputs


class _Monitor(MockMonitor):
    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.requests: list[Any] = []

    def RegisterResource(self, request: Any) -> Any:
        self.requests.append(request)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


Graph = dict[tuple[str, str], Made]


def changed(before: Graph, after: Graph) -> set[tuple[str, str]]:
    """What differs, and what is in one of them only."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def recorded(build: Callable[[], Any]) -> Graph:
    """Type and logical name → what was made. Components themselves are left out."""
    values = _Values()
    monitor = _Monitor(values)
    # Whatever ran an event loop before in this thread left none behind, and Pulumi only looks for one.
    asyncio.set_event_loop(asyncio.new_event_loop())
    # The root would stay that of the run before, whose monitor is gone.
    ROOT.set(None)
    set_mocks(values, project="ai-infra", stack="dev-ground", preview=False, monitor=monitor)

    def run() -> None:
        build()

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    return {(made.type, made.name): made for made in (_made(item, values) for item in monitor.requests if item.custom)}


def _made(request: Any, values: _Values) -> Made:
    return Made(
        type=request.type.rsplit(":", 1)[-1],
        name=request.name,
        inputs=values.inputs[request.type, request.name],
        protect=request.protect,
        ignored=tuple(request.ignoreChanges),
        depends=frozenset(urn.rsplit("::", 1)[-1] for urn in request.dependencies),
    )
