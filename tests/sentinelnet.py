"""What the tests about policies share: inputs that pass, SentinelNet on a new database, signed bundles, an OPA server."""

import copy
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.schema import CreateTable

from services.core.bundle import Bundle, load_bundle, to_tar
from services.core.canonical import parse
from services.core.database import begin, open_engine
from services.core.dsse import Envelope
from services.core.errors import NotFound
from services.core.keys import PrivateKey
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, Relay, outbox_table
from services.core.statements import PolicyBundle
from services.core.tls import person_id, service_id
from services.sentinelnet.backends.regopy import RegopyEngine
from services.sentinelnet.domain import Published
from services.sentinelnet.oversight import Oversight
from services.sentinelnet.ports import PolicyEngine
from services.sentinelnet.service import SentinelNet
from services.sentinelnet.tables import decisions, policies
from tests import databases
from tests import signing as world
from tests.fakes.audit_bus import MemoryAuditBus

POLICIES = Path(__file__).parent.parent / "policies" / "rego"
BUNDLE = load_bundle(POLICIES)
NOW = world.NOW
SAM = person_id("eve")
"""Has the role security in the tests' trust."""


def _digest(letter: str) -> str:
    return "sha256:" + letter * 64


_DATASET = {"id": _digest("d"), "licence": "CC-BY-4.0", "pii": "none", "approvedBy": []}
_VERSION = {
    "model": "digits", "number": 1, "artifactId": _digest("a"), "runKey": _digest("b"), "riskClass": "high", "stage": "staging",
}
_PERSON = {"signer": "0" * 64, "person": person_id("paula"), "roles": ["promoter"]}

GOOD: dict[str, dict[str, Any]] = {
    "train": {
        "now": NOW,
        "job": {"name": "digits", "purpose": "commercial", "codeRef": {"dirty": True}},
        "datasets": [_DATASET],
        "flags": [],
    },
    "promote": {
        "now": NOW,
        "policyRevision": BUNDLE.revision,
        "request": {
            "digest": _digest("f"), "model": "digits", "number": 1, "artifactId": _digest("a"), "runKey": _digest("b"),
            "evaluation": _digest("c"), "from": "staging", "to": "prod", "riskClass": "high",
            "policyRevision": BUNDLE.revision, "nonce": "0" * 32, "issuedAt": NOW - 100, "expiresAt": NOW + 100,
            "requester": _PERSON,
        },
        "version": _VERSION,
        "artifact": {
            "id": _digest("a"), "recomputed": _digest("a"),
            "signature": {"signer": "1" * 64, "role": "builder", "subject": _digest("e")},
        },
        "approvals": [{"signer": n * 64, "person": person_id("p" + n), "roles": ["approver"]} for n in "345"],
        "evaluation": {
            "digest": _digest("c"), "artifactId": _digest("a"), "dataset": _digest("d"), "split": "test", "samples": 360,
            "metrics": {"accuracy": 0.9722222222222222, "perClass": {"0": {"recall": 1.0}, "1": {"recall": 0.9166666666666666}}},
            "issuedAt": NOW - 1000, "signer": "2" * 64, "role": "evaluator",
        },
        "provenance": {
            "digest": _digest("f"), "artifactId": _digest("a"), "runKey": _digest("b"), "recomputedRunKey": _digest("b"),
            "missing": [], "purpose": "commercial", "dirty": False, "datasets": [_digest("d")],
            "signer": "1" * 64, "role": "builder",
        },
        "datasets": [_DATASET],
        "flags": [],
    },
    "deploy": {
        "now": NOW,
        "environment": "prod",
        "version": _VERSION | {"stage": "prod"},
        "manifest": {
            "digest": _digest("f"), "environment": "prod", "artifactId": _digest("a"), "signer": "6" * 64, "role": "manifest",
        },
        "flags": [],
    },
    "publish": {
        "now": NOW,
        "bundle": {"recomputed": _digest("b")},
        "statement": {"digest": _digest("f"), "revision": _digest("b"), "version": 2, "issuedAt": NOW - 1},
        "signature": {"signer": "7" * 64, "person": SAM, "roles": ["approver", "security"]},
        "active": {"revision": _digest("a"), "version": 1},
    },
    "clearance": {
        "now": NOW,
        "flag": {"id": "flag-1", "kind": "model", "target": "digits@1", "reason": "biased", "since": NOW - 100},
        "clearance": {
            "digest": _digest("f"), "flag": "flag-1", "kind": "model", "target": "digits@1", "reason": "tested again",
            "issuedAt": NOW - 50, "signer": "7" * 64, "person": SAM, "roles": ["security"],
        },
    },
    "provision": json.loads((Path(__file__).parent / "policy" / "corpus" / "provision.json").read_text()),
    "apply": json.loads((Path(__file__).parent / "policy" / "corpus" / "apply.json").read_text()),
    "authz": {"actor": SAM, "roles": ["approver", "security"], "operation": "policy.publish"},
}
"""For each action an input, without `action`, that passes every rule."""

ODD_VALUES: tuple[Any, ...] = (
    "", "a\"b\\c\n\u0001é\U0001f600", -1, 0, 7.5, 2**53 - 1, True, [], {}, [None], {"a": None}, ["x"],
)


def broken_inputs(action: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The good input with one place at a time missing or of another kind. The name says what was done where.

    Each place gets null and, in turn, four of the odd values, so that every value meets many places.
    """
    turn = itertools.cycle(ODD_VALUES)
    for path in _paths(GOOD[action]):
        yield f"{_name(path)} missing", _changed(GOOD[action], path, lambda parent, key: parent.pop(key))
        for odd in (None, *itertools.islice(turn, 4)):
            yield f"{_name(path)} = {odd!r}", _changed(GOOD[action], path, _setter(odd))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _setter(odd: Any) -> Callable[[Any, Any], None]:
    return lambda parent, key: parent.__setitem__(key, odd)


def _changed(value: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> dict[str, Any]:
    result = parent = copy.deepcopy(value)
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return result


def edited(changes: dict[str, bytes]) -> Bundle:
    """Our bundle with other files."""
    return Bundle({**BUNDLE.files, **changes})


def blocking(dataset: str) -> Bundle:
    """Our bundle, blocking one data set."""
    data = BUNDLE.files["data.json"].replace(b'"blocked_datasets": []', f'"blocked_datasets": ["{dataset}"]'.encode())
    return edited({"data.json": data})


def signed(bundle: Bundle, version: int, *keys: PrivateKey, **changes: Any) -> bytes:
    """The envelope that publishes a bundle; by default signed by a person with the role security."""
    values = {"revision": bundle.revision, "version": version, "issued_at": NOW} | changes
    payload = PolicyBundle(**values).to_statement()
    made: Envelope = world.envelope(payload, *(keys or (world.PEOPLE_KEYS["eve"][0],)))
    return made.to_bytes()


@dataclass
class Platform:
    """SentinelNet over a new SQLite database and folder store, with a log that is a list."""

    folder: Path
    engine: PolicyEngine = field(default_factory=RegopyEngine)
    store: ObjectStore | None = None
    now_ms: int = NOW * 1000

    def __post_init__(self) -> None:
        self.database: Engine = open_engine(databases.url(self.folder, "platform"))
        self.outbox_table = outbox_table(MetaData())
        with begin(self.database) as connection:
            for table in (decisions, policies, self.outbox_table):
                connection.execute(CreateTable(table, if_not_exists=True))
        self.outbox = Outbox(self.outbox_table, service_id("api"), lambda: self.now_ms)
        self.bus = MemoryAuditBus()
        self.relay = Relay(self.database, self.outbox, self.bus)
        self.objects = self.store or open_store(str(self.folder / "objects"))
        self.net = SentinelNet(
            engine=self.engine,
            database=self.database,
            store=self.objects,
            outbox=self.outbox,
            relay=self.relay,
            trust=world.trust,
            clock=lambda: self.now_ms,
        )

        self.oversight = Oversight(self.net, self.database, self.objects, self.logged)

    def logged(self, event_id: str) -> dict[str, Any]:
        """The event as the log has it."""
        self.relay.flush()
        found = [event for event in self.bus.events if event["id"] == event_id]
        if not found:
            raise NotFound(f"no event {event_id}")
        return found[0]

    def publish(self, bundle: Bundle = BUNDLE, version: int = 1) -> Published:
        return self.net.publish(to_tar(bundle), signed(bundle, version), SAM)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Events of the outbox in their order."""
        with self.database.connect() as connection:
            rows = connection.execute(select(self.outbox_table.c.event).order_by(self.outbox_table.c.seq)).all()
        found = [parse(row.event) for row in rows]
        return [event for event in found if kind in (None, event["type"])]


@contextmanager
def opa_server(program: str) -> Iterator[str]:
    """URL of an OPA server that lives as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error", "--disable-telemetry"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=1).is_success:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "the OPA server did not start"
        time.sleep(0.05)
