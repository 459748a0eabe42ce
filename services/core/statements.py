"""The in-toto Statement v1 predicates that the platform signs, as strict values. Signing and verifying are in `dsse`.

Sources: in-toto Attestation Framework v1 (Statement, test-result v0.1), SLSA v1.0 (provenance, verification summary).
Times are integer seconds since the Unix epoch, except where a foreign format wants RFC 3339.
"""

import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from services.core.canonical import canonical, parse
from services.core.digests import require_digest, sha256
from services.core.errors import BadInput

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
NAMESPACE = "https://ai-infra.dev"



def _digest(text: str) -> str:
    try:
        return require_digest(text)
    except BadInput as error:
        raise ValueError(str(error)) from error  # pydantic adds the field's name


Digest = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": "^sha256:[0-9a-f]{64}$"})]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
SignerId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Spiffe = Annotated[str, Field(pattern=r"^spiffe://[a-z0-9._/-]{1,240}$")]
Epoch = Annotated[int, Field(ge=0, le=253_402_300_799)]
"""Seconds since 1970, up to the end of the year 9999: RFC 3339 writes no later time."""
Text = Annotated[str, Field(max_length=2000)]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
Stage = Literal["dev", "staging", "prod"]
RiskClass = Literal["low", "high"]


class Strict(BaseModel):
    """Unknown fields, NaN and wrong types are refused; JSON names are in camel case."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the names that the format uses."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises BadInput, naming the field."""
        try:
            return cls.model_validate_json(canonical(value))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{cls.__name__}: {where}: {first['msg']}") from error


class Predicate(Strict):
    """A predicate that knows its type and its subjects."""

    TYPE: ClassVar[str]

    def subjects(self) -> dict[str, str]:
        """Name to digest (`sha256:…`) of what the statement is about."""
        raise AssertionError("every predicate names its subjects")

    def to_statement(self) -> bytes:
        """Canonical bytes of the statement: what is signed, and hashed as the attestation's identity."""
        subject = [{"name": name, "digest": _bare(digest)} for name, digest in sorted(self.subjects().items())]
        return canonical(
            {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": self.TYPE, "predicate": self.predicate_json()}
        )

    def predicate_json(self) -> dict[str, Any]:
        return self.to_json()

    @classmethod
    def from_predicate(cls, value: Any, subjects: dict[str, str]) -> Self:
        return cls.from_json(value)


class PromotionRequest(Predicate):
    """A person asks to move a version to a stage. Approvals are further signatures over these same bytes."""

    TYPE = f"{NAMESPACE}/promotion-request/v1"
    model: Name
    number: Annotated[int, Field(ge=1)]
    artifact_id: Digest
    run_key: Digest
    evaluation: Digest | None
    from_stage: Annotated[Stage, Field(alias="from")]
    to_stage: Annotated[Stage, Field(alias="to")]
    risk_class: RiskClass
    policy_revision: Digest
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    issued_at: Epoch
    expires_at: Epoch
    requester: SignerId

    def subjects(self) -> dict[str, str]:
        return {f"{self.model}@{self.number}": self.artifact_id}


class Manifest(Predicate):
    """Binds what was decided on for one environment. Digests of attestations are of their payloads."""

    TYPE = f"{NAMESPACE}/manifest/v1"
    model: Name
    number: Annotated[int, Field(ge=1)]
    environment: Stage
    artifact_id: Digest
    oms_subject: Digest
    request: Digest
    decision: Digest
    evaluation: Digest
    provenance: Digest
    watermark: Literal["not claimed"] = "not claimed"

    def subjects(self) -> dict[str, str]:
        return {f"{self.model}@{self.number}": self.artifact_id}


class PolicyBundle(Predicate):
    """A bundle of policies, signed by a person with the role security. version: increases with each publication."""

    TYPE = f"{NAMESPACE}/policy-bundle/v1"
    revision: Digest
    version: Annotated[int, Field(ge=1)]
    issued_at: Epoch

    def subjects(self) -> dict[str, str]:
        return {"policies": self.revision}


class Clearance(Predicate):
    """A person with the role security lifts one flag."""

    TYPE = f"{NAMESPACE}/clearance/v1"
    flag: Annotated[str, Field(max_length=100)]
    kind: Literal["model", "dataset", "artifact"]
    target: Annotated[str, Field(max_length=200)]
    reason: Reason
    issued_at: Epoch

    def subjects(self) -> dict[str, str]:
        return {self.flag: sha256(self.flag.encode())}


class DatasetApproval(Predicate):
    """A steward approves the use of a data set that holds personal data; bound to its digest."""

    TYPE = f"{NAMESPACE}/dataset-approval/v1"
    dataset: Digest
    reason: Reason
    issued_at: Epoch

    def subjects(self) -> dict[str, str]:
        return {"dataset": self.dataset}


class CodeRef(Strict):
    """Source of a run. commit: git object id; tree: digest of the stored source archive; dirty: differs from the commit."""

    repository: Annotated[str, Field(max_length=500)]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    tree: Digest
    dirty: bool


class RunInputs(Strict):
    """The seven inputs that decide a run's output. `runKey` is the digest of their canonical bytes."""

    code_ref: CodeRef
    image: Digest
    dependency_lock: Digest
    datasets: list[Digest]
    hyperparameters: dict[str, Any]
    seed: int
    environment: dict[str, str]


class Provenance(Predicate):
    """SLSA provenance v1 of a run. started_on, finished_on: epoch seconds, RFC 3339 in the statement."""

    TYPE = "https://slsa.dev/provenance/v1"
    BUILD_TYPE: ClassVar[str] = f"{NAMESPACE}/train/v1"
    artifact_id: Digest
    run_id: Annotated[str, Field(max_length=100)]
    run_key: Digest
    job: dict[str, Any]
    inputs: RunInputs
    builder: Spiffe
    started_on: Epoch
    finished_on: Epoch

    def subjects(self) -> dict[str, str]:
        return {"artifact": self.artifact_id}

    def predicate_json(self) -> dict[str, Any]:
        inputs = self.inputs.to_json()
        datasets = [{"name": "dataset", "digest": _bare(digest)} for digest in self.inputs.datasets]
        code = self.inputs.code_ref
        dependencies = [
            {"uri": f"git+{code.repository}", "digest": {"gitCommit": code.commit} | _bare(code.tree), "name": "source"},
            {"name": "image", "digest": _bare(self.inputs.image)},
            {"name": "dependencyLock", "digest": _bare(self.inputs.dependency_lock)},
            *datasets,
        ]
        return {
            "buildDefinition": {
                "buildType": self.BUILD_TYPE,
                "externalParameters": {"job": self.job, "inputs": inputs},
                "internalParameters": {"runKey": self.run_key},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": self.builder},
                "metadata": {
                    "invocationId": self.run_id,
                    "startedOn": rfc3339(self.started_on),
                    "finishedOn": rfc3339(self.finished_on),
                },
            },
        }

    @classmethod
    def from_predicate(cls, value: Any, subjects: dict[str, str]) -> Self:
        try:
            definition, details = value["buildDefinition"], value["runDetails"]
            found = cls.from_json(
                {
                    "artifactId": subjects.get("artifact"),
                    "runId": details["metadata"]["invocationId"],
                    "runKey": definition["internalParameters"]["runKey"],
                    "job": definition["externalParameters"]["job"],
                    "inputs": definition["externalParameters"]["inputs"],
                    "builder": details["builder"]["id"],
                    "startedOn": from_rfc3339(details["metadata"]["startedOn"]),
                    "finishedOn": from_rfc3339(details["metadata"]["finishedOn"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise BadInput(f"provenance: missing {error}") from error
        return _exact(found, value)


class Evaluation(Predicate):
    """in-toto test-result v0.1; what was measured is in our extension field `evaluation`.

    metrics: {"accuracy": 0…1, "perClass": {label: {"precision", "recall", "count"}}}; samples: rows of the split.
    """

    TYPE = "https://in-toto.io/attestation/test-result/v0.1"
    artifact_id: Digest
    dataset: Digest
    split: Annotated[str, Field(max_length=50)]
    samples: Annotated[int, Field(ge=1)]
    metrics: dict[str, Any]
    issued_at: Epoch
    passed: list[str]
    failed: list[str]

    def subjects(self) -> dict[str, str]:
        return {"artifact": self.artifact_id}

    def predicate_json(self) -> dict[str, Any]:
        measured = {"split": self.split, "samples": self.samples, "metrics": self.metrics, "issuedAt": self.issued_at}
        return {
            "result": "FAILED" if self.failed else "PASSED",
            "configuration": [{"name": "dataset", "digest": _bare(self.dataset)}],
            "passedTests": self.passed,
            "failedTests": self.failed,
            "evaluation": measured,
        }

    @classmethod
    def from_predicate(cls, value: Any, subjects: dict[str, str]) -> Self:
        try:
            measured = value["evaluation"]
            found = cls.from_json(
                {
                    "artifactId": subjects.get("artifact"),
                    "dataset": "sha256:" + value["configuration"][0]["digest"]["sha256"],
                    "split": measured["split"],
                    "samples": measured["samples"],
                    "metrics": measured["metrics"],
                    "issuedAt": measured["issuedAt"],
                    "passed": value["passedTests"],
                    "failed": value["failedTests"],
                }
            )
        except (KeyError, TypeError, IndexError) as error:
            raise BadInput(f"test result: missing {error}") from error
        return _exact(found, value)


class Vsa(Predicate):
    """SLSA verification summary v1: SentinelNet's decision on a promotion.

    input_digest: digest of the decision's input; attestations: payload digests that were looked at.
    """

    TYPE = "https://slsa.dev/verification_summary/v1"
    model: Name
    number: Annotated[int, Field(ge=1)]
    artifact_id: Digest
    environment: Stage
    verifier: Spiffe
    time_verified: Epoch
    policy_revision: Digest
    decision_id: Annotated[str, Field(max_length=100)]
    verdict: Literal["pass", "remediate", "quarantine", "deny"]
    input_digest: Digest
    attestations: list[Digest]

    def subjects(self) -> dict[str, str]:
        return {f"{self.model}@{self.number}": self.artifact_id}

    def predicate_json(self) -> dict[str, Any]:
        return {
            "verifier": {"id": self.verifier},
            "timeVerified": rfc3339(self.time_verified),
            "resourceUri": f"ai-infra:{self.model}@{self.number}?environment={self.environment}",
            "policy": {"uri": f"{NAMESPACE}/policies", "digest": _bare(self.policy_revision)},
            "inputAttestations": [{"digest": _bare(digest)} for digest in self.attestations],
            "verificationResult": "PASSED" if self.verdict == "pass" else "FAILED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_1"] if self.verdict == "pass" else [],
            "slsaVersion": "1.0",
            "decision": {"id": self.decision_id, "verdict": self.verdict, "inputDigest": self.input_digest},
        }

    @classmethod
    def from_predicate(cls, value: Any, subjects: dict[str, str]) -> Self:
        try:
            resource, environment = value["resourceUri"].removeprefix("ai-infra:").split("?environment=")
            model, number = resource.rsplit("@", 1)
            found = cls.from_json(
                {
                    "model": model,
                    "number": int(number),
                    "artifactId": subjects.get(resource),
                    "environment": environment,
                    "verifier": value["verifier"]["id"],
                    "timeVerified": from_rfc3339(value["timeVerified"]),
                    "policyRevision": "sha256:" + value["policy"]["digest"]["sha256"],
                    "decisionId": value["decision"]["id"],
                    "verdict": value["decision"]["verdict"],
                    "inputDigest": value["decision"]["inputDigest"],
                    "attestations": ["sha256:" + item["digest"]["sha256"] for item in value["inputAttestations"]],
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"verification summary: {error}") from error
        return _exact(found, value)


T = TypeVar("T", bound=Predicate)

PREDICATES: dict[str, type[Predicate]] = {
    kind.TYPE: kind
    for kind in (PromotionRequest, Manifest, PolicyBundle, Clearance, DatasetApproval, Provenance, Evaluation, Vsa)
}


def parse_statement(payload: bytes) -> Predicate:
    """The predicate of a statement that is exactly what its own values make: no other subject, no unknown field.

    Raises:
        BadInput: anything else, naming what is wrong.
    """
    value = parse(payload)
    if not isinstance(value, dict) or set(value) != {"_type", "subject", "predicateType", "predicate"}:
        raise BadInput("a statement has exactly the fields _type, subject, predicateType and predicate")
    kind = PREDICATES.get(value["predicateType"]) if isinstance(value["predicateType"], str) else None
    if kind is None:
        raise BadInput(f"predicate type {value['predicateType']!r} is none of {sorted(PREDICATES)}")
    found = kind.from_predicate(value["predicate"], _subjects(value["subject"]))
    if found.to_statement() != canonical(value):
        raise BadInput(f"{kind.__name__}: subject or type differs from what the predicate says")
    return found


def expect(kind: type[T], payload: bytes) -> T:
    """As parse_statement, for one kind of predicate."""
    found = parse_statement(payload)
    if not isinstance(found, kind):
        raise BadInput(f"want a {kind.__name__}, got a {type(found).__name__}")
    return found


def rfc3339(seconds: int) -> str:
    """`2026-01-31T12:00:00Z` for epoch seconds."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: Any) -> int:
    """Epoch seconds of a time as `rfc3339` writes it. Raises BadInput."""
    try:
        parsed = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError) as error:
        raise BadInput(f"{str(text)[:40]!r} is no time like 2026-01-31T12:00:00Z") from error
    return int(parsed.replace(tzinfo=datetime.UTC).timestamp())


def _exact(found: T, value: Any) -> T:
    """Foreign formats allow unknown fields; ours are refused, so that the bytes hold nothing that no check saw."""
    if canonical(found.predicate_json()) != canonical(value):
        raise BadInput(f"{type(found).__name__}: a field that the format of ours does not have, or with another value")
    return found


def _subjects(value: Any) -> dict[str, str]:
    try:
        return {item["name"]: "sha256:" + item["digest"]["sha256"] for item in value}
    except (KeyError, TypeError) as error:
        raise BadInput("a subject has a name and a sha256 digest") from error


def _bare(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
