"""Data sets: immutable snapshots, named by the digest of their manifest. It reads no data."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Engine, RowMapping, bindparam, insert, select

from services.core import dsse
from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import FileEntry, require_files, sha256
from services.core.errors import BadInput, Refused
from services.core.events import EventDraft, Subject
from services.core.objects import ObjectStore, WrongChecksum
from services.core.statements import DatasetApproval, Digest, Name, Strict, Text, expect
from services.core.trustfile import TrustNow
from services.registry import tables
from services.registry.errors import AlreadyRegistered, UnknownDataset
from services.registry.ports import Events

_REFERRED = select(tables.datasets).where(
    (tables.datasets.c.id == bindparam("reference"))
    | ((tables.datasets.c.name == bindparam("name")) & (tables.datasets.c.version == bindparam("version")))
)

REMEMBERED = 1_000
"""Data sets whose ancestors are remembered: registered ones are never changed, and each registration of a model asks."""


class DatasetManifest(Strict):
    """What a data set's id is the digest of (as canonical bytes).

    schema: column → type; licence: SPDX expression; pii: the verdict on personal data; parents: ids of the sets that this
    one was made from; splits: split → paths.
    """

    files: list[dict[str, Any]]
    columns: Annotated[dict[str, str], Field(alias="schema")]
    licence: Annotated[str, Field(min_length=1, max_length=100)]
    source: Text
    pii: Literal["none", "present", "unknown"]
    parents: list[Digest]
    splits: dict[str, list[str]]

    def entries(self) -> list[FileEntry]:
        """The files, checked: every split names files of the set, and no two splits share bytes: nothing is held out then."""
        entries = require_files(self.files)
        known = {entry.path: entry.sha256 for entry in entries}
        split_of: dict[str, str] = {}
        for split, paths in self.splits.items():
            if missing := sorted(set(paths) - set(known)):
                raise BadInput(f"split {split!r} names {missing[0]!r}, which is none of the data set's files")
            for path in paths:
                if (other := split_of.setdefault(known[path], split)) != split:
                    raise BadInput(f"split {split!r} holds {path!r}, whose bytes are in split {other!r} too")
        return entries


class DatasetRegistration(Strict):
    """`name@version` → manifest."""

    name: Name
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$")]
    manifest: DatasetManifest


@dataclass(frozen=True)
class Datasets:
    """Use cases over data sets."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock
    trust: TrustNow
    _ancestors: dict[str, frozenset[str]] = field(default_factory=dict)

    def register(self, registration: DatasetRegistration, actor: str) -> dict[str, Any]:
        """The data set's record. Registering the same content under the same name again changes nothing.

        Raises:
            UnknownDataset: a parent is not registered. BadInput: a file is not in the object store: upload it first.
            WrongChecksum: an object has another size than its entry says.
            AlreadyRegistered: the name and version stand for other content.
        """
        manifest = registration.manifest
        for entry in manifest.entries():
            if not self.store.has(entry.sha256):
                raise BadInput(f"{entry.path}: object {entry.sha256} is not in the store: upload it first")
            if self.store.size(entry.sha256) != entry.size:
                raise WrongChecksum(f"{entry.path}: has {self.store.size(entry.sha256)} bytes, not {entry.size}")
        for parent in manifest.parents:
            self.get(parent)
        # 1. Store the manifest. A crash here leaves an object that no row names: harmless.
        digest = self.store.put(canonical(manifest.to_json()))
        # 2. Row and event in one transaction.
        with begin(self.engine) as connection:
            found = connection.execute(
                select(tables.datasets).where(
                    (tables.datasets.c.id == digest)
                    | ((tables.datasets.c.name == registration.name) & (tables.datasets.c.version == registration.version))
                )
            ).first()
            if found is not None:
                if (found.id, found.name, found.version) != (digest, registration.name, registration.version):
                    raise AlreadyRegistered(f"{found.name}@{found.version} is {found.id}: give other content a new name or version")
            else:
                self._insert(connection, registration, digest, actor)
        return self.get(digest)

    def _insert(self, connection: Any, registration: DatasetRegistration, digest: str, actor: str) -> None:
        manifest = registration.manifest
        connection.execute(
            insert(tables.datasets).values(
                id=digest,
                name=registration.name,
                version=registration.version,
                licence=manifest.licence,
                pii=manifest.pii,
                parents=manifest.parents,
                registered_by=actor,
                registered_at=self.clock(),
            )
        )
        name = f"{registration.name}@{registration.version}"
        payload = {"name": name, "licence": manifest.licence, "pii": manifest.pii, "parents": list(manifest.parents)}
        self.events.emit(connection, EventDraft("dataset.registered", actor, Subject("dataset", digest, digest), payload))

    def get(self, reference: str) -> dict[str, Any]:
        """The record of a data set. reference: its id or `name@version`. Raises UnknownDataset."""
        row = self._row(reference)
        manifest = parse(self.store.get(row["id"]))
        return dict(row) | {"manifest": manifest, "approvedBy": self.approvals(row["id"])["approvedBy"]}

    def _row(self, reference: str) -> RowMapping:
        name, _, version = reference.rpartition("@")
        with self.engine.connect() as connection:
            found = connection.execute(_REFERRED, {"reference": reference, "name": name, "version": version}).mappings().first()
        if found is None:
            raise UnknownDataset(f"no data set {reference!r}: `ai-infra data list` shows those there are")
        return found

    def all(self) -> list[dict[str, Any]]:
        """Every record, without manifests, oldest first."""
        with self.engine.connect() as connection:
            return [
                dict(row)
                for row in connection.execute(select(tables.datasets).order_by(tables.datasets.c.registered_at)).mappings()
            ]

    def ancestors(self, references: list[str]) -> list[str]:
        """Ids of the data sets and of all that they were made from, sorted."""
        return sorted({item for reference in references for item in self._with_ancestors(reference)})

    def _with_ancestors(self, reference: str) -> frozenset[str]:
        if (known := self._ancestors.get(reference)) is not None:
            return known
        found: set[str] = set()
        waiting = [self._row(reference)["id"]]
        while waiting:
            dataset = waiting.pop()
            if dataset not in found:
                found.add(dataset)
                waiting.extend(parse(self.store.get(dataset))["parents"])
        if len(self._ancestors) >= REMEMBERED:
            self._ancestors.clear()
        self._ancestors[reference] = frozenset(found)
        return frozenset(found)

    def approve(self, envelope_bytes: bytes, actor: str) -> dict[str, Any]:
        """Records a steward's approval of one data set's digest.

        Raises:
            Refused: no steward of the trust file signed it, or not the caller. UnknownDataset.
        """
        envelope = dsse.parse(envelope_bytes)
        approval = expect(DatasetApproval, envelope.payload)
        dataset = self.get(approval.dataset)
        trust = self.trust()
        people = [trust.person_of(signer) for signer in dsse.verified_signers(envelope, trust.people_keys())]
        if not any(p is not None and p.person == actor and "steward" in p.roles for p in people):
            raise Refused("the approval is not signed by the calling steward's own key", [_not_steward(actor)])
        digest = self.store.put(envelope.to_bytes())
        payload = sha256(envelope.payload)
        with begin(self.engine) as connection:
            table = tables.dataset_approvals
            if connection.execute(select(table).where(table.c.payload == payload)).first() is None:
                connection.execute(insert(table).values(payload=payload, dataset=dataset["id"], envelope=digest, approved_by=actor))
                subject = Subject("dataset", dataset["id"], dataset["id"])
                fact = {"approval": payload, "reason": approval.reason}
                self.events.emit(connection, EventDraft("dataset.approved", actor, subject, fact))
        return self.get(dataset["id"])

    def approvals(self, dataset: str) -> dict[str, Any]:
        """Who approved the data set, and the envelopes' digests."""
        table = tables.dataset_approvals
        with self.engine.connect() as connection:
            rows = connection.execute(select(table).where(table.c.dataset == dataset)).all()
        return {
            "approvedBy": sorted({row.approved_by for row in rows}),
            "envelopes": sorted(row.envelope for row in rows),
        }


def _not_steward(actor: str) -> dict[str, Any]:
    return {"rule": "dataset.pii", "verdict": "deny", "reasons": [f"{actor} did not sign the approval as a steward"]}
