"""The demo's flow, checked from outside: by its files with other people's tools, and through the API of its home."""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.client import Client
from services.core.errors import Refused
from services.core.trust import Trust
from services.demo.material import make_repository
from services.demo.story import verification
from services.demo.witness import witnessed
from services.home import POLICIES, Home, create
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


def test_the_command_that_the_demo_ends_with_verifies_what_it_left(told: tuple[Path, dict[str, Any]]) -> None:
    done = subprocess.run(["sh", "-c", verification(told[0] / "demo")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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


def command(home: Home, *words: str, code: int = 0) -> Any:
    """What `ai-infra … --json` answers, with this exit code: on stdout or, an error, on stderr."""
    whole = [sys.executable, "-m", "services.cli", *words, "--json"]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=os.environ | {"AI_INFRA_HOME": str(home.root)})
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout or done.stderr)


def test_the_command_line_shows_the_same(running: Home) -> None:
    assert command(running, "model", "list")[0]["stage"] == "prod"
    assert command(running, "model", "show", "digits@99", code=3)["error"] == "NotFound"


def test_status_tells_how_many_predictors_of_a_deployment_are_ready(running: Home) -> None:
    def serving() -> list[dict[str, Any]]:
        return [found for found in command(running, "status")["deployments"] if found["state"] == "serving"]

    deadline = time.monotonic() + 120
    while (found := serving())[0]["predictors"]["ready"] == 0 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [item["predictors"]["ready"] for item in found] == [item["replicas"] for item in found] == [1]


def test_the_command_line_tells_what_a_stage_held_at_an_index_and_at_a_time_with_proofs(running: Home, tmp_path: Path) -> None:
    with Client.connect(running, "aude") as auditor:
        promoted = [entry for entry in auditor.events(type="promotion.completed") if entry["event"]["payload"]["to"] == "prod"]
    index, ts = promoted[0]["index"], promoted[0]["event"]["ts"]
    show = ("registry", "show", "digits@prod")
    assert command(running, *show, "--as-of", str(index - 1), "--proof", str(tmp_path / "proofs"))["version"] is None
    assert not (tmp_path / "proofs").exists()
    found = command(running, *show, "--as-of", str(index), "--proof", str(tmp_path / "proofs"))
    assert (found["version"]["model"], found["version"]["number"], found["entries"]) == ("digits", 1, index + 1)
    moment = datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="milliseconds")
    assert command(running, *show, "--as-of", moment)["version"] == found["version"]
    # Without the platform, from the log's own folder: the same answer.
    log = ("--log", str(running.root / "log"), "--trust", str(running.root / "trust.json"))
    assert command(running, *show, "--as-of", str(index), *log)["version"] == found["version"]
    assert command(running, *show, "--as-of", "9999999", code=3)["error"] == "NotFound"
    assert command(running, *show, "--as-of", "2999-01-01T00:00:00Z", code=2)["error"] == "BadInput"
    names = {path.name for path in (tmp_path / "proofs").iterdir()}
    assert names == {f"{item['index']}.{kind}" for item in found["restsOn"] for kind in ("tlog-proof", "json")}


def test_the_command_line_checks_a_proof_offline_and_refuses_that_of_another_entry(running: Home, tmp_path: Path) -> None:
    command(running, "audit", "prove", "7", "-o", str(tmp_path / "7.tlog-proof"))
    for index in (7, 8):
        (tmp_path / f"{index}.json").write_text(json.dumps(command(running, "audit", "show", str(index))))
    check = ("audit", "check-proof", str(tmp_path / "7.tlog-proof"))
    trust = ("--trust", str(running.root / "trust.json"))
    found = command(running, *check, str(tmp_path / "7.json"), *trust)
    assert (found["index"], list(found["witnesses"])) == (7, [witness.name for witness in running.trust.witnesses])
    assert command(running, *check, str(tmp_path / "8.json"), *trust, code=1)["error"] == "BadProof"
    assert command(running, *check, str(tmp_path / "none.json"), *trust, code=2)["error"] == "BadInput"


def test_the_command_line_decides_the_past_again(running: Home) -> None:
    """The policies of the repository do not block the demo's data set, as the active ones do."""
    simulate = ("policy", "simulate", "--bundle", str(POLICIES))
    found = command(running, *simulate, code=5)
    changes = [(item["was"], item["now"], rule["rule"]) for item in found["decisions"] for rule in item["changes"]]
    assert ("deny", "pass", "dataset.blocked") in changes
    assert found["counts"]["changed"] == len(found["decisions"])
    none = {"unchanged": 0, "changed": 0, "failed": 0}
    assert command(running, *simulate, "--since", "2999-01-01T00:00:00Z")["counts"] == none
    replayed = command(running, "policy", "replay", "--all")
    assert replayed == {"counts": none | {"unchanged": sum(found["counts"].values())}, "decisions": []}
    assert command(running, "policy", "replay", "dec-none", code=3)["error"] == "NotFound"
    assert command(running, "policy", "replay", code=2)["error"] == "BadInput"


def test_the_command_line_reconciles_and_verifies_the_log(running: Home) -> None:
    found = command(running, "audit", "reconcile")
    assert (found["problems"], found["rows"] > 50, found["events"] > 100) == ([], True, True)
    assert command(running, "audit", "verify", "--against", str(running.root / "log" / "checkpoint"))["notCheckable"] == []
    assert command(running, "audit", "reconcile", "--as", "nobody", code=3)["error"] == "NotFound"


def test_the_command_line_writes_evidence_that_verifies_until_it_is_changed(running: Home, tmp_path: Path) -> None:
    archive, trust = tmp_path / "evidence.zip", ("--trust", str(running.root / "trust.json"))
    written = command(running, "evidence", "digits@1", "--env", "prod", "-o", str(archive))
    assert written == {"file": str(archive), "size": archive.stat().st_size}
    assert command(running, "verify", str(archive), *trust)["verified"]
    archives.edited(archive, tmp_path / "edited.zip", lambda members: members.update({"log/checkpoint": b"none\n"}))
    assert command(running, "verify", str(tmp_path / "edited.zip"), *trust, code=1)["brokenLink"] == "log checkpoint"
    assert command(running, "evidence", "digits@99", "-o", str(tmp_path / "none.zip"), code=3)["error"] == "NotFound"
    assert command(running, "evidence", "prd-none", "--env", "prod", code=2)["error"] == "BadInput"


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
