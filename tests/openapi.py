"""Schemathesis over what the processes say of themselves: every operation, as several callers, with ids that exist.

    python -m tests.openapi HOME [--examples N]

A longer run than that of the suite: on a copy of a home (one that `ai-infra demo` left), which it serves meanwhile.
"""

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.client import Client
from services.core import dsse
from services.core.bundle import load_bundle, to_tar
from services.core.canonical import canonical
from services.core.clock import system_clock
from services.core.digests import sha256
from services.core.keys import generate_p256, public_pem, write_private_pem
from services.core.statements import DatasetApproval, PolicyBundle
from services.core.tls import DevelopmentCa, Identity, person_id, service_id
from services.core.trust import PERSON_ROLES, Trust
from services.demo.witness import witnessed
from services.home import POLICIES, Home
from services.supervisor import Platform, free_ports

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
ALMIGHTY = "omni"
"""A person with every role: whose calls reach all code behind the roles."""

CALLERS = (ALMIGHTY, "tara", "dario", "aude")
ORDER = ("get", "put", "post", "delete")
"""Reads first, while everything is there; what ends things last."""

TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
"""What the demo's models take."""

MAINLY = {"/v1/serving/records": "predictor", "/v1/audit/events": "api"}
"""Operations that one service alone may call."""

COSTLY = ("/v1/runs/{run_id}/rerun", "/v1/runs/{run_id}/retry", "/v1/models/{model}/versions/{number}/evaluations")
"""With ids that exist these start real work on the machine, so they are called with one such id only."""


@dataclass
class Findings:
    """statuses: operation → answers by status; problems: what no answer may be, with how to repeat it."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add(self, title: str, text: str) -> None:
        self.problems.setdefault(title, text)

    @property
    def answers(self) -> Counter[int]:
        return sum(self.statuses.values(), Counter())


@dataclass(frozen=True)
class Known:
    """values: parameter → what exists; bodies: path → bodies of requests that make sense on this home."""

    values: dict[str, list[str]]
    bodies: dict[str, list[dict[str, Any]]]


@contextmanager
def served_copy(home: Home, folder: Path) -> Iterator[Platform]:
    """The platform on a copy of a home, with one more person, who has every role, and a cluster's predictor."""
    copy = Home.at(folder / "home")
    shutil.copytree(home.root, copy.root, ignore=shutil.ignore_patterns("run", "logs"))
    shutil.copytree(home.people, copy.people)
    for name in ("run", "logs"):
        (copy.root / name).mkdir()
    _add_almighty(copy)
    DevelopmentCa(copy.root / "ca").issue(service_id("predictor"), copy.root / "services" / "predictor")
    with witnessed(copy), Platform(copy, free_ports()) as platform:
        # The rules of now: the home may have been made, or left, with others.
        with Client.connect(copy, "sam") as security:
            security.publish_policies(load_bundle(POLICIES))
        yield platform


def explore(platform: Platform, *, examples: int) -> Findings:
    """Calls every operation of API, signing proxy and router. examples: generated requests for each operation and kind of data."""
    found, home = Findings(), platform.home
    people = {name: home.person(name) for name in CALLERS}
    services = {name: home.service(name) for name in ("api", "router", "predictor")}
    known = _known(home)
    # The router first: calls to the API set flags and stop deployments.
    _walk(found, platform.urls["router"], {"api": services["api"], "tara": people["tara"]}, "api", known, examples)
    _walk(found, platform.urls["api"], {**people, **services}, ALMIGHTY, known, examples)
    _walk(found, platform.urls["signing-proxy"], {"api": services["api"], "tara": people["tara"]}, "api", known, examples)
    return found


def _walk(
    found: Findings, url: str, callers: Mapping[str, Identity], main: str, known: Known, examples: int
) -> None:
    sessions = {name: _session(identity) for name, identity in callers.items()}
    schema = schemathesis.openapi.from_dict(sessions[main].get(f"{url}/openapi.json", timeout=10).json())
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda item: ORDER.index(item.method.lower())):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try(found, operation, mode, url, sessions, main, known, examples)


def _try(
    found: Findings, operation: APIOperation, mode: GenerationMode, url: str, sessions: Mapping[str, requests.Session],
    main: str, known: Known, examples: int,
) -> None:  # fmt: skip
    counted = found.statuses.setdefault(f"{operation.method.upper()} {operation.path}", Counter())
    budget = 1 if operation.path in COSTLY else examples
    main = MAINLY.get(operation.path, main)
    who = st.one_of(st.just(main), st.sampled_from(sorted(sessions)))

    @seed(7)
    @settings(
        max_examples=budget, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        derandomize=False,
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode), who, st.randoms(use_true_random=False), st.booleans())
    def one(case: Case, caller: str, chance: random.Random, real: bool) -> None:
        if mode is GenerationMode.POSITIVE and not counted:
            caller, real = main, True  # the first request of an operation is one that could succeed
        if mode is GenerationMode.POSITIVE and (real or operation.path in COSTLY):
            _use_known(case, known, chance if counted else _First())
        session = sessions[caller]
        response = case.call(base_url=url, session=session, timeout=60, verify=session.verify, cert=session.cert)
        counted[response.status_code] += 1
        _judge(found, case, response, caller, mode)

    try:
        one()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # no request of this operation is malformed by its parameters
    except Exception as error:  # a request that could not be made, or an answer that could not be read, is a finding as well
        found.add(f"{operation.method.upper()} {operation.path}: {type(error).__name__}", str(error)[:2000])


def _judge(found: Findings, case: Case, response: Any, caller: str, mode: GenerationMode) -> None:
    name = f"{case.method} {case.operation.path}"
    told = f"{name} as {caller}: {response.status_code}\n{case.as_curl_command()[:1500]}\n{response.content[:600]!r}"
    # Also no 503: every process runs, and nothing else works on the home.
    if response.status_code >= 500:
        found.add(f"{name}: {response.status_code}", told)
    if foreign := _foreign_names(case.operation.path, response):
        found.add(f"{name}: not in camelCase: {', '.join(foreign)}", told)
    try:
        case.validate_response(response, checks=CHECKS if response.status_code < 500 else CHECKS[:-1])
    except FailureGroup as group:
        for failure in group.exceptions:
            found.add(f"{name}: {failure.title if isinstance(failure, Failure) else type(failure).__name__}", f"{failure}\n{told}")


def _foreign_names(path: str, response: Any) -> list[str]:
    """Names of an answer's records that are not in camelCase. The Open Inference Protocol (/v2) has its own."""
    if "/v2/" in path or "json" not in response.headers.get("content-type", ""):
        return []
    value = response.json()
    records = value if isinstance(value, list) else [value]
    lists = [item for record in records if isinstance(record, dict) for item in record.values() if isinstance(item, list)]
    records = [*records, *(item for items in lists for item in items)]
    return sorted({name for record in records if isinstance(record, dict) for name in record if "_" in name})


class _First(random.Random):
    """Chooses the first of all: what belongs together stands in the same place."""

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[0]


def _use_known(case: Case, known: Known, chance: random.Random) -> None:
    """Puts ids that exist into the path, and a body like those that were sent before, whole or with one field as generated."""
    for name in case.path_parameters or {}:
        if known.values.get(name):
            case.path_parameters[name] = quote(chance.choice(known.values[name]), safe="/" if name == "path" else "")
    if case.path_parameters and case.query:
        case.query.pop("environment", None)
    bodies = known.bodies.get(case.operation.path)
    if bodies and isinstance(case.body, dict):
        real = chance.choice(bodies)
        kept = chance.choice([None, *case.body])
        case.body = {**real, **({kept: case.body[kept]} if kept is not None else {})}


def _known(home: Home) -> Known:
    with Client.connect(home, "aude") as client:
        models, runs, datasets = client.models(), client.runs(), [client.dataset(item["id"]) for item in client.datasets()]
        decisions, entries = [client.explain(item["id"]) for item in client.decisions(limit=10)], client.events(tail=50)
        # Those that are carried out come first: to carry them out again is harmless.
        listed = sorted(client.promotions(), key=lambda item: bool(item["state"] != "completed"))
        promotions = [client.promotion(item["id"]) for item in listed[:4]]
        flags, deployments, rollouts = client.flags(), client.deployments(), client.rollouts()
        artifacts = [client.artifact(item["artifactId"]) for item in models[:2]]
        checkpoint = entries[-1]["index"]
        events = [{name: item for name, item in entry["event"].items() if name != "prevHash"} for entry in entries]
        manifests = [json.loads(client.download(item["manifest"]))["payload"] for item in deployments]
        trees = [json.loads(client.download(item["bundle"]))["dsseEnvelope"]["payload"] for item in deployments]
    ids = [item["id"] for item in datasets] + [f"{item['name']}@{item['version']}" for item in datasets]
    versions = [{"model": item["model"], "number": item["number"]} for item in models]
    envelopes = [item["requestEnvelope"] for item in promotions]
    values = {
        "digest": [sha256(b""), *(entry["sha256"] for item in datasets for entry in item["manifest"]["files"])],
        "artifact_id": [item["id"] for item in artifacts],
        "reference": ids,
        "model": sorted({item["model"] for item in models}),
        "number": [str(item["number"]) for item in models],
        "promotion_id": [item["id"] for item in promotions],
        "flag_id": [item["id"] for item in flags],
        "run_id": [run["id"] for run in runs],
        "decision_id": [item["id"] for item in decisions],
        "deployment": [item["id"] for item in deployments],
        "rollout": [item["id"] for item in rollouts],
        "id": [item["id"] for item in deployments + rollouts],
        "index": ["0", "1", str(checkpoint)],
        "path": ["0/000", "0/000.p/8", "entries/000", "1/000"],
        "environment": sorted({item["environment"] for item in deployments}),
    }
    bodies: dict[str, list[dict[str, Any]]] = {
        "/v1/datasets": [{key: item[key] for key in ("name", "version", "manifest")} for item in datasets],
        "/v1/artifacts": [{"id": item["id"], "files": item["files"]} for item in artifacts],
        "/v1/models/{model}/versions": [{"run": run["id"], "riskClass": "high"} for run in runs],
        "/v1/models/{model}/versions/{number}/evaluations": [{"dataset": reference} for reference in ids],
        "/v1/promotions/{promotion_id}/approvals": envelopes,
        "/v1/flags/{flag_id}/clearance": envelopes,
        "/v1/flags": [{"kind": "dataset", "target": reference, "reason": "tried"} for reference in ids],
        "/v1/deployments": [version | {"environment": stage} for version in versions for stage in ("staging", "prod")],
        "/v1/rollouts": [item["spec"] for item in rollouts],
        "/v1/policy/check": [{"action": item["action"], "input": item["input"]} for item in decisions],
        "/v1/serving/records": [_handed_on(item) for item in deployments],
        "/v1/audit/events": [{"events": [item]} for item in events if item["source"] == service_id("api")],
        "/env/{environment}/v2/models/{model}/infer": [{"inputs": [TENSOR]}],
        "/v1/rollouts/{id}/answers": [{"probes": ["1"], "rows": [TENSOR["data"]]}],
        "/v1/sign/statement": [_signed_before(payload) for payload in manifests],
        "/v1/sign/model": [_signed_before(payload) for payload in trees],
        "/v1/sign/checkpoint": [{"origin": home.trust.log_origin, "size": 0, "root": "", "proof": []}],
    }
    return Known(values, bodies | _signed(home, datasets, envelopes))


def _signed(
    home: Home, datasets: Sequence[Mapping[str, Any]], envelopes: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Bodies that a person's own key has signed, or that go with such. envelopes: of other people's promotions."""
    now, bundle = system_clock() // 1000, load_bundle(POLICIES)
    with Client.connect(home, ALMIGHTY) as client:
        approvals = [client.signed(DatasetApproval(dataset=item["id"], reason="tried", issued_at=now)) for item in datasets]
        model = next(item for item in client.models() if item["stage"] == "dev")
        asked = client.request_promotion(f"{model['model']}@{model['number']}", "staging")["id"]
        request = client.promotion(asked)["requestEnvelope"]
        version = client.policies()["version"] + 1
    with Client.connect(home, "sam") as security:
        publication = security.signed(PolicyBundle(revision=bundle.revision, version=version, issued_at=now))
    packed = dsse.encode64(to_tar(bundle))
    return {
        "/v1/datasets/approvals": approvals,
        "/v1/promotions": [request, *envelopes],
        "/v1/policy/simulations": [{"bundle": packed}],
        "/v1/policy/bundles": [{"bundle": packed, "envelope": dsse.encode64(dsse.from_json(publication).to_bytes())}],
    }


def _signed_before(payload: str) -> dict[str, Any]:
    """What the proxy has signed it gives again. payload: base64."""
    return {"key": "manifest", "payload": payload, "onBehalfOf": person_id("dario")}


def _handed_on(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of one record, as a predictor in a cluster hands it on."""
    prediction, digest = f"prd-{0:012x}{secrets.token_hex(10)}", sha256(b"")
    record = {
        "id": prediction, "ts": 1, "deployment": deployment["id"], "artifactId": deployment["artifactId"], "inputDigest": digest,
        "outputDigest": digest, "latencyUs": 1, "outcome": "ok", "status": 200, "rollout": None,
    }  # fmt: skip
    batch = f"bat-{secrets.token_hex(16)}"
    return {"id": batch, "deployment": deployment["id"], "records": [record], "recovered": False, "lost": 0}


def _session(identity: Identity) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a CA bundle or proxy of the environment is not about our processes
    session.cert, session.verify = (str(identity.cert), str(identity.key)), str(identity.ca)
    return session


def _add_almighty(home: Home) -> None:
    DevelopmentCa(home.root / "ca").issue(person_id(ALMIGHTY), home.people / ALMIGHTY)
    key = generate_p256()
    write_private_pem(home.people / ALMIGHTY / "signing.pem", key)
    value = home.trust.to_json()
    value["people"].append({"person": person_id(ALMIGHTY), "roles": sorted(PERSON_ROLES), "keys": [public_pem(key.public_key())]})
    (home.root / "trust.json").write_bytes(canonical(Trust.parse(canonical(value)).to_json()))


def main() -> int:
    """Prints what was answered and what is wrong; exit status 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m tests.openapi", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--examples", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served_copy(Home.at(options.home), Path(folder)) as platform:
        found = explore(platform, examples=options.examples)
        logs = {path.name: path.read_text() for path in (platform.home.root / "logs").iterdir()}
    for operation, statuses in found.statuses.items():
        print(f"{operation:70} {dict(sorted(statuses.items()))}")
    print(f"{found.answers.total()} answers: {dict(sorted(found.answers.items()))}")
    for title, text in found.problems.items():
        print(f"\n== {title}\n{text}")
    for name, text in logs.items():
        if "Traceback" in text:
            print(f"\n== {name}\n{text[text.index('Traceback') - 500 :][:3000]}")
    return int(bool(found.problems))


if __name__ == "__main__":
    sys.exit(main())
