"""The platform under attack, at three points of the flow, and what an attack must not change."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, select, update

from services.api.adapters import SentinelPolicy, ServedVersions
from services.core import dsse
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import AiInfraError, Refused
from services.core.keys import Signature
from services.registry import tables
from services.serving.domain import DeploymentSpec, RolloutSpec
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from tests.fakes.registry import Interrupting
from tests.fakes.serving import ListedProbes, ScriptedBackend
from tests.registry import RITA, Ports, Rig, copied, evaluated

DARIO = "spiffe://ai-infra.local/person/dario"
TRIO = ("ada", "ben", "cyd")

EVALUATED, APPROVED, PROMOTED = "evaluated", "approved", "promoted"
"""A version in dev; the same with an approved request to staging; the same in staging, with a low-risk one beside it."""

Attempt = Callable[[], object]


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    does: what the attacker does; start: the point of the flow; prepare: does everything but the last step, and gives that one;
    rules: the names under which it is refused (for a `layer` without decisions the name of the error); layer: who refuses.
    passed: a decision allowed it before what refused it; its records and the proxy's stay.
    edited: what was edited is a row that `audit reconcile` names.
    withdrawn: a row said that it was decided on; the refusal takes that back.
    meanwhile: tables and types of events of what somebody else does, rightly, during the attempt.
    """

    group: str
    does: str
    start: str
    prepare: Callable[[Rig], Attempt]
    rules: tuple[str, ...]
    layer: str = "SentinelNet"
    error: type[AiInfraError] = Refused
    passed: bool = False
    edited: bool = False
    recorded: bool = True
    retryable: bool = False
    withdrawn: bool = False
    meanwhile: tuple[str, ...] = ()


def serving(rig: Rig) -> Serving:
    """Serving over the rig's registry, policies and log; only the router is a fake."""
    versions = ServedVersions(rig.registry(), rig.evidences, rig.store, rig.trust_now, rig.clock, rig.log)
    return Serving(rig.engine, rig.outbox, rig.clock, versions, SentinelPolicy(rig.sentinelnet), ScriptedBackend())


def deploy(rig: Rig, environment: str = "staging", number: int = 1, model: str = "digits") -> Attempt:
    spec = DeploymentSpec.from_json({"model": model, "number": number, "environment": environment})
    return lambda: serving(rig).deploy(spec, DARIO)


def rollout(rig: Rig, number: int) -> Attempt:
    value = {"model": "digits", "number": number, "environment": "staging", "compares": ["errors", "latency"]}
    return lambda: Rollouts(serving(rig), ListedProbes([])).start(RolloutSpec.from_json(value), DARIO)


def carry_out(rig: Rig, promotion: str | None = None) -> Attempt:
    """The last step of a promotion; by default of the one that is there."""
    found = promotion or str(rig.promotions.all()[-1]["id"])
    return lambda: rig.promotions.carry_out(found, RITA)


def approved(rig: Rig, promotion: str, *names: str) -> Attempt:
    rig.approve(promotion, *(names or TRIO))
    return carry_out(rig, promotion)


def forged(rig: Rig, *signatures: bytes) -> Attempt:
    """A request whose stored envelope was replaced, with these signatures beside its requester's."""
    promotion = rig.request()
    held = dsse.parse(rig.promotions.envelope(promotion))
    given = tuple(Signature(f"key-{n}", sig) for n, sig in enumerate(signatures))
    replaced = dsse.Envelope(held.payload_type, held.payload, held.signatures + given).to_bytes()
    edit(rig, tables.promotions, envelope=rig.store.put(replaced))
    return carry_out(rig, promotion)


def between(rig: Rig, then: Callable[[], object]) -> Attempt:
    """The approved promotion, with `then` happening after the decision and before its effect."""
    p = rig.ports
    rig.use(Ports(p.store, p.events, Interrupting(p.policy, then), p.signing))
    return carry_out(rig)


def edit(rig: Rig, table: Any, **values: Any) -> None:
    """What somebody with the database's password does: every row of the table gets the values."""
    with begin(rig.engine) as connection:
        connection.execute(update(table).values(**values))


def object_path(rig: Rig, digest: str) -> Path:
    return rig.folder / "objects" / digest[7:9] / digest[9:]


def overwrite(rig: Rig, digest: str, data: bytes | None = None) -> None:
    """What somebody with the store's disk does: other bytes under the same name."""
    path = object_path(rig, digest)
    path.chmod(0o600)
    path.write_bytes(b"?" + path.read_bytes()[1:] if data is None else data)


Snapshot = dict[str, Any]


def snapshot(rig: Rig) -> Snapshot:
    """Every row of every table, and the digest of every object."""
    rig.relay.flush()
    found: Snapshot = {}
    for name, engine in rig.engines.items():
        metadata = MetaData()
        metadata.reflect(engine)
        with engine.connect() as connection:
            for table in metadata.sorted_tables:
                found[f"{name}.{table.name}"] = {repr(tuple(row)) for row in connection.execute(select(table))}
    folder = rig.folder / "objects"
    files = [path for path in folder.rglob("*") if path.is_file()]
    found["objects"] = {(str(path.relative_to(folder)), sha256(path.read_bytes())) for path in files}
    return found


LEFT_BY_REFUSALS = {"platform.outbox", "platform.decisions", "audit.events", "objects"}
LEFT_BY_DECISIONS = LEFT_BY_REFUSALS | {"signing.outbox", "signing.signatures"}


def grown(before: Snapshot, after: Snapshot) -> set[str]:
    """Names of the tables that have rows that they had not (`objects` for objects)."""
    return {name for name in after if after[name] - before[name]}


def lost(before: Snapshot, after: Snapshot) -> set[str]:
    """Names of the tables that lack rows that they had, or have other ones in their place."""
    return {name for name in before if before[name] - after[name]}


def told(rig: Rig, after: int) -> list[dict[str, Any]]:
    """Events of the platform that are in the log since an index."""
    rig.relay.flush()
    return [entry.event for entry in rig.audit.search(after=after, limit=1000)]


def refusing(event: dict[str, Any]) -> set[str]:
    return {rule["rule"] for rule in event["payload"]["rules"] if rule["verdict"] != "pass"}


def new_objects(rig: Rig, before: Snapshot, after: Snapshot) -> set[str]:
    """Objects that an attempt left and that are no decision's input."""
    inputs = {event["payload"].get("inputDigest") for event in rig.events("policyCheck")}
    return {digest for _, digest in after["objects"] - before["objects"]} - inputs


@functools.cache
def _template(start: str) -> tuple[tempfile.TemporaryDirectory[str], Rig]:
    folder = tempfile.TemporaryDirectory(prefix="ai-infra-attacks-")
    home = Path(folder.name) / "home"
    rig = evaluated(home) if start == EVALUATED else copied(_template({APPROVED: EVALUATED, PROMOTED: APPROVED}[start])[1], home)
    if start == APPROVED:
        rig.approve(rig.request(), *TRIO)
    elif start == PROMOTED:
        rig.promotions.carry_out(rig.promotions.all()[0]["id"], RITA)
    rig.close()
    return folder, rig


@contextmanager
def at(start: str, folder: Path) -> Iterator[Rig]:
    """A platform of one's own at a point of the flow."""
    rig = copied(_template(start)[1], folder / "home")
    try:
        yield rig
    finally:
        rig.close()
