"""Jobs, recorded inputs and what is derived from them. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from services.core.canonical import canonical
from services.core.digests import require_safe_path
from services.core.errors import BadJson
from services.core.statements import CodeRef, Digest, Name, RunInputs, Strict
from services.training.errors import BadJob

RUNNING, COMPLETED, FAILED, CANCELLED = "running", "completed", "failed", "cancelled"
MAX_JOB_BYTES = 64 << 10
MAX_PARAMETER_BYTES = 16 << 10
MAX_OUTPUTS = 1000
NO_COMMIT = "0" * 40
"""codeRef.commit of a tree that is in no repository; such a tree counts as dirty."""

_MODULE = r"[A-Za-z_][A-Za-z0-9_]*"
ENTRYPOINT = rf"^{_MODULE}(\.{_MODULE})*:{_MODULE}$"
REFERENCE = r"^[a-z0-9][a-z0-9._-]{0,99}@[A-Za-z0-9][A-Za-z0-9._-]{0,49}$"

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

SafePath = Annotated[str, AfterValidator(require_safe_path)]


class Compute(Strict):
    """What a run gets in a cluster, and whom it waits behind; a machine by itself has no use for it, and refuses GPUs.

    queue: a Kueue LocalQueue; priority: a WorkloadPriorityClass; cpu, memory: of one worker, Kubernetes quantities; gpus: of one
    worker; spot: workers may be on nodes that are taken away, and go on from the last checkpoint on others.
    """

    queue: Annotated[str, Field(pattern=LABEL)]
    priority: Annotated[str, Field(pattern=LABEL)]
    cpu: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}m?$")]
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[MGT]i$")]
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    spot: bool = False


class Job(Strict):
    """What a person asks for. entrypoint: `module:function`, beside the job file; outputs: the files of the artifact; compute: as
    the environment has it unless it is given."""

    name: Name
    entrypoint: Annotated[str, Field(pattern=ENTRYPOINT, max_length=200)]
    purpose: Literal["commercial", "research"]
    workers: Annotated[int, Field(ge=1, le=64)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    datasets: Annotated[list[Annotated[str, Field(pattern=REFERENCE)]], Field(min_length=1, max_length=100)]
    outputs: Annotated[list[SafePath], Field(min_length=1, max_length=MAX_OUTPUTS)]
    hyperparameters: dict[str, Any]
    compute: Compute | None = None

    def to_json(self) -> dict[str, Any]:
        """As it was given: what was left out is not there."""
        found = super().to_json()
        return found if found["compute"] is not None else {key: value for key, value in found.items() if key != "compute"}


class StartRun(Strict):
    """A job with its source. directory: of the job file inside the archive, "" for its root; commit_object: the raw git commit in
    base64, which proves that the archive is the tree of `code.commit`; empty for a dirty tree."""

    job: Job
    code: CodeRef
    directory: Annotated[str, Field(max_length=500)] = ""
    commit_object: Annotated[str, Field(max_length=1 << 20)] = ""


def require_job(value: Any) -> Job:
    """The job that a JSON value describes.

    Raises:
        BadInput: a missing, unknown or malformed field, named.
    """
    job = Job.from_json(value)
    if len(canonical(job.hyperparameters)) > MAX_PARAMETER_BYTES:
        raise BadJob(f"hyperparameters: over {MAX_PARAMETER_BYTES} bytes; put data into a data set")
    for field, items in (("datasets", job.datasets), ("outputs", job.outputs)):
        if len(set(items)) != len(items):
            raise BadJob(f"{field}: an entry stands twice")
    if "model.sig" in job.outputs:
        raise BadJob("outputs: model.sig is written by the platform when it signs")
    return job


def load_yaml(text: bytes) -> Any:
    """The value of a YAML file of ours: plain values only, no duplicate keys.

    Raises:
        BadJob: otherwise, with the line.
    """
    if len(text) > MAX_JOB_BYTES:
        raise BadJob(f"the file is over {MAX_JOB_BYTES} bytes")
    try:
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a stricter SafeLoader
        canonical(value)
    except (yaml.YAMLError, BadJson) as error:
        raise BadJob(f"not the YAML that a description may be: {error}") from error
    return value


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys and aliases: a few lines of aliases can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if any(not isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "keys are strings, each once", node.start_mark)
        return super().construct_mapping(node, deep)


def inputs_of(
    job: Job, code: CodeRef, *, directory: str, image: Digest, lock: Digest, datasets: list[Digest], settings: Mapping[str, str]
) -> RunInputs:
    """The seven recorded inputs. What the job says beside data, hyperparameters and seed goes into `environment`."""
    asked = {
        "directory": directory,
        "entrypoint": job.entrypoint,
        "outputs": ",".join(sorted(job.outputs)),
        "workers": str(job.workers),
    }
    if job.compute is not None:
        asked["gpus"] = str(job.compute.gpus)
    return RunInputs(
        code_ref=code,
        image=image,
        dependency_lock=lock,
        datasets=sorted(datasets),
        hyperparameters=job.hyperparameters,
        seed=job.seed,
        environment=dict(settings) | asked,
    )


def first_difference(recorded: Any, now: Any, name: str = "") -> str | None:
    """Where two JSON values differ first, in the order of the first one's keys: `environment.python was "3.11", is "3.12"`."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in [*recorded, *(key for key in now if key not in recorded)]:
            found = first_difference(recorded.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    if recorded == now and type(recorded) is type(now):
        return None
    return f"{name} was {_shown(recorded)}, is {_shown(now)}"


def metrics_of(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one epoch's report.

    Raises:
        BadJob: a value is no finite number.
    """
    return dict(_numbers(event))


def _numbers(event: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in event.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
            raise BadJob(f"metric {name} of epoch {event.get('epoch')} is {value}: no finite number")
        yield name, value


def tail_of(text: str, limit: int = 1500) -> str:
    """The end of an error text, without colour codes: the reason stands last. What no database takes becomes `?`."""
    text = text.replace("\0", "?").encode(errors="replace").decode()
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\S\n]+$", "", text).strip()
    return plain if len(plain) <= limit else "…" + plain[-limit:]


def _shown(value: Any) -> str:
    return "absent" if value is None else canonical(value).decode()[:200]
