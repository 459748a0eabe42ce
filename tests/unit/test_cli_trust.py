"""`ai-infra trust build`: public keys become a trust.json that verifiers take, or nothing is written."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.cli import app
from services.commands.common import exit_code
from services.core import keys, tlog
from services.core.errors import AiInfraError
from services.core.trust import Trust
from services.home import Home, create

NAMES = ("audit", "builder", "evaluator", "manifest", "sentinelnet")


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home.at(tmp_path_factory.mktemp("trust") / "seed")
    create(home)
    return home.root / "trust.json"


@pytest.fixture
def made(tmp_path: Path) -> dict[str, keys.PublicKey]:
    """A public key in NAME.pem for each name."""
    found = {name: keys.generate_p256().public_key() for name in NAMES}
    for name, key in found.items():
        (tmp_path / f"{name}.pem").write_text(keys.public_pem(key))
    return dict(found)


def build(folder: Path, seed: Path, files: Mapping[str, str] | None = None, *more: str) -> Result:
    named = {name: f"{name}.pem" for name in NAMES} if files is None else files
    options = [word for name, file in named.items() for word in ("--key", f"{name}={folder / file}")]
    return CliRunner().invoke(app, ["trust", "build", "--from", str(seed), *options, "-o", str(folder / "trust.json"), *more])


def refused(result: Result) -> tuple[int, str]:
    assert isinstance(result.exception, AiInfraError), result.output
    return int(exit_code(result.exception)), str(result.exception)


def test_services_and_log_get_the_keys_and_all_else_stays(tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]) -> None:
    before = Trust.parse(seed.read_bytes())
    result = build(tmp_path, seed, None, "--json")
    assert result.exit_code == 0, result.output
    trust, said = Trust.parse((tmp_path / "trust.json").read_bytes()), json.loads(result.stdout)
    ids = {name: keys.signer_id(key) for name, key in made.items() if name != "audit"}
    assert {signer.role: signer.signer for signer in trust.signers} == said["signers"] == ids
    assert trust.log_vkey == said["log"] == tlog.vkey_text(before.log_origin, made["audit"])
    assert (trust.people, trust.approvals, trust.policy_signers) == (before.people, before.approvals, before.policy_signers)
    assert said["people"] == {person.person: sorted(person.public_keys) for person in before.people}


def test_again_it_changes_nothing_and_what_differs_is_left_alone(
    tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]
) -> None:
    assert json.loads(build(tmp_path, seed, None, "--json").stdout)["written"] is True
    assert json.loads(build(tmp_path, seed, None, "--json").stdout)["written"] is False
    before = (tmp_path / "trust.json").read_bytes()
    (tmp_path / "builder.pem").write_text(keys.public_pem(keys.generate_p256().public_key()))
    code, said = refused(build(tmp_path, seed))
    assert (code, "says something else" in said) == (4, True)
    assert (tmp_path / "trust.json").read_bytes() == before


def test_people_read_whose_key_is_which(tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]) -> None:
    said = build(tmp_path, seed).output
    assert "builder" in said
    assert keys.signer_id(made["builder"]) in said.replace("\n", "")
    assert "no witness is asked for" in said


ALL = {name: f"{name}.pem" for name in NAMES}
BAD: dict[str, tuple[Mapping[str, str], str]] = {
    "one is missing": ({name: file for name, file in ALL.items() if name != "audit"}, "missing or unknown: audit"),
    "one is unknown": (ALL | {"router": "builder.pem"}, "missing or unknown: router"),
    "a key twice": (ALL | {"manifest": "builder.pem"}, "listed twice"),
    "a service keeps the log": (ALL | {"audit": "builder.pem"}, "--key builder and --key audit are one key"),
    "no file": (ALL | {"builder": "none.pem"}, "none.pem"),
    "no key": (ALL | {"builder": "text.pem"}, "--key builder: "),
    "another curve": (ALL | {"builder": "p384.pem"}, "P-256"),
    "Ed25519 for a service": (ALL | {"builder": "ed25519.pem"}, "P-256"),
    "a private key": (ALL | {"builder": "private.pem"}, "openssl pkey -in"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_set_of_keys_is_refused_and_nothing_is_written(
    tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey], name: str
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    (tmp_path / "text.pem").write_text("no key")
    other: Any = ec.generate_private_key(ec.SECP384R1()).public_key()
    (tmp_path / "p384.pem").write_text(keys.public_pem(other))
    (tmp_path / "ed25519.pem").write_text(keys.public_pem(keys.generate_ed25519().public_key()))
    private = keys.private_pem(keys.generate_p256()).decode()
    (tmp_path / "private.pem").write_text(private)
    files, why = BAD[name]
    code, said = refused(build(tmp_path, seed, files))
    assert (code, why in said) == (2, True), said
    assert private not in said
    assert not (tmp_path / "trust.json").exists()


def test_a_name_given_twice_is_refused(tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]) -> None:
    code, said = refused(build(tmp_path, seed, None, "--key", f"builder={tmp_path / 'audit.pem'}"))
    assert (code, "each name once" in said) == (2, True)


def test_the_log_may_have_an_ed25519_key(tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]) -> None:
    (tmp_path / "audit.pem").write_text(keys.public_pem(keys.generate_ed25519().public_key()))
    assert build(tmp_path, seed).exit_code == 0


def test_a_revoked_key_signs_for_no_service(tmp_path: Path, seed: Path, made: dict[str, keys.PublicKey]) -> None:
    trust = replace(Trust.parse(seed.read_bytes()), revoked={keys.signer_id(made["builder"]): 7})
    revoking = tmp_path / "revoking.json"
    revoking.write_bytes(trust.to_bytes())
    code, said = refused(build(tmp_path, revoking))
    assert (code, "--key builder: this key is revoked" in said) == (2, True)
