"""`ai-infra login`: who acts and where is written once, only if all of it belongs together, and for the owner's eyes only."""

import base64
import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from typer.testing import CliRunner, Result

from services.cli import app
from services.commands.common import exit_code
from services.core import keys
from services.core.errors import AiInfraError
from services.home import Home, create
from services.login import FILES

API = "https://localhost:8443"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Whose people have certificates, keys and a place in trust.json."""
    home = Home.at(tmp_path_factory.mktemp("login") / "platform")
    create(home)
    return home


def secret(folder: Path) -> str:
    """As kubectl writes it."""
    data = {name: base64.b64encode((folder / name).read_bytes()).decode() for name in FILES}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data})


def login(
    at: Path, platform: Home, name: str = "ana", *, key: str = "ana", given: str = "-", text: str | None = None, api: str = API,
    trust: Path | None = None,
) -> Result:  # fmt: skip
    options = ["--api", api, "--certificate", given, "--trust", str(trust or platform.root / "trust.json"), "--json"]
    options += ["--signing-key", str(platform.people / key / "signing.pem")]
    fed = secret(platform.people / "ana") if text is None else text
    return CliRunner().invoke(app, ["login", name, *options], input=fed, env={"AI_INFRA_HOME": str(at)})


def refused(result: Result) -> tuple[int, str]:
    assert isinstance(result.exception, AiInfraError), result.output
    return int(exit_code(result.exception)), str(result.exception)


def test_a_secret_from_the_cluster_becomes_a_home_that_commands_take(tmp_path: Path, platform: Home) -> None:
    result = login(tmp_path / "staging", platform)
    assert result.exit_code == 0, result.output
    home = Home.at(tmp_path / "staging").require()
    assert home.endpoints["api"] == API
    assert home.trust == platform.trust
    identity = home.person("ana")
    assert identity.key.read_bytes() == (platform.people / "ana" / "tls.key").read_bytes()
    owner = home.trust.person_of(keys.signer_id(home.signing_key("ana").public_key()))
    assert owner is not None
    assert owner.person == "spiffe://ai-infra.local/person/ana"


def test_only_the_owner_reads_it_and_no_secret_is_shown(tmp_path: Path, platform: Home) -> None:
    result = login(tmp_path / "staging", platform)
    written = [path for folder in ("staging", "staging-people") for path in (tmp_path / folder).rglob("*")]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in written if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in written if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert "PRIVATE" not in result.output
    assert set(json.loads(result.stdout)) == {"home", "person", "folder", "api", "signer"}


def test_a_folder_serves_as_well_and_again_renews(tmp_path: Path, platform: Home) -> None:
    assert login(tmp_path / "staging", platform, api="https://other:8443").exit_code == 0
    assert login(tmp_path / "staging", platform, given=str(platform.people / "ana")).exit_code == 0
    assert Home.at(tmp_path / "staging").endpoints["api"] == API


def test_anothers_certificate_is_refused(tmp_path: Path, platform: Home) -> None:
    code, said = refused(login(tmp_path / "staging", platform, "ben", key="ben"))
    assert (code, "person/ana, not of" in said) == (1, True)
    assert not (tmp_path / "staging").exists()


def test_a_key_that_trust_does_not_know_as_ones_own_is_refused(tmp_path: Path, platform: Home) -> None:
    code, said = refused(login(tmp_path / "staging", platform, key="ben"))
    assert (code, "person/ben, not of" in said) == (1, True)
    assert not (tmp_path / "staging").exists()


def test_a_key_of_a_certificate_that_is_not_its_own_is_refused(tmp_path: Path, platform: Home) -> None:
    mixed = json.loads(secret(platform.people / "ana"))
    mixed["data"]["tls.key"] = json.loads(secret(platform.people / "ben"))["data"]["tls.key"]
    code, said = refused(login(tmp_path / "staging", platform, text=json.dumps(mixed)))
    assert (code, "tls.key is not the key" in said) == (2, True)


NO_SECRETS = ["", "[]", "{}", '{"data": {"tls.crt": "x"}}', '{"data": {"tls.crt": 1, "tls.key": 2, "ca.crt": 3}}']


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_is_refused(tmp_path: Path, platform: Home, text: str) -> None:
    code, said = refused(login(tmp_path / "staging", platform, text=text))
    assert (code, "kubectl get secret" in said) == (2, True)


def test_a_secret_without_pem_is_refused_and_not_quoted(tmp_path: Path, platform: Home) -> None:
    text = json.dumps({"data": {name: base64.b64encode(b"hidden words").decode() for name in FILES}})
    code, said = refused(login(tmp_path / "staging", platform, text=text))
    assert (code, "in PEM" in said, "hidden" in said) == (2, True, False)


def test_another_signing_key_is_never_replaced(tmp_path: Path, platform: Home) -> None:
    assert login(tmp_path / "staging", platform).exit_code == 0
    there = tmp_path / "staging-people" / "ana" / "signing.pem"
    there.unlink()
    keys.write_private_pem(there, keys.generate_p256())
    before = there.read_bytes()
    code, said = refused(login(tmp_path / "staging", platform))
    assert (code, "only copy" in said) == (4, True)
    assert there.read_bytes() == before


def test_the_home_of_a_platform_is_left_alone(platform: Home) -> None:
    before = (platform.root / "config.json").read_bytes()
    code, said = refused(login(platform.root, platform))
    assert (code, "home of a platform" in said) == (4, True)
    assert (platform.root / "config.json").read_bytes() == before


def revoking(platform: Home, file: Path, revoked: Mapping[str, int]) -> Path:
    """The platform's trust.json with these revocations."""
    file.write_bytes(replace(platform.trust, revoked=revoked).to_bytes())
    return file


def test_a_revoked_key_is_refused(tmp_path: Path, platform: Home) -> None:
    own = keys.signer_id(platform.signing_key("ana").public_key())
    code, said = refused(login(tmp_path / "staging", platform, trust=revoking(platform, tmp_path / "new.json", {own: 7})))
    assert (code, "is revoked" in said) == (1, True)
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize("later", [None, 8])
def test_a_trust_that_forgets_a_revocation_does_not_replace_one_that_has_it(
    tmp_path: Path, platform: Home, later: int | None
) -> None:
    signer = keys.signer_id(platform.signing_key("ben").public_key())
    newer = revoking(platform, tmp_path / "newer.json", {signer: 7})
    assert login(tmp_path / "staging", platform, trust=newer).exit_code == 0
    assert login(tmp_path / "staging", platform, trust=newer).exit_code == 0
    forgets = revoking(platform, tmp_path / "older.json", {} if later is None else {signer: later})
    code, said = refused(login(tmp_path / "staging", platform, trust=forgets))
    assert (code, "ask for the present trust.json" in said) == (4, True)
    assert (tmp_path / "staging" / "trust.json").read_bytes() == newer.read_bytes()


def test_a_certificate_that_has_ended_is_refused(tmp_path: Path, platform: Home) -> None:
    key, day = keys.generate_p256(), timedelta(days=1)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://ai-infra.local/person/ana")])
    made = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1)
    made = made.not_valid_before(datetime.now(UTC) - 2 * day)
    ended = made.not_valid_after(datetime.now(UTC) - day).add_extension(uri, False).sign(key, hashes.SHA256())
    pem = ended.public_bytes(serialization.Encoding.PEM)
    data = dict(zip(FILES, (pem, keys.private_pem(key), pem), strict=True))
    text = json.dumps({"data": {name: base64.b64encode(value).decode() for name, value in data.items()}})
    code, said = refused(login(tmp_path / "staging", platform, text=text))
    assert (code, "ended at" in said) == (2, True)


@pytest.mark.parametrize(("name", "api"), [("../ana", API), ("ana", "http://localhost:8443")])
def test_a_name_or_url_that_is_none_is_refused(tmp_path: Path, platform: Home, name: str, api: str) -> None:
    assert refused(login(tmp_path / "staging", platform, name, api=api))[0] == 2


def test_a_login_is_written_where_nobody_answers_yet_and_says_so(tmp_path: Path, platform: Home) -> None:
    result = login(tmp_path / "staging", platform, api="https://127.0.0.1:1")
    assert (result.exit_code, "https://127.0.0.1:1 did not answer" in result.stderr) == (0, True)
    assert Home.at(tmp_path / "staging").endpoints["api"] == "https://127.0.0.1:1"


@pytest.mark.parametrize("command", [["init"], ["up", "--port-base", "0"]], ids=" ".join)
def test_a_login_runs_no_platform_and_stays_as_it_is(tmp_path: Path, platform: Home, command: list[str]) -> None:
    home = tmp_path / "staging"
    assert login(home, platform).exit_code == 0
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    code, said = refused(CliRunner().invoke(app, command, env={"AI_INFRA_HOME": str(home)}))
    assert (code, "name another home with AI_INFRA_HOME" in said) == (2, True)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_who_is_not_logged_in_is_told_how_to_name_who_is(tmp_path: Path, platform: Home) -> None:
    assert login(tmp_path / "staging", platform).exit_code == 0
    code, said = refused(CliRunner().invoke(app, ["status"], env={"AI_INFRA_HOME": str(tmp_path / "staging")}))
    assert (code, "there are ana; name one with --as or AI_INFRA_AS" in said) == (3, True)
    (tmp_path / "staging" / "run" / "endpoints.json").unlink()
    code, said = refused(CliRunner().invoke(app, ["status"], env={"AI_INFRA_HOME": str(tmp_path / "staging")}))
    assert (code, "`ai-infra login` writes it" in said) == (3, True)
