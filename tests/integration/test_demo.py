"""The demo's flow, checked from outside: by its files with other people's tools, and through the API of its home."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Client
from services.core.errors import Refused
from services.core.trust import Trust
from services.demo.material import make_repository
from services.demo.witness import witnessed
from services.home import Home, create
from services.supervisor import Platform, free_ports
from services.verify.service import verify
from tests import archives
from tests.peers import need

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the whole demo

CLAIMS = {
    "refused: training on personal data": "dataset.pii",
    "refused: commercial use of a non-commercial licence": "dataset.licence",
    "refused: promotion without an evaluation": "promotion.evaluation-present",
    "refused: an unsigned artifact": "promotion.signature",
    "refused: two approvals of three": "promotion.quorum",
    "refused: one person twice, with two keys": "promotion.quorum",
    "refused: an approval of another request": "promotion.quorum",
    "refused: an artifact that was tampered with in the store": "promotion.artifact-digest",
    "refused: training on a data set that it blocks": "dataset.blocked",
}


@pytest.fixture(scope="module")
def told(demo: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The home that a demo left, and what it says that it showed."""
    return demo


@pytest.fixture(scope="module")
def running(told: tuple[Path, dict[str, Any]]) -> Iterator[Home]:
    """The demo's home, served again."""
    home = Home.at(told[0])
    with witnessed(home), Platform(home, free_ports()):
        yield home


def test_every_refusal_names_its_rule(told: tuple[Path, dict[str, Any]]) -> None:
    shown = {item["claim"]: item["detail"] for item in told[1]["shown"]}
    assert {claim: shown[claim].split(":")[0] for claim in CLAIMS} == CLAIMS


def test_canaries_end_as_told(told: tuple[Path, dict[str, Any]]) -> None:
    claims = [item["claim"] for item in told[1]["shown"] if item["step"] == "Canaries"]
    assert claims[0] == "wrong answers are rolled back without a hand"
    assert claims[2] == "a slow version is rolled back without a hand"
    assert claims[4] == "a good version reaches 100 %"


def test_stock_model_signing_accepts_the_exported_model_and_refuses_an_edited_one(
    told: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    demo = told[0] / "demo"
    key, model = demo / "signing-key.pub.pem", demo / "model"
    options = ["--signature", str(model / "model.sig"), "--public_key", str(key)]
    command = [sys.executable, "-m", "model_signing", "verify", "key", *options]
    assert subprocess.run([*command, str(model)], capture_output=True, check=False).returncode == 0
    edited = tmp_path / "model"
    subprocess.run(["cp", "-r", str(model), str(edited)], check=True)
    (edited / "config.json").write_bytes((edited / "config.json").read_bytes() + b" ")
    assert subprocess.run([*command, str(edited)], capture_output=True, check=False).returncode != 0


def test_openssl_accepts_the_manifest_signature(told: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from services.core import dsse

    demo = told[0] / "demo"
    with zipfile.ZipFile(demo / "evidence.zip") as archive:
        envelope = dsse.parse(archive.read("manifest.dsse.json"))
    (tmp_path / "message").write_bytes(dsse.pae(envelope.payload_type, envelope.payload))
    (tmp_path / "signature").write_bytes(envelope.signatures[0].sig)
    options = ["-verify", str(demo / "signing-key.pub.pem"), "-signature", str(tmp_path / "signature")]
    command = ["openssl", "dgst", "-sha256", *options, str(tmp_path / "message")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Verified OK"


def test_tessera_fsck_accepts_the_log(told: tuple[Path, dict[str, Any]]) -> None:
    home = told[0]
    origin = (home / "log" / "checkpoint").read_text().splitlines()[0]
    where = [f"--storage_url=file://{home / 'log'}/", f"--public_key={home / 'log.vkey'}", f"--origin={origin}"]
    command = [need("fsck"), *where, "--N=8", "--ui=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Successfully fsck'd" in done.stdout + done.stderr, done.stdout + done.stderr


def test_evidence_verifies_offline_and_names_the_link_that_an_edit_breaks(
    told: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    demo = told[0] / "demo"
    trust = Trust.parse((demo / "trust.json").read_bytes())
    assert verify(demo / "evidence.zip", trust).broken is None
    members = archives.read(demo / "evidence.zip")
    relicensed = {n: d.replace(b"CC-BY-4.0", b"CC-BY-3.0") if n.startswith("datasets/") else d for n, d in members.items()}
    broken = verify(archives.write(tmp_path / "evidence.zip", relicensed), trust).broken
    assert broken is not None
    assert broken.name == "decision facts"


def test_no_private_key_or_token_is_in_logs_log_or_evidence(told: tuple[Path, dict[str, Any]]) -> None:
    home = told[0]
    with zipfile.ZipFile(home / "demo" / "evidence.zip") as archive:
        members = [archive.read(name) for name in archive.namelist()]
    files = [path.read_bytes() for folder in ("logs", "log", "objects") for path in (home / folder).rglob("*") if path.is_file()]
    assert not [data[:80] for data in members + files if re.search(rb"-----BEGIN (EC |RSA )?PRIVATE KEY", data)]


def test_served_again_the_home_holds_what_was_told(running: Home) -> None:
    with Client.connect(running, "aude") as auditor:
        stages = {f"{v['model']}@{v['number']}": v["stage"] for v in auditor.models()}
        assert stages["digits@1"] == "prod"
        assert sorted(stages.values()) == ["dev", "dev", "prod", "prod", "prod", "prod"]
        serving = [d for d in auditor.deployments() if d["state"] == "serving"]
        completed = [r for r in auditor.rollouts() if r["state"] == "completed"]
        assert [d["id"] for d in serving] == [r["canary"] for r in completed]
        assert auditor.reconcile()["problems"] == []
        assert auditor.audit_verify()["ok"]


def test_events_name_people_by_their_certificates(running: Home) -> None:
    with Client.connect(running, "aude") as auditor:
        actors = {
            kind: {e["event"]["actor"].rsplit("/", 1)[-1] for e in auditor.events(type=kind)}
            for kind in ("dataset.registered", "train.started", "evaluation.recorded", "promotion.requested", "promotion.approved")
        }
    assert actors == {
        "dataset.registered": {"stella"},
        "train.started": {"tara"},
        "evaluation.recorded": {"eva"},
        "promotion.requested": {"petra"},
        "promotion.approved": {"ana", "ben", "chen"},
    }


def test_every_decision_replays_to_the_same_verdict(running: Home) -> None:
    with Client.connect(running, "aude") as auditor:
        decisions = auditor.decisions(limit=200)
        assert len(decisions) > 20
        assert [d["id"] for d in decisions if not auditor.replay(d["id"])["same"]] == []


def test_a_person_without_the_role_is_refused_and_nothing_changes(running: Home) -> None:
    with Client.connect(running, "tara") as trainer:
        before = trainer.models()
        with pytest.raises(Refused) as refused:
            trainer.request_promotion("digits@2", "staging")
        assert [rule["rule"] for rule in refused.value.rules] == ["authz.operation"]
        assert trainer.models() == before


def test_the_command_line_shows_the_same(running: Home) -> None:
    environ = os.environ | {"AI_INFRA_HOME": str(running.root)}
    command = [sys.executable, "-m", "services.cli", "model", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert json.loads(done.stdout)[0]["stage"] == "prod"
    absent = [*command[:3], "model", "show", "digits@99", "--json"]
    missing = subprocess.run(absent, capture_output=True, text=True, check=False, env=environ)
    assert missing.returncode == 3
    assert json.loads(missing.stderr)["error"] == "NotFound"


def test_a_fresh_home_trains_the_same_artifact(told: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    artifact = next(item["detail"] for item in told[1]["shown"] if item["claim"] == "the artifact is named by its bytes")
    home = Home.at(tmp_path / "home")
    create(home)
    repository = make_repository(tmp_path / "repository")
    with Platform(home, free_ports()):
        with Client.connect(home, "stella") as steward:
            steward.register_dataset(repository / "dataset.yaml")
        with Client.connect(home, "tara") as trainer:
            run = trainer.train(repository / "job.yaml", repository)["id"]
            *_, last = trainer.follow(run)
    assert last["artifactId"][:23] + "…" == artifact
