"""The Python client: one method for each step, over HTTP with the caller's certificate. A person's key is used here only.

Every method raises the errors of services.core.errors that the platform answers with; Unavailable means: the same call again.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import yaml
from pydantic import ValidationError

from services.core import dsse
from services.core.archive import WEIGHTS_UP_TO
from services.core.bundle import Bundle, to_tar
from services.core.calls import call, error_of
from services.core.calls import client as http_client
from services.core.clock import system_clock
from services.core.digests import FileEntry, require_files, require_safe_path, scan_tree, sha256_file, tree_digest
from services.core.errors import BadInput, NotFound, TooLarge, Unavailable
from services.core.keys import PrivateKey
from services.core.statements import Clearance, DatasetApproval, PolicyBundle, Predicate, PromotionRequest
from services.core.tls import Identity
from services.home import Home
from services.training.domain import load_yaml
from services.training.source import pack

REQUEST_VALID_S = 3600
MAX_AWAY_S = 60.0
DATASET_FIELDS = {"name", "version", "licence", "source", "pii", "parents", "directory", "schema", "files", "splits"}


class Client:
    """api, router: base URLs; key: the person's signing key, for what a person signs; traceparent: the trace that calls of the API
    belong to (W3C Trace Context), empty for none."""

    def __init__(self, api: str, router: str, identity: Identity, key: PrivateKey | None = None, traceparent: str = "") -> None:
        self._http = http_client(api, identity, timeout_s=120.0)
        if traceparent:
            self._http.headers["traceparent"] = traceparent
        self._router = http_client(router, identity, timeout_s=10.0)
        self._key = key

    @classmethod
    def connect(cls, home: Home, person: str, *, second_key: bool = False, traceparent: str = "") -> Self:
        """As one of the home's people, to the platform that runs there."""
        endpoints, identity = home.endpoints, home.person(person)
        return cls(endpoints["api"], endpoints["router"], identity, home.signing_key(person, second_key), traceparent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        self._router.close()

    # -- data sets and artifacts

    def register_dataset(self, description: Path) -> dict[str, Any]:
        """Uploads the files that a data set description (YAML) names, then registers the snapshot."""
        registration, folder = read_dataset(description)
        self._upload([(folder / item["path"], item["sha256"]) for item in registration["manifest"]["files"]])
        return self._post("/v1/datasets", registration)

    def datasets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/datasets")
        return found

    def dataset(self, reference: str) -> dict[str, Any]:
        return self._object(f"/v1/datasets/{_segment(reference)}")

    def approve_dataset(self, reference: str, reason: str) -> dict[str, Any]:
        """A steward's signed approval, bound to the data set's digest."""
        dataset = self.dataset(reference)["id"]
        with _checked():
            approval = DatasetApproval(dataset=dataset, reason=reason, issued_at=_now())
        return self._post("/v1/datasets/approvals", self.signed(approval))

    def upload_artifact(self, directory: Path, meta: Mapping[str, str]) -> dict[str, Any]:
        """Uploads a file tree; visible only when all of it is there."""
        if next(directory.rglob("*"), None) is None:
            raise BadInput(f"{directory}: no such folder, or nothing in it")
        files = scan_tree(directory)
        self._upload([(directory / entry.path, entry.sha256) for entry in files])
        body = {"id": tree_digest(files), "files": [entry.to_json() for entry in files], "meta": dict(meta)}
        return self._post("/v1/artifacts", body)

    def artifact(self, artifact_id: str) -> dict[str, Any]:
        return self._object(f"/v1/artifacts/{_segment(artifact_id)}")

    def download(self, digest: str) -> bytes:
        """An object's bytes; whoever uses them hashes them."""
        return self._bytes(f"/v1/objects/{digest}")

    # -- training

    def train(self, job: Path, source_folder: Path | None = None) -> dict[str, Any]:
        """Uploads the source that the job file (YAML) lies in, or another folder's, and starts the run."""
        described, source = _job(job), pack(source_folder or job.parent)
        order = {
            "job": described,
            "code": source.code.to_json(),
            "directory": source.directory,
            "commitObject": dsse.encode64(source.commit_object),
        }
        call(self._http, "PUT", f"/v1/objects/{source.code.tree}", content=source.archive)
        return self._post("/v1/runs", order)

    def run(self, run: str) -> dict[str, Any]:
        """The record of a run with its progress, epoch by epoch."""
        return self._object(f"/v1/runs/{_segment(run)}")

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/runs")
        return found

    def follow(self, run: str, interval_s: float = 0.3) -> Iterator[dict[str, Any]]:
        """The run's record, again and again until it is over; a platform that is away for a moment is waited for."""
        away = 0
        while True:
            try:
                found, away = self.run(run), 0
            except Unavailable:
                away += 1
                if away * interval_s > MAX_AWAY_S:
                    raise
                time.sleep(interval_s)
                continue
            yield found
            if found["state"] != "running":
                return
            time.sleep(interval_s)

    def rerun(self, run: str) -> dict[str, Any]:
        """Trains again from the record alone, or names the first input that differs."""
        return self._post(f"/v1/runs/{_segment(run)}/rerun", None)

    def retry(self, run: str) -> dict[str, Any]:
        """Goes on with a failed or cancelled run from its last checkpoint."""
        return self._post(f"/v1/runs/{_segment(run)}/retry", None)

    def cancel(self, run: str) -> dict[str, Any]:
        return self._post(f"/v1/runs/{_segment(run)}/cancel", None)

    # -- models

    def register_model(self, model: str, run: str, risk: str, parents: Sequence[str] = (), sign: bool = True) -> dict[str, Any]:
        body = {"run": run, "riskClass": risk, "parents": list(parents), "sign": sign}
        return self._post(f"/v1/models/{_segment(model)}/versions", body)

    def models(self, model: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/models", params={"model": model} if model else {})
        return found

    def model(self, reference: str) -> dict[str, Any]:
        return self._object(_version(reference))

    def evaluate(self, reference: str, dataset: str, split: str = "test", minimum: float = 0.9) -> dict[str, Any]:
        body = {"dataset": dataset, "split": split, "minimumAccuracy": minimum}
        return self._post(f"{_version(reference)}/evaluations", body)

    def lineage(self, reference: str, *, up: bool) -> dict[str, Any]:
        """Nodes and edges that the version was made from (up) or that were made from it."""
        return self._object(f"{_version(reference)}/lineage", params={"direction": "up" if up else "down"})

    def lineage_dot(self, reference: str, *, up: bool) -> str:
        params = {"direction": "up" if up else "down", "form": "dot"}
        return self._bytes(f"{_version(reference)}/lineage", params=params).decode()

    def export(self, reference: str, target: Path, environment: str | None = None) -> list[FileEntry]:
        """Writes a promoted version's files and its model.sig (OMS) into a new folder; every file is hashed on its way."""
        version = self.model(reference)
        found = [item for item in version["manifests"] if environment in (None, item["environment"])]
        if not found:
            raise BadInput(f"{reference} has no manifest for {environment or 'any environment'}: promote it first")
        if target.exists() and any(target.iterdir()):
            raise BadInput(f"{target} is not empty: choose a new folder")
        files = require_files(self.artifact(version["artifactId"])["files"])
        for entry in files:
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.download(entry.sha256))
        if scan_tree(target) != files:
            raise BadInput(f"the files that came do not make {version['artifactId']}: the store was tampered with")
        (target / "model.sig").write_bytes(self.download(found[-1]["bundle"]))
        return files

    def evidence(
        self, reference: str, target: Path, environment: str | None = None, *,
        weights_up_to: int = WEIGHTS_UP_TO, wait_s: float = 10.0,
    ) -> Path:
        """Writes the evidence archive of a version's latest promotion (name@number), or of one prediction (its id).

        Args:
            weights_up_to: bytes; a larger model is not put into the archive.
            wait_s: how long to wait for a prediction's batch to be sealed.
        """
        params: dict[str, Any] = {"weightsUpTo": weights_up_to} | ({"environment": environment} if environment else {})
        if "@" in reference:
            return self._save(f"{_version(reference)}/evidence", params, target)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self._save(f"/v1/predictions/{_segment(reference)}/evidence", params, target)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.3)

    # -- promotion

    def request_promotion(self, reference: str, to: str, evaluation: str | None = None) -> dict[str, Any]:
        """Signs and sends a request to promote a version; its latest evaluation is named unless another is."""
        version = self.model(reference)
        evaluations = version["evaluations"]
        latest = evaluations[-1]["payload"] if evaluations else None
        revision, requester = self.policies()["revision"], dsse.sign(b"", self._own_key()).keyid
        with _checked():
            request = PromotionRequest(
                model=version["model"],
                number=version["number"],
                artifact_id=version["artifactId"],
                run_key=version["runKey"],
                evaluation=evaluation or latest,
                from_stage=version["stage"],
                to_stage=to,  # type: ignore[arg-type]  # checked when it is made
                risk_class=version["riskClass"],
                policy_revision=revision,
                nonce=secrets.token_hex(16),
                issued_at=_now(),
                expires_at=_now() + REQUEST_VALID_S,
                requester=requester,
            )
        return self._post("/v1/promotions", self.signed(request))

    def approve(self, promotion: str) -> dict[str, Any]:
        """Adds the caller's signature over the request's own bytes."""
        envelope = dsse.from_json(self.promotion(promotion)["requestEnvelope"])
        return self.send_approval(promotion, envelope.payload)

    def send_approval(self, promotion: str, payload: bytes) -> dict[str, Any]:
        """As approve, over bytes that the caller chose."""
        body = dsse.envelope(dsse.PAYLOAD_TYPE, payload, [dsse.sign(payload, self._own_key())])
        return self._post(f"/v1/promotions/{_segment(promotion)}/approvals", body)

    def promote(self, promotion: str) -> dict[str, Any]:
        """Decide, sign, promote. Safe to repeat."""
        return self._post(f"/v1/promotions/{_segment(promotion)}/execution", None)

    def promotion(self, promotion: str) -> dict[str, Any]:
        return self._object(f"/v1/promotions/{_segment(promotion)}")

    def promotions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/promotions")
        return found

    # -- quarantine

    def flag(self, kind: str, target: str, reason: str) -> dict[str, Any]:
        return self._post("/v1/flags", {"kind": kind, "target": target, "reason": reason})

    def flags(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/flags")
        return found

    def lift(self, flag_id: str, reason: str) -> dict[str, Any]:
        """Signs a clearance for the flag and sends it."""
        flag = next((item for item in self.flags() if item["id"] == flag_id), None)
        if flag is None:
            raise NotFound(f"{flag_id!r} is no active flag: `ai-infra quarantine list` shows those there are")
        with _checked():
            clearance = Clearance(flag=flag_id, kind=flag["kind"], target=flag["target"], reason=reason, issued_at=_now())
        return self._post(f"/v1/flags/{flag_id}/clearance", self.signed(clearance))

    # -- serving

    def deploy(self, reference: str, environment: str, replicas: int = 1) -> dict[str, Any]:
        """Serves a promoted version. The same version again answers its deployment."""
        model, number = _split(reference)
        body = {"model": model, "number": number, "environment": environment, "replicas": replicas}
        return self._post("/v1/deployments", body)

    def deployments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/deployments")
        return found

    def deployment(self, deployment: str) -> dict[str, Any]:
        """The record with the state of its predictors."""
        return self._object(f"/v1/deployments/{_segment(deployment)}")

    def undeploy(self, deployment: str) -> dict[str, Any]:
        found: dict[str, Any] = call(self._http, "DELETE", f"/v1/deployments/{_segment(deployment)}")
        return found

    def start_rollout(self, reference: str, environment: str, **spec: Any) -> dict[str, Any]:
        """Moves traffic step by step to another version. spec: see services.serving.domain.RolloutSpec, in camel case."""
        model, number = _split(reference)
        return self._post("/v1/rollouts", {"model": model, "number": number, "environment": environment} | spec)

    def rollout(self, rollout: str) -> dict[str, Any]:
        return self._object(f"/v1/rollouts/{_segment(rollout)}")

    def rollouts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/v1/rollouts")
        return found

    def abort_rollout(self, rollout: str, reason: str) -> dict[str, Any]:
        return self._post(f"/v1/rollouts/{_segment(rollout)}/abort", {"reason": reason})

    def complete_rollout(self, rollout: str, reason: str) -> dict[str, Any]:
        """Takes an undecided canary into all traffic."""
        return self._post(f"/v1/rollouts/{_segment(rollout)}/complete", {"reason": reason})

    def extend_rollout(self, rollout: str, requests: int, seconds: float, reason: str) -> dict[str, Any]:
        """Gives an undecided rollout more requests and time."""
        order = {"requests": requests, "seconds": seconds, "reason": reason}
        return self._post(f"/v1/rollouts/{_segment(rollout)}/extend", order)

    def explain_rollout(self, rollout: str) -> dict[str, Any]:
        """The verdict computed again from the recorded counts and rule."""
        return self._object(f"/v1/rollouts/{_segment(rollout)}/explain")

    def predict(
        self, model: str, environment: str, rows: Sequence[Sequence[float]], keep: Path | None = None
    ) -> dict[str, Any]:
        """Open Inference Protocol v2: the answer, with the prediction's id and the version that gave it.

        keep: a folder for `request.json` and `answer.json`, the bodies byte for byte, and the answer's `salt`: they show whose
        prediction it was (`ai-infra verify --input --salt --output`).
        """
        tensor = {"name": "images", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": [list(row) for row in rows]}
        path = f"/env/{_segment(environment)}/v2/models/{_segment(model)}/infer"
        try:
            response = self._router.post(path, json={"inputs": [tensor]})
        except httpx.TransportError as error:
            raise Unavailable(f"the router did not answer: {type(error).__name__}") from error
        if not response.is_success:
            raise error_of(response)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / "request.json").write_bytes(response.request.content)
            (keep / "answer.json").write_bytes(response.content)
            (keep / "salt").write_text(response.headers["x-prediction-salt"])
        found: dict[str, Any] = response.json()
        outputs = {item["name"]: item["data"] for item in found["outputs"]}
        return {
            "id": response.headers["x-request-id"],
            "version": response.headers["x-model-version"],
            "deployment": response.headers["x-deployment"],
            "salt": response.headers["x-prediction-salt"],
            "outputs": outputs,
        }

    def prediction(self, prediction: str) -> dict[str, Any]:
        """A prediction's record, with the batch it was sealed in."""
        found: dict[str, Any] = call(self._router, "GET", f"/v1/predictions/{_segment(prediction)}")
        return found

    # -- the audit log

    def events(self, **query: Any) -> list[dict[str, Any]]:
        """Entries of the log. query: tail, or after, limit, type, subjectKind, subjectId."""
        found: list[dict[str, Any]] = self._object("/v1/audit/events", params=query)["entries"]
        return found

    def event(self, index: int) -> dict[str, Any]:
        return self._object(f"/v1/audit/events/{index}")

    def proof(self, index: int) -> str:
        """A C2SP .tlog-proof file."""
        return self._bytes(f"/v1/audit/proof/{index}").decode()

    def read(self, path: str, limit: int) -> bytes:
        """A file of the published log (`checkpoint`, `tile/…`): the client is a core.logfile.LogReader."""
        data = self._bytes(f"/v1/audit/{path}")
        if len(data) > limit:
            raise TooLarge(f"{path} of the log is over {limit} bytes")
        return data

    def audit_verify(self, against: str | None = None) -> dict[str, Any]:
        """Everything that can be checked of the log; against: a signed checkpoint kept elsewhere."""
        return self._post("/v1/audit/verification", {"against": against})

    def reconcile(self) -> dict[str, Any]:
        """Whether state and log say the same, in both directions."""
        return self._post("/v1/audit/reconciliation", None)

    # -- policies

    def policies(self) -> dict[str, Any]:
        """The active bundle's record."""
        return self._object("/v1/policy/bundles")

    def publish_policies(self, bundle: Bundle) -> dict[str, Any]:
        """Signs a bundle as the next version and publishes it."""
        version = self.policies()["version"] + 1
        envelope = self.signed(PolicyBundle(revision=bundle.revision, version=version, issued_at=_now()))
        body = {"bundle": dsse.encode64(to_tar(bundle)), "envelope": dsse.encode64(dsse.from_json(envelope).to_bytes())}
        return self._post("/v1/policy/bundles", body)

    def check_policy(self, action: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        return self._post("/v1/policy/check", {"action": action, "input": dict(facts)})

    def decisions(self, limit: int = 50, subject: str | None = None) -> list[dict[str, Any]]:
        params: dict[str, Any] = {"limit": limit} | ({"subject": subject} if subject else {})
        found: list[dict[str, Any]] = self._get("/v1/policy/decisions", params=params)
        return found

    def explain(self, decision: str) -> dict[str, Any]:
        return self._object(f"/v1/policy/decisions/{_segment(decision)}")

    def replay(self, decision: str) -> dict[str, Any]:
        return self._object(f"/v1/policy/decisions/{_segment(decision)}/replay")

    def replay_all(self, since: int = 0) -> Iterator[dict[str, Any]]:
        """Pages of all decisions, decided again. since: epoch milliseconds."""
        return self._pages("/v1/policy/replays", {"since": since})

    def simulate(self, bundle: Bundle, since: int = 0) -> Iterator[dict[str, Any]]:
        """Pages of all decisions, decided by a bundle that need not be signed."""
        return self._pages("/v1/policy/simulations", {"since": since, "bundle": dsse.encode64(to_tar(bundle))})

    # -- what everything rests on

    def signed(self, predicate: Predicate) -> dict[str, Any]:
        """The DSSE envelope of a statement, signed by the person's own key."""
        payload = predicate.to_statement()
        return dsse.envelope(dsse.PAYLOAD_TYPE, payload, [dsse.sign(payload, self._own_key())])

    def _own_key(self) -> PrivateKey:
        if self._key is None:
            raise BadInput("this step is signed by a person: connect with that person's key")
        return self._key

    def _upload(self, files: Sequence[tuple[Path, str]]) -> None:
        for path, digest in files:
            with path.open("rb") as source:
                call(self._http, "PUT", f"/v1/objects/{digest}", content=_chunks(source))

    def _pages(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        after: str | None = ""
        while after is not None:
            found = self._post(path, {**body, "after": after})
            yield found
            after = found["after"]

    def _get(self, path: str, **options: Any) -> Any:
        return call(self._http, "GET", path, **options)

    def _object(self, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._get(path, **options)
        return found

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        """Every write carries an Idempotency-Key, so that a retry after a lost answer does nothing twice."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        found: dict[str, Any] = call(self._http, "POST", path, json=body, headers=headers)
        return found

    def _save(self, path: str, params: dict[str, Any], target: Path) -> Path:
        """An answer of any size, in a file that is there whole or not at all."""
        partial = target.with_name(target.name + ".partial")
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(target)
        except httpx.TransportError as error:
            raise Unavailable(f"the platform did not answer: {type(error).__name__}") from error
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _bytes(self, path: str, **options: Any) -> bytes:
        try:
            response = self._http.get(path, **options)
        except httpx.TransportError as error:
            raise Unavailable(f"the platform did not answer: {type(error).__name__}") from error
        if not response.is_success:
            raise error_of(response)
        return response.content


def read_dataset(description: Path) -> tuple[dict[str, Any], Path]:
    """The registration that a data set description (YAML) stands for, and the folder of its files.

    Raises:
        BadInput: not readable, an unknown or missing field, a file that is not there or not below the folder.
    """
    try:
        value = yaml.safe_load(_read(description))
    except yaml.YAMLError as error:
        raise BadInput(f"{description}: {error}") from error
    if not isinstance(value, dict) or set(value) != DATASET_FIELDS:
        raise BadInput(f"{description}: want exactly the fields {sorted(DATASET_FIELDS)}")
    if not isinstance(value["files"], list):
        raise BadInput(f"{description}: files is a list of paths")
    folder, paths = description.parent / str(value["directory"]), [require_safe_path(str(name)) for name in value["files"]]
    try:
        schema = json.loads((folder / str(value["schema"])).read_text(encoding="utf-8"))
        files = [FileEntry(path, (folder / path).stat().st_size, sha256_file(folder / path)).to_json() for path in paths]
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{description}: {error}; were the data set's files made?") from error
    manifest = {key: value[key] for key in ("licence", "source", "pii", "parents", "splits")} | {"files": files, "schema": schema}
    return {"name": value["name"], "version": str(value["version"]), "manifest": manifest}, folder


def _job(path: Path) -> Any:
    text = _read(path)
    try:
        return load_yaml(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _chunks(source: Any) -> Iterator[bytes]:
    while chunk := source.read(1 << 20):
        yield chunk


def _split(reference: str) -> tuple[str, int]:
    model, _, number = reference.rpartition("@")
    if not model or not number.isascii() or not number.isdigit() or len(number) > 9:
        raise BadInput(f"{reference!r}: want name@number")
    return model, int(number)


@contextmanager
def _checked() -> Iterator[None]:
    """What a person cannot sign, because a field is wrong, is bad input."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def _segment(name: str) -> str:
    """A name or id as one segment of a path: nothing in it may lead to another resource. Raises BadInput."""
    if name in ("", ".", ".."):
        raise BadInput(f"{name!r}: want a name or an id")
    return quote(name, safe="@:")


def _version(reference: str) -> str:
    model, number = _split(reference)
    return f"/v1/models/{_segment(model)}/versions/{number}"


def _now() -> int:
    return system_clock() // 1000
