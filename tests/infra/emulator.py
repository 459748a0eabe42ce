"""An AWS emulator (moto) in a process of its own, and what real Terraform makes of a program there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

from infra.terraform import Terraform
from tests.ports import free_port
from tests.serving import wait_for

ACCOUNT, REGION = "111122223333", "eu-central-1"
REFERENCE = re.compile(r"(?<!\$)\$\{([a-z][a-z0-9_]*\.[A-Za-z0-9_-]+)[^{}]*\}")

Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What Terraform made at an emulator. document: of that and no more."""

    endpoint: str
    document: Json
    state: Json

    def client(self, service: str) -> Any:
        return client(self.endpoint, service)

    def values(self, kind: str) -> dict[str, Json]:
        """Name in the program → all that the provider knows of it."""
        found = [item for item in self.state["resources"] if item["type"] == kind]
        return {item["name"]: item["instances"][0]["attributes"] for item in found}


def client(endpoint: str, service: str) -> Any:
    keys = {"aws_access_key_id": "offline", "aws_secret_access_key": "offline"}
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, **keys)


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Its endpoint. folder: for its log."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "MOTO_ACCOUNT_ID": ACCOUNT}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: _answers(endpoint), "the emulator")
            yield endpoint
        finally:
            process.terminate()
            process.wait()


def _answers(endpoint: str) -> bool:
    try:
        return bool(client(endpoint, "sts").get_caller_identity()["Account"] == ACCOUNT)
    except botocore.exceptions.EndpointConnectionError:
        return False


def make(document: Json, endpoint: str) -> Made:
    """Raises TerraformRefused: with what the emulator answered."""
    for provider in document["provider"]["aws"]:
        # Names of what is made hold the account.
        provider["skip_requesting_account_id"] = False
    return Made(endpoint, document, Terraform().apply(document, endpoint))


def resources(document: Json) -> dict[str, Json]:
    """By address."""
    return {f"{kind}.{name}": values for kind, named in document["resource"].items() for name, values in named.items()}


def needed(document: Json, address: str) -> set[str]:
    """An address, all that it refers to, and so on."""
    found, left, known = set[str](), {address}, resources(document)
    while left:
        found |= left
        left = {name for one in left for name in REFERENCE.findall(json.dumps(known[one]))} - found
    return found


def only(document: Json, kept: set[str]) -> Json:
    """A document of some of its addresses. A text that refers to another says "not-made"."""
    left: Json = {}
    for address, values in resources(document).items():
        if address in kept:
            kind, name = address.split(".")
            waits = [other for other in values.get("depends_on", []) if other in kept]
            left.setdefault(kind, {})[name] = _cut(values | {"depends_on": waits}, kept)
    return {"terraform": document["terraform"], "provider": document["provider"], "resource": left}


def _cut(value: Any, kept: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, kept) for item in value]
    if isinstance(value, str):
        return REFERENCE.sub(lambda found: found[0] if found[1] in kept else "not-made", value)
    return value
