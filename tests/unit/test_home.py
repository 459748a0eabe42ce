"""A development home, the settings of the API process, and the data set descriptions that the client reads."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.api.settings import Settings
from services.client import read_dataset
from services.core import dsse
from services.core.bundle import load_bundle
from services.core.digests import sha256
from services.core.errors import BadInput, BadSetting, NotFound
from services.core.keys import signer_id
from services.core.statements import PolicyBundle, expect
from services.core.tls import Identity, person_id
from services.core.trust import Trust
from services.home import PEOPLE, Home, create
from services.registry.datasets import DatasetRegistration
from services.supervisor import DEFAULT_PORTS, Platform, free_ports


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home.at(tmp_path_factory.mktemp("made") / "home")
    assert create(home)
    return home


def test_a_home_is_made_once(made: Home) -> None:
    before = (made.root / "trust.json").read_bytes()
    assert create(made) is False
    assert (made.root / "trust.json").read_bytes() == before


def test_peoples_keys_lie_outside_the_home_and_private_ones_are_private(made: Home) -> None:
    assert not made.people.is_relative_to(made.root)
    private = [*made.people.rglob("*.pem"), *made.people.rglob("tls.key"), *made.root.rglob("*.key"), *made.root.rglob("*.pem")]
    assert len(private) > 2 * len(PEOPLE)
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


def test_trust_knows_every_person_with_roles_and_keys(made: Home) -> None:
    trust = Trust.parse((made.root / "trust.json").read_bytes())
    assert {person.person: person.roles for person in trust.people} == {
        person_id(name): frozenset(roles) for name, roles in PEOPLE.items()
    }
    keys = {signer_id(made.signing_key("ana", second).public_key()) for second in (False, True)}
    assert {s for person in trust.people if person.person == person_id("ana") for s in person.public_keys} == keys


def test_the_first_policies_are_signed_by_the_security_person(made: Home) -> None:
    held = dsse.parse((made.root / "bootstrap" / "policies.dsse.json").read_bytes())
    assert dsse.verified_signers(held, made.trust.policy_keys())
    bundle = load_bundle((made.root / "bootstrap" / "policies.tar").read_bytes())
    assert expect(PolicyBundle, held.payload).revision == bundle.revision


def test_a_home_that_broke_off_is_made_whole_by_the_next_run(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    create(home)
    kept = (home.people / "sam" / "signing.pem").read_bytes()
    (home.root / "config.json").unlink()
    (home.root / ".making").touch()
    shutil.rmtree(home.root / "services")
    assert create(home)
    assert (home.people / "sam" / "signing.pem").read_bytes() == kept
    assert home.require().service("api").cert.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadSetting, match="is not empty and no home"):
        create(Home.at(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_is_not_there_is_told_with_the_remedy(made: Home, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="ai-infra init"):
        Home.at(tmp_path / "none").require()
    with pytest.raises(NotFound, match="there are ada, ana"):
        made.person("nobody")
    with pytest.raises(NotFound, match="ai-infra up"):
        _ = made.endpoints
    assert made.person("ada") == Identity.in_folder(made.people / "ada")


def test_a_busy_port_is_told_before_anything_is_started(made: Home) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        ports = free_ports() | {"router": busy.getsockname()[1]}
        platform = Platform(made, ports)
        endpoints = made.root / "run" / "endpoints.json"
        endpoints.write_text("{}")
        with pytest.raises(BadSetting, match=f"port {ports['router']} for router is taken"), platform:
            raise AssertionError("it started")
        assert endpoints.exists()
        endpoints.unlink()
    assert platform.processes == {}
    assert platform.lock is None


def test_a_second_platform_of_a_home_is_refused_and_leaves_the_first_its_files(made: Home) -> None:
    first, second = Platform(made, free_ports()), Platform(made, free_ports())
    first.hold()
    endpoints = made.root / "run" / "endpoints.json"
    endpoints.write_text("{}")
    try:
        for _ in range(2):
            with pytest.raises(BadSetting, match="is running already, as process"), second:
                raise AssertionError("it started")
        assert endpoints.exists()
    finally:
        first.stop()
    second.hold()
    second.stop()


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports().values())) == len(DEFAULT_PORTS)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AI_INFRA_ENV": "test"}, "AI_INFRA_ENV='test'"),
        ({"AI_INFRA_API_PORT": "x"}, "AI_INFRA_API_PORT='x'"),
        ({"AI_INFRA_API_PORT": "65536"}, "AI_INFRA_API_PORT"),
        ({"AI_INFRA_ENV": "prod", "AI_INFRA_SIGNING_URL": "http://x"}, "AI_INFRA_SIGNING_URL=http://x: env is prod, use https"),
        ({"AI_INFRA_ENV": "prod", "AI_INFRA_ROUTER_URL": "http://x"}, "AI_INFRA_ROUTER_URL"),
        ({"AI_INFRA_ENV": "prod"}, "AI_INFRA_DATABASE is SQLite"),
        ({"AI_INFRA_ENV": "prod", "AI_INFRA_DATABASE": "postgresql://x"}, "AI_INFRA_AUDIT_DATABASE is SQLite"),
        (
            {"AI_INFRA_ENV": "prod", "AI_INFRA_DATABASE": "postgresql://x", "AI_INFRA_AUDIT_DATABASE": "postgresql://x"},
            "has a development CA",
        ),
    ],
)
def test_a_wrong_or_dangerous_setting_is_refused_by_its_name(made: Home, environ: dict[str, str], says: str) -> None:
    with pytest.raises(BadSetting, match=says):
        Settings.from_env({"AI_INFRA_HOME": str(made.root)} | environ)


def test_a_development_home_needs_no_setting(made: Home) -> None:
    found = Settings.from_env({"AI_INFRA_HOME": str(made.root)})
    assert (found.env, found.port, found.object_backend, found.policy_engine) == ("dev", 8443, "folder", "regopy")
    assert str(made.root) in found.database


def described(folder: Path, **changes: Any) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "test.csv").write_bytes(b"1,2\n")
    (folder / "data" / "schema.json").write_text(json.dumps({"pixel": "uint8"}))
    value = {
        "name": "digits", "version": 1, "licence": "CC-BY-4.0", "source": "https://data.example", "pii": "none", "parents": [],
        "directory": "data", "schema": "schema.json", "files": ["test.csv"], "splits": {"test": ["test.csv"]},
    }  # fmt: skip
    (folder / "dataset.yaml").write_text(yaml.safe_dump({k: v for k, v in (value | changes).items() if v is not None}))
    return folder / "dataset.yaml"


def test_a_description_becomes_the_registration_that_the_platform_takes(tmp_path: Path) -> None:
    value, folder = read_dataset(described(tmp_path))
    assert folder == tmp_path / "data"
    registration = DatasetRegistration.from_json(value)
    assert (registration.name, registration.version) == ("digits", "1")
    assert [(e.path, e.size, e.sha256) for e in registration.manifest.entries()] == [("test.csv", 4, sha256(b"1,2\n"))]


def broken_yaml(path: Path) -> None:
    path.write_text("a: [")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def tagged(path: Path) -> None:
    path.write_text("!!python/object/apply:os.system ['true']")


def gone(path: Path) -> None:
    path.unlink()


def bad_schema(path: Path) -> None:
    (path.parent / "data" / "schema.json").write_text("{")


@pytest.mark.parametrize("spoil", [broken_yaml, no_text, tagged, gone, bad_schema])
def test_a_description_that_cannot_be_read_is_told_by_its_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = described(tmp_path)
    spoil(path)
    with pytest.raises(BadInput, match=r"dataset\.yaml"):
        read_dataset(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"licence": None}, {"extra": 1}, {"files": ["absent.csv"]}, {"files": "test.csv"}, {"files": 7},
        {"files": ["../dataset.yaml"]},
    ],
    ids=repr,
)
def test_a_description_that_does_not_hold_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        read_dataset(described(tmp_path, **changes))
