"""The demo's story: each chapter does one step of the main job through the client, and checks it from outside."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from services.client import Client
from services.commands.training import follow as show_progress
from services.core import asof, dsse
from services.core.bundle import DATA, Bundle, load_bundle
from services.core.canonical import canonical, parse
from services.core.errors import AiInfraError, BadSetting, Refused, Unavailable
from services.core.keys import public_pem
from services.core.storedzip import Writer
from services.core.trust import Trust
from services.demo.material import job_on, make_repository, variant
from services.demo.stage import Stage
from services.demo.traffic import Traffic
from services.demo.witness import WitnessProcess, folder, witnessed
from services.home import POLICIES, Home, create
from services.supervisor import Platform, free_ports
from services.verify.chain import chain
from services.verify.service import verify

MODEL, DATASET = "digits", "optical-digits@1.0"
JOBS = {
    "v1": "job.yaml",
    "weak": "job-weak.yaml",
    "better": "job-v2.yaml",
    "wrong": "job-wrong-labels.yaml",
    "slow": "job-slow.yaml",
}
"""In the order in which the story needs them: one after the other is trained while it goes on."""
PATIENCE = {"AI_INFRA_PREDICT_TIMEOUT_S": "10"}
"""A machine that trains while it serves can be slow; a canary is judged by its latency, not by a time-out."""
APPROVERS = ("ana", "ben", "chen")
ROLLOUT: dict[str, Any] = {
    "steps": [10, 50, 100],
    "golden": {"dataset": DATASET, "split": "test"},
    "minRequestsPerStep": 100,
    "calibrationRequests": 500,
    "calibrationS": 8.0,
}


@dataclass
class Story:
    """runs: by the names of JOBS; versions: `name@number` by the same names; prediction: an answer that is verified later."""

    stage: Stage
    home: Home
    platform: Platform
    witness: WitnessProcess
    repository: Path
    runs: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    prediction: dict[str, Any] = field(default_factory=dict)

    def as_(self, person: str, second_key: bool = False) -> Client:
        return Client.connect(self.home, person, second_key=second_key)


def run(folder: Path, json_file: Path | None) -> bool:
    """Tells the story; whether everything was shown. What an earlier demo left in the folder is replaced.

    Raises:
        BadSetting: the folder holds something that no demo made.
    """
    stage = Stage()
    home = Home.at(folder)
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise BadSetting(f"{json_file}: there is no such folder")
    _clear(home)
    try:
        create(home)
        (home.root / "demo").mkdir()
        platform = Platform(home, free_ports(), environ=PATIENCE, tell=stage.tell)
        with witnessed(home) as witness:
            try:
                _tell(Story(stage, home, platform, witness, make_repository(home.root / "demo" / "repository")))
            finally:
                platform.stop()
    except AiInfraError as error:
        stage.console.print(f"[bold red]not shown:[/bold red] {escape(str(error))}", highlight=False)
        for rule in getattr(error, "rules", []):
            stage.console.print(f"  {escape(rule['rule'])}: {escape('; '.join(rule['reasons']))}", highlight=False)
        stage.console.print(f"logs: {home.root / 'logs'}", highlight=False)
        if json_file is not None:
            json_file.write_text(
                json.dumps({"ok": False, "error": str(error), "shown": stage.shown, "times": stage.times}, indent=2)
            )
        return False
    stage.finish(json_file, home.root)
    demo = folder / "demo"
    stage.tell(f"left in {demo}: evidence.zip, trust.json, witness.checkpoint, prediction/, model/; verify it again:")
    stage.tell(verification(demo))
    return True


def verification(demo: Path) -> str:
    """The shell's command that verifies what a demo left, offline."""
    tool = shlex.quote(str(Path(sys.executable).with_name("ai-infra")))
    own = '--input prediction/request.json --salt "$(cat prediction/salt)" --output prediction/answer.json'
    return f"(cd {shlex.quote(str(demo))} && {tool} verify evidence.zip --trust trust.json --against witness.checkpoint {own})"


def _tell(story: Story) -> None:
    for chapter in (
        _platform, _datasets, _training, _registration, _refusals, _promotion, _serving, _canaries, _quarantine, _policies,
        _faults, _audit, _verification, _rerun,
    ):  # fmt: skip
        chapter(story)


def _platform(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Home and platform"):
        with stage.wait("starting API, router and signing proxy"):
            story.platform.start()
        names = ", ".join(f"{name} {url}" for name, url in story.platform.urls.items())
        stage.claim("three processes, mutual TLS", all(p.poll() is None for p in story.platform.processes.values()), names)
        stage.claim(
            "a witness of the log runs beside them, with its own key and state",
            len(story.home.trust.witnesses) == story.home.trust.witness_threshold == 1,
            f"{story.witness.url}, {folder(story.home).name}",
        )
        keys = [path for path in story.home.root.rglob("signing*.pem") if path.is_file()]
        stage.claim("no person's signing key lies in the home", not keys, f"they are in {story.home.people.name}")


def _datasets(story: Story) -> None:
    stage, described = story.stage, story.repository / "dataset.yaml"
    with stage.chapter("Data sets"), story.as_("stella") as steward, story.as_("tara") as trainer:
        found = steward.register_dataset(described)
        stage.claim(
            "the data set is registered by its digest", steward.dataset(DATASET)["id"] == found["id"], found["id"][:23] + "…"
        )
        again = steward.register_dataset(described)
        stage.claim("registering it again changes nothing", again["id"] == found["id"])
        target, parents = story.home.root / "demo", [found["id"]]
        personal = steward.register_dataset(
            variant(described, target / "personal.yaml", name="digits-writers", pii="present", parents=parents)
        )
        steward.register_dataset(
            variant(described, target / "noncommercial.yaml", name="digits-noncommercial", licence="CC-BY-NC-4.0", parents=parents)
        )
        job = story.repository / "job.yaml"
        on_personal = job_on(job, target / "job-personal.yaml", "digits-writers@1.0")
        on_noncommercial = job_on(job, target / "job-noncommercial.yaml", "digits-noncommercial@1.0")
        stage.refused("training on personal data", "dataset.pii", lambda: trainer.train(on_personal, story.repository))
        stage.refused(
            "commercial use of a non-commercial licence",
            "dataset.licence",
            lambda: trainer.train(on_noncommercial, story.repository),
        )
        approved = steward.approve_dataset("digits-writers@1.0", "the writers consented")
        stage.claim("a steward's approval is bound to the digest", approved["approvedBy"] != [], personal["id"][:23] + "…")
        held = {key: approved["manifest"][key] for key in ("licence", "pii")} | {
            "id": approved["id"],
            "approvedBy": approved["approvedBy"],
        }
        facts = {"now": int(time.time()), "job": {"purpose": "commercial"}, "datasets": [held], "flags": []}
        with story.as_("aude") as auditor:
            verdict = auditor.check_policy("train", facts)
            checks = [e["event"] for e in auditor.events(type="policyCheck") if e["event"]["payload"]["action"] == "train"]
        stage.claim("with the approval, the same training would pass", verdict["verdict"] == "pass")
        stage.claim(
            "both refusals are policyCheck events in the log", len([e for e in checks if e["payload"]["verdict"] == "deny"]) == 2
        )


def _training(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Training"), story.as_("tara") as trainer:
        for name, job in JOBS.items():
            story.runs[name] = trainer.train(story.repository / job, story.repository)["id"]
        stage.tell(f"{len(story.runs)} jobs are queued on Ray Train, 2 CPU workers each; the first one:")
        done = follow(trainer, story.runs["v1"])
        inputs = done["inputs"]
        stage.claim(
            "all seven inputs are recorded", len(inputs) == 7 and done["runKey"].startswith("sha256:"), ", ".join(sorted(inputs))
        )
        commit, at = inputs["codeRef"]["commit"][:12], story.repository.relative_to(story.home.root.parent)
        stage.claim("the source is a commit, and clean", not inputs["codeRef"]["dirty"], f"{commit} of the repository {at}")
        stage.claim("the artifact is named by its bytes", done["artifactId"].startswith("sha256:"), done["artifactId"][:23] + "…")


def follow(trainer: Client, run_id: str) -> dict[str, Any]:
    """The run's record when it is over, with a progress bar meanwhile. Raises Refused if it failed."""
    found = show_progress(trainer, run_id)
    if found["state"] != "completed":
        raise Refused(f"run {run_id} {found['state']}: {found['error']}")
    return found


def _registration(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Register and evaluate"), story.as_("tara") as trainer, story.as_("eva") as evaluator:
        version = trainer.register_model(MODEL, story.runs["v1"], "high")
        story.versions["v1"] = f"{MODEL}@{version['number']}"
        stage.claim(
            "a version knows its artifact, run, data and signer",
            bool(version["signerId"] and version["signature"]),
            story.versions["v1"],
        )
        with story.as_("petra") as promoter:
            asked = promoter.request_promotion(story.versions["v1"], "staging")
            _approve(story, asked["id"])
            stage.refused("promotion without an evaluation", "promotion.evaluation-present", lambda: promoter.promote(asked["id"]))
        measured = evaluator.evaluate(story.versions["v1"], DATASET)["evaluations"][-1]
        stage.claim(
            "the held-out split is measured and signed", measured["passed"], f"accuracy {measured['metrics']['accuracy']:.4f}"
        )
        nodes = trainer.lineage(story.versions["v1"], up=True)["nodes"]
        stage.claim("lineage leads from the version to its data", any(n["kind"] == "dataset" for n in nodes), f"{len(nodes)} nodes")


def _refusals(story: Story) -> None:
    stage = story.stage
    with (
        stage.chapter("What is refused"),
        story.as_("tara") as trainer,
        story.as_("eva") as evaluator,
        story.as_("petra") as promoter,
    ):
        unsigned = trainer.register_model(MODEL, story.runs["v1"], "high", sign=False)
        asked = promoter.request_promotion(f"{MODEL}@{unsigned['number']}", "staging")
        _approve(story, asked["id"])
        stage.refused("an unsigned artifact", "promotion.signature", lambda: promoter.promote(asked["id"]))

        asked = promoter.request_promotion(story.versions["v1"], "staging")
        other = promoter.request_promotion(story.versions["v1"], "staging")
        for name in ("ana", "ben"):
            with story.as_(name) as approver:
                approver.approve(asked["id"])
        stage.refused("two approvals of three", "promotion.quorum", lambda: promoter.promote(asked["id"]))
        with story.as_("ana", second_key=True) as approver:
            approver.approve(asked["id"])
        stage.refused("one person twice, with two keys", "promotion.quorum", lambda: promoter.promote(asked["id"]))
        with story.as_("chen") as approver:
            bytes_of_other = dsse.from_json(approver.promotion(other["id"])["requestEnvelope"]).payload
            stage.refused(
                "an approval of another request", "promotion.quorum", lambda: approver.send_approval(asked["id"], bytes_of_other)
            )
            approver.approve(asked["id"])
        weights = next(f for f in promoter.artifact(unsigned["artifactId"])["files"] if f["path"].endswith(".safetensors"))
        with _tampered(story.home, weights["sha256"]):
            stage.refused(
                "an artifact that was tampered with in the store",
                "promotion.artifact-digest",
                lambda: promoter.promote(asked["id"]),
            )
        story.versions["request"] = asked["id"]
        follow(trainer, story.runs["weak"])
        weak = trainer.register_model(MODEL, story.runs["weak"], "high")
        reference = f"{MODEL}@{weak['number']}"
        measured = evaluator.evaluate(reference, DATASET)["evaluations"][-1]
        asked = promoter.request_promotion(reference, "staging")
        _approve(story, asked["id"])
        stage.refused(
            f"a model with accuracy {measured['metrics']['accuracy']:.2f}",
            "promotion.evaluation-thresholds",
            lambda: promoter.promote(asked["id"]),
        )


@contextmanager
def _tampered(home: Home, digest: str) -> Iterator[None]:
    """One bit of a stored object is flipped, and put back afterwards."""
    digits = digest.removeprefix("sha256:")
    path = home.root / "objects" / digits[:2] / digits[2:]
    right = path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        yield
    finally:
        path.write_bytes(right)
        path.chmod(0o444)


def _approve(story: Story, promotion: str, people: tuple[str, ...] = APPROVERS) -> None:
    for name in people:
        with story.as_(name) as approver:
            approver.approve(promotion)


def promote(story: Story, reference: str, *stages: str) -> dict[str, Any]:
    """Takes a version through stages, with three approvals each."""
    found: dict[str, Any] = {}
    with story.as_("petra") as promoter:
        for to in stages:
            asked = promoter.request_promotion(reference, to)
            _approve(story, asked["id"])
            found = promoter.promote(asked["id"])
    return found


def _promotion(story: Story) -> None:
    stage, reference = story.stage, story.versions["v1"]
    with stage.chapter("Promotion"), story.as_("petra") as promoter, story.as_("aude") as auditor:
        done = promoter.promote(story.versions["request"])
        stage.claim(
            "three distinct approvers, and it is in staging", promoter.model(reference)["stage"] == "staging", done["decisionId"]
        )
        replayed = auditor.replay(done["decisionId"])
        stage.claim("the decision, computed again, is the same", replayed["same"])
        asked = promoter.request_promotion(reference, "prod")
        _approve(story, asked["id"])
        story.witness.stop()
        refused = _unavailable(lambda: promoter.promote(asked["id"]))
        stage.claim("while the witness is away, it waits (retryable)", "witness" in refused, refused)
        story.witness.start()
        with stage.wait("the witness is back; the log asks it again"):
            waited = _until(lambda: _unavailable(lambda: promoter.promote(asked["id"])) == "", 30)
        stage.claim("and, by the same way, in production", waited and promoter.model(reference)["stage"] == "prod")
        target = story.home.root / "demo" / "model"
        auditor.export(reference, target)
        key = story.home.root / "demo" / "signing-key.pub.pem"
        manifest_key = next(iter(story.home.trust.signer_with_role("manifest").values()))
        key.write_text(public_pem(manifest_key))
        command = ["verify", "key", str(target), "--signature", str(target / "model.sig"), "--public_key", str(key)]
        stock = subprocess.run([sys.executable, "-m", "model_signing", *command], capture_output=True, text=True, check=False)
        said = (stock.stdout + stock.stderr).strip().splitlines()
        stage.claim("the stock `model_signing verify` accepts model.sig", stock.returncode == 0, said[-1] if said else "")


def _unavailable(act: Callable[[], Any]) -> str:
    """What a retryable error says; empty if there is none."""
    try:
        act()
    except Unavailable as error:
        return str(error)
    return ""


def _serving(story: Story) -> None:
    stage, reference = story.stage, story.versions["v1"]
    with stage.chapter("Serving"), story.as_("dario") as deployer, story.as_("tara") as user:
        stage.refused(
            "serving a version that was not promoted",
            "serving.manifest",
            lambda: deployer.deploy(f"{MODEL}@2", "prod"),
        )
        deployment = deployer.deploy(reference, "prod")["id"]
        with stage.wait("the predictor verifies and loads"):
            ready = _until(lambda: deployer.deployment(deployment)["predictors"]["ready"] > 0, 60)
        stage.claim("a KServe predictor verified the bytes and loaded them", ready, reference)
        rows, labels = _rows(story)
        answers = [user.predict(MODEL, "prod", [row]) for row in rows[:20]]
        story.prediction = user.predict(MODEL, "prod", [rows[0]], keep=story.home.root / "demo" / "prediction")
        right = sum(str(a["outputs"]["label"][0]) == label for a, label in zip(answers, labels, strict=False))
        stage.claim("predictions name the version and themselves", answers[0]["version"] == reference, answers[0]["id"])
        stage.claim("and they are right", right >= 16, f"{right} of 20 digits")


def _rows(story: Story) -> tuple[list[list[float]], list[str]]:
    """Images and labels of the held-out split."""
    import csv

    with (story.repository / "data" / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [[float(v) for k, v in row.items() if k != "label"] for row in rows], [row["label"] for row in rows]


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def _canaries(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Canaries"), story.as_("tara") as trainer, story.as_("eva") as evaluator, story.as_("dario") as deployer:
        for name in ("better", "wrong", "slow"):
            follow(trainer, story.runs[name])
            version = trainer.register_model(MODEL, story.runs[name], "high", parents=[story.versions["v1"]])
            story.versions[name] = f"{MODEL}@{version['number']}"
            evaluator.evaluate(story.versions[name], DATASET)
            promote(story, story.versions[name], "staging", "prod")
        stage.tell("three more versions pass every rule; two of them must not reach the users:")
        rows, _ = _rows(story)
        url = f"{story.platform.urls['router']}/env/prod/v2/models/{MODEL}/infer"
        with Traffic(url, story.home.person("tara"), rows) as traffic:
            for name, fate, text in (
                ("wrong", "rolled_back", "wrong answers are rolled back without a hand"),
                ("slow", "rolled_back", "a slow version is rolled back without a hand"),
                ("better", "completed", "a good version reaches 100 %"),
            ):
                ended = _rollout(stage, deployer, story.versions[name])
                stage.claim(text, ended["state"] == fate, ended["reason"])
                explained = deployer.explain_rollout(ended["id"])
                stage.claim("its verdict recomputes from the event's counts and rule", bool(explained["agrees"]))
        failed = sum(count for (_, status), count in traffic.answered.items() if status != 200)
        total = sum(traffic.answered.values())
        kinds = ", ".join(
            f"{count} x HTTP {status} by {by or 'nobody'}" for (by, status), count in sorted(traffic.answered.items())
        )
        stage.claim("users saw no failed request", failed == 0, f"{total} requests: {kinds}")


def _rollout(stage: Stage, deployer: Client, reference: str) -> dict[str, Any]:
    found = deployer.start_rollout(reference, "prod", **ROLLOUT)
    deadline = time.monotonic() + 90
    with stage.console.status(f"  {reference}: starting") as status:
        while found["state"] not in ("completed", "rolled_back", "aborted") and time.monotonic() < deadline:
            status.update(f"  {reference}: {found['state']} at {found['weight']:.0%}")
            time.sleep(0.2)
            found = deployer.rollout(found["id"])
    return found


def _quarantine(story: Story) -> None:
    stage = story.stage
    row = _rows(story)[0][0]
    with stage.chapter("Quarantine"), story.as_("sam") as security, story.as_("tara") as user:
        flag = security.flag("dataset", DATASET, "a writer withdrew consent")
        begun = time.monotonic()
        stopped = _until(lambda: _answers(user, row) is False, 10)
        took = time.monotonic() - begun
        stage.claim("a flag on the data set stops the model's traffic", stopped and took <= 5, f"after {took:.1f} s")
        security.lift(flag["id"], "consent was renewed")
        with stage.wait("predictors verify and load again"):
            back = _until(lambda: _answers(user, row) is True, 60)
        stage.claim("a signed clearance lifts it", back)


def _answers(user: Client, row: list[float]) -> bool | None:
    """Whether the model answers; False under quarantine, None while it is away."""
    try:
        user.predict(MODEL, "prod", [row])
        return True
    except Refused:
        return False
    except Unavailable:
        return None


def _policies(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Policies"), story.as_("sam") as security, story.as_("tara") as trainer:
        now = load_bundle(POLICIES)
        blocked = trainer.dataset(DATASET)["id"]
        data = parse(canonical(dict(now.data)))
        data["limits"]["blocked_datasets"] = [blocked]
        blocking = Bundle(dict(now.files) | {DATA: canonical(data)})
        changed = [item for page in security.simulate(blocking) for item in page["decisions"] if item["outcome"] == "changed"]
        actions = sorted({item["action"] for item in changed})
        stage.claim("simulated first: the past decisions that it would change", actions == ["promote", "train"],
                    f"{len(changed)} of them")  # fmt: skip
        published = security.publish_policies(blocking)
        stage.claim(
            "a new bundle, signed by security, is active",
            security.policies()["revision"] == published["revision"],
            f"version {published['version']}",
        )
        stage.claim("what is served was decided on again, and still passes", published["quarantined"] == [])
        stage.refused(
            "training on a data set that it blocks",
            "dataset.blocked",
            lambda: trainer.train(story.repository / "job.yaml", story.repository),
        )
        security.publish_policies(now)


def _faults(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Faults"), story.as_("aude") as auditor:
        story.platform.kill("signing-proxy")
        try:
            with story.as_("eva") as evaluator:
                evaluator.evaluate(story.versions["better"], DATASET)
            retryable = False
        except Unavailable:
            retryable = True
        stage.claim("without the signing proxy, signing is refused (retryable)", retryable)
        with stage.wait("the supervisor starts it again"):
            story.platform.mend()
        with story.as_("eva") as evaluator:
            stage.claim("started again, the same call succeeds", bool(evaluator.evaluate(story.versions["better"], DATASET)))
        story.platform.kill("api")
        with stage.wait("the API was killed; starting it again"):
            story.platform.mend()
        found = auditor.reconcile()
        stage.claim(
            "after SIGKILL, state and log agree",
            not found["problems"],
            "; ".join([f"{found['rows']} rows, {found['events']} events", *found["problems"][:3]]),
        )


def _audit(story: Story) -> None:
    stage, demo = story.stage, story.home.root / "demo"
    with stage.chapter("Audit"), story.as_("aude") as auditor:
        kept = next(folder(story.home).glob("*.checkpoint")).read_bytes()
        (demo / "witness.checkpoint").write_bytes(kept)
        found = auditor.audit_verify(kept.decode())
        stage.claim("the log verifies: chain, sequence, tiles, checkpoint", found["ok"], f"{found['size']} entries")
        stage.claim("it is neither cut nor forked: it continues what the witness kept", not found["notCheckable"])
        entry = next(e for e in auditor.events(type="promotion.completed"))
        proof = auditor.proof(entry["index"])
        (demo / "promotion.tlog-proof").write_text(proof)
        stage.claim("a promotion has a .tlog-proof", proof.startswith("c2sp.org/tlog-proof@v1"), f"entry {entry['index']}")
        trust, to_prod = (
            story.home.trust,
            [e for e in auditor.events(type="promotion.completed") if e["event"]["payload"]["to"] == "prod"],
        )
        first = to_prod[0]["index"]
        held = [asof.as_of(auditor, trust, MODEL, "prod", asof.Until(index=index))["version"] for index in (first - 1, first)]
        stage.claim(
            "what production held is replayed for any point of the log, with proofs",
            held[0] is None and f"{MODEL}@{held[1]['number']}" == story.versions["v1"],
            f"nothing up to entry {first - 1}, {story.versions['v1']} from entry {first}",
        )


def _verification(story: Story) -> None:
    stage, demo = story.stage, story.home.root / "demo"
    with stage.chapter("Offline verification"), story.as_("aude") as auditor:
        auditor.evidence(story.prediction["id"], demo / "evidence.zip")
        shutil.copy(story.home.root / "trust.json", demo / "trust.json")
        told = _verified(story, "--against", "witness.checkpoint")
        for link in told["links"]:
            stage.tell(f"{link['status']:<13} {link['link']}: {link['detail']}")
        checked = sum(link["status"] == "ok" for link in told["links"])
        every = checked == 2 + len(chain(predicted=True, own=True))
        stage.claim(
            "from one prediction, a stranger in an empty folder verifies every link",
            told["verified"] and every,
            told.get("error", f"{checked} links from {story.prediction['id']}"),
        )
        broken = _broken_weights(demo / "evidence.zip", story.home.trust)
        stage.claim("one changed byte is found and named", broken == "weights", f"broken link: {broken}")


def _verified(story: Story, *options: str) -> dict[str, Any]:
    """What `ai-infra verify --json` says in a folder that holds nothing but what a stranger was given."""
    demo = story.home.root / "demo"
    with tempfile.TemporaryDirectory() as empty:
        for given in ("evidence.zip", "trust.json", "witness.checkpoint", "prediction/request.json", "prediction/answer.json"):
            shutil.copy(demo / given, empty)
        own = ["--input", "request.json", "--salt", story.prediction["salt"], "--output", "answer.json"]
        command = [sys.executable, "-m", "services.cli", "verify", "evidence.zip", "--trust", "trust.json", "--json"]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run([*command, *own, *options], cwd=empty, env=environ, capture_output=True, text=True, check=False)
    if done.stdout:
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    return {"verified": False, "links": [], "error": done.stderr.strip()}


def _broken_weights(evidence: Path, trust: Trust) -> str | None:
    """The link that breaks when one byte of the weights in the archive is another one."""
    import zipfile

    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "evidence.zip"
        with zipfile.ZipFile(evidence) as source, changed.open("wb") as file:
            target = Writer(file)
            for name in source.namelist():
                data = source.read(name)
                target.add(name, data[:-1] + bytes([data[-1] ^ 1]) if name.endswith(".safetensors") else data)
            target.close()
        broken = verify(changed, trust).broken
    return None if broken is None else broken.name


def _rerun(story: Story) -> None:
    stage = story.stage
    with stage.chapter("Rerun"), story.as_("tara") as trainer:
        (story.repository / "train.py").write_text("raise SystemExit('the working tree is not used')\n")
        first = trainer.run(story.runs["v1"])
        again = follow(trainer, trainer.rerun(first["id"])["id"])
        stage.claim(
            "from the record alone: the same artifact", again["artifactId"] == first["artifactId"], again["artifactId"][:23] + "…"
        )


def _clear(home: Home) -> None:
    """Removes what an earlier demo left. Raises BadSetting for a folder that no demo made, and for a demo that still runs."""
    ours = (home.root / "demo").is_dir() or (home.root / ".making").exists()
    if (home.root / "run").is_dir():
        running = Platform(home)
        running.hold()
        running.stop()
    # The home last: it says that all are a demo's.
    for path in (folder(home), home.people, home.root):
        if path.exists() and any(path.iterdir()):
            if not ours:
                raise BadSetting(f"{path} holds something that no demo made: choose another folder with --home")
            shutil.rmtree(path)
