"""Archives, platforms and names that were made to deceive the offline verifier or the terminal of whoever runs it."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection

from services.commands.common import plain, show
from services.commands.verify import draw
from services.core import archive as layout
from services.core import dsse, keys, oms
from services.core.bundle import MAX_TAR_BYTES
from services.core.canonical import canonical, parse
from services.core.events import Subject
from services.core.statements import Manifest, expect
from services.registry.ports import Decision, Policy
from services.verify.chain import chain
from services.verify.report import BROKEN, Link, Report
from services.verify.service import verify
from services.verify.walk import Own
from tests import signing as world
from tests.archives import Members, edited, read, sparse_member, write
from tests.predictions import SALT, Served, served
from tests.registry import NOW, opened, trust

LINKS = ("archive", *(name for name, _ in chain(predicted=True, own=False)))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        yield found


@pytest.fixture
def archive(platform: Served, tmp_path: Path) -> Path:
    return platform.archive(platform.predict(), tmp_path / "evidence.zip")


def broken(path: Path, model: Path | None = None) -> tuple[str, str]:
    """Name and detail of the broken link."""
    found = verify(path, trust(), model).broken
    assert found is not None
    return found.name, found.detail


def test_archives_of_two_predictions_cannot_be_mixed(platform: Served, tmp_path: Path) -> None:
    """Member by member; what both have in common are the members of their promotion and deployment."""
    ids = [platform.predict(seal=False), platform.predict(seal=False)]
    platform.seal()
    first, second = (read(platform.archive(item, tmp_path / f"{item}.zip")) for item in ids)
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {layout.INDEX, layout.PREDICTION, layout.PREDICTION_PROOF}
    links = {name: broken(write(tmp_path / "e.zip", first | {name: second[name]}))[0] for name in sorted(differing)}
    assert links == {
        layout.INDEX: "prediction record", layout.PREDICTION: "prediction record", layout.PREDICTION_PROOF: "batch root",
    }  # fmt: skip
    pair = {name: second[name] for name in (layout.PREDICTION, layout.PREDICTION_PROOF)}
    assert broken(write(tmp_path / "e.zip", first | pair))[0] == "prediction record"


def test_a_prediction_cannot_be_shown_under_the_promotion_of_another_version(platform: Served, tmp_path: Path) -> None:
    mine = read(platform.archive(platform.predict(), tmp_path / "mine.zip"))
    rig = platform.rig
    rig.register(rig.train("run-2", [rig.datasets.get("digits@1")["id"]], {"model.safetensors": b"other " * 99}), risk="high")
    rig.evaluate(2)
    rig.promoted(2)
    other = read(rig.archive(tmp_path / "other.zip", number=2))
    served_by = {name: mine[name] for name in layout.OF_PREDICTION}
    about = parse(other[layout.INDEX]) | {name: parse(mine[layout.INDEX])[name] for name in ("prediction", "deployDecision")}
    mixed = write(tmp_path / "e.zip", other | served_by | {layout.INDEX: canonical(about)})
    assert broken(mixed) == ("deployment", f"deployment {platform.deployment} serves another version or artifact")


def test_an_older_checkpoint_does_not_cover_the_batch(platform: Served, tmp_path: Path) -> None:
    older = read(platform.archive(platform.predict(), tmp_path / "older.zip"))
    newer = read(platform.archive(platform.predict(), tmp_path / "newer.zip"))
    log = {name: data for name, data in older.items() if name.startswith(layout.LOG)}
    mixed = {name: data for name, data in newer.items() if not name.startswith(layout.LOG)} | log
    name, detail = broken(write(tmp_path / "e.zip", mixed))
    assert (name, "checkpoint does not cover the record's batch" in detail) == ("batch in the log", True)


def attacker_signs_the_manifest(members: Members, key: keys.PrivateKey) -> None:
    statement = expect(Manifest, dsse.parse(members[layout.MANIFEST]).payload).to_statement()
    members[layout.MANIFEST] = world.envelope(statement, key).to_bytes()


def attacker_signs_the_model(members: Members, key: keys.PrivateKey) -> None:
    payload = oms.parse_bundle(members[layout.MODEL_SIGNATURE]).payload
    members[layout.MODEL_SIGNATURE] = oms.bundle(payload, dsse.sign(payload, key), key.public_key())


def attacker_brings_a_trust_file(members: Members, key: keys.PrivateKey) -> None:
    attacker_signs_the_manifest(members, key)
    known = trust()
    mine = dataclasses.replace(known.signers[0], role="manifest", public_key_pem=world.pem(key))
    others = tuple(signer for signer in known.signers if signer.role != "manifest")
    members["trust.json"] = dataclasses.replace(known, signers=(*others, mine)).to_bytes()


def attacker_brings_a_key_file(members: Members, key: keys.PrivateKey) -> None:
    attacker_signs_the_manifest(members, key)
    members["manifest.pem"] = world.pem(key).encode()


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (attacker_signs_the_manifest, "manifest signature"), (attacker_signs_the_model, "model signature"),
        (attacker_brings_a_trust_file, "archive"), (attacker_brings_a_key_file, "archive"),
    ],
)  # fmt: skip
def test_an_attackers_key_inside_the_archive_is_worth_nothing(
    archive: Path, tmp_path: Path, change: Callable[[Members, keys.PrivateKey], None], link: str
) -> None:
    key = keys.generate_p256()
    assert broken(edited(archive, tmp_path / "e.zip", lambda members: change(members, key)))[0] == link


@dataclasses.dataclass(frozen=True)
class Lies:
    """The platform's SentinelNet, told one fact more, or another one, about one action."""

    honest: Policy
    action: str
    facts: dict[str, Any]

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        return self.honest.decide(action, facts | self.facts if action == self.action else facts, subject, actor)

    def revision(self, connection: Connection | None = None) -> str:
        return self.honest.revision(connection)


VERIFIED = {"signature": {"verified": True}}
LATER = {"now": NOW + 120}


@pytest.mark.parametrize("facts", [VERIFIED, {"comment": ""}, LATER], ids=["an assertion", "a comment", "another time"])
def test_a_platform_that_decides_on_facts_without_evidence_is_found_out(tmp_path: Path, facts: dict[str, Any]) -> None:
    with opened(tmp_path) as rig:
        rig.use(dataclasses.replace(rig.ports, policy=Lies(rig.ports.policy, "promote", facts)))
        rig.promoted()
        name, detail = broken(rig.archive(tmp_path / "e.zip"))
        assert (name, next(iter(facts)) in detail or "time" in detail) == ("decision facts", True)


@pytest.mark.parametrize("facts", [VERIFIED, LATER], ids=["an assertion", "another time"])
def test_a_platform_that_deploys_on_facts_without_evidence_is_found_out(tmp_path: Path, facts: dict[str, Any]) -> None:
    with opened(tmp_path) as rig:
        rig.promoted()
        rig.ports = dataclasses.replace(rig.ports, policy=Lies(rig.ports.policy, "deploy", facts))
        found = Served(rig)
        name, detail = broken(found.archive(found.predict(), tmp_path / "e.zip"))
        found.close()
        assert (name, next(iter(facts)) in detail or "time" in detail) == ("deployment decision", True)


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    link = Link("manifest signature", BROKEN, "of \x1b]0;x\x07another\nverified")
    draw(Report("\x1b[2J\x1b[Hdigits@1\nverified\x1b[8m", (link,), ("\x1b[2Jquarantined\nverified",)))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert [line for line in told.splitlines() if line.strip() == "verified"] == []
    assert plain("é ✓ \x1b[8m\u202e\u200b") == "é ✓ \\x1b[8m\\u202e\\u200b"


def test_an_unreadable_model_folder_is_a_broken_link(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink("/etc/passwd", os.fsencode(folder) + b"/\xff\xfe")
    name, detail = broken(archive, folder)
    plain(detail).encode("utf-8")
    assert (name, "is a link or a device" in detail) == ("weights", True)


def test_policies_that_would_grow_to_gigabytes_are_refused(archive: Path, tmp_path: Path) -> None:
    holes = b"".join(sparse_member(f"x{number}.rego", MAX_TAR_BYTES) for number in range(900))
    link, detail = broken(edited(archive, tmp_path / "e.zip", lambda members: members.update({layout.POLICY: holes})))
    assert (link, "sparse file" in detail) == ("policies", True)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each (object or list, key or index) at any depth."""
    if isinstance(value, dict | list):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from places(item)


@pytest.mark.parametrize(
    "name", [layout.INDEX, layout.PREDICTION, layout.PREDICTION_PROOF, layout.DECISION_INPUT, layout.DEPLOY_INPUT, layout.FILES]
)
def test_a_value_of_another_kind_anywhere_breaks_a_link_by_name(archive: Path, tmp_path: Path, name: str) -> None:
    members, random = read(archive), Random(name)
    for _ in range(12):
        value = parse(members[name])
        held, key = random.choice(list(places(value)))
        held[key] = random.choice([kind for kind in (None, True, -1, 2**53 - 1, 0.5, "", "\0", [], [[]], {}) if kind != held[key]])
        # A link is named; an exception here would be a stack trace there.
        assert broken(write(tmp_path / "e.zip", members | {name: canonical(value)}))[0] in LINKS, (key, held[key])


def test_the_end_of_an_input_is_not_the_input_under_a_longer_salt(platform: Served, archive: Path) -> None:
    """The recorded digest is of salt and input, one after the other."""
    own = Own(platform.input[5:], None, SALT + platform.input[:5])
    link = verify(archive, trust(), own=own).broken
    assert link is not None
    assert (link.name, link.detail) == ("your input and output", "the salt has 21 bytes: the router's have 16")


def test_json_for_machines_cannot_steer_a_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"told": "\x1b[2J\x7f\x9b2J\u202everified é"}
    show(value, True, lambda _: None)
    printed = capsys.readouterr().out
    assert parse(printed.encode()) == value
    assert printed.replace("\n", "").isprintable()
