"""Reads a cluster with kubectl, as whoever runs it: its contexts, credentials and proxies are theirs already. It writes nothing."""

import base64
import gzip
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from typing import Any

from services.core.errors import MissingTool, NotFound, Unavailable
from services.core.kube import Object

LIMIT_S = 60


class NoSuchKind(NotFound):
    """The API server does not serve this kind: its definition is not installed."""


@dataclass(frozen=True)
class Installed:
    """A Helm release by its last revision. status: Helm's word; record: as the API server gives it."""

    status: str
    record: str

    @property
    def version(self) -> str:
        """Its chart's. No label has it: it is in Helm's record (base64, gzip, JSON), of which nothing else is looked at."""
        try:
            record = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(self.record))))
            return str(record["chart"]["metadata"]["version"])
        except (ValueError, OSError, EOFError, zlib.error, LookupError, TypeError):
            return "in a record that nobody can read"


@dataclass(frozen=True)
class Kubectl:
    """context: of the kubeconfig; empty for the present one."""

    context: str = ""

    def ready(self) -> None:
        """Raises Unavailable: the API server is away, or does not let us in; NotFound: no such cluster; MissingTool: no kubectl."""
        self._run("get", "--raw", "/readyz")

    def all_of(self, api_version: str, kind: str, labels: str = "") -> list[Object]:
        """All objects of a kind, in all namespaces. labels: a selector. Raises NoSuchKind, Unavailable."""
        group, _, version = api_version.rpartition("/")
        name = f"{kind.lower()}.{version}.{group}" if group else kind.lower()
        items: list[Object] = json.loads(self._run("get", name, "--all-namespaces", f"--selector={labels}", "--output=json"))[
            "items"
        ]
        return items

    def releases(self) -> dict[tuple[str, str], Installed]:
        """Helm releases by (namespace, name)."""
        labels = ",".join(f":metadata.{field}" for field in ("namespace", "labels.name", "labels.version", "labels.status"))
        columns = f"custom-columns={labels},:data.release"
        lines = self._run("get", "secrets", "--all-namespaces", "--selector=owner=helm", "--no-headers", f"--output={columns}")
        rows = sorted((line.split() for line in lines.splitlines()), key=lambda row: int(row[2]))
        return {(namespace, name): Installed(status, record) for namespace, name, _, status, record in rows}

    def _run(self, *arguments: str) -> str:
        program = shutil.which("kubectl")
        if program is None:
            raise MissingTool("kubectl is not on PATH: install it, and log in to the cluster (deployment.md)")
        chosen = [f"--context={self.context}"] if self.context else []
        command = [program, *chosen, "--request-timeout=20s", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"kubectl did not end within {LIMIT_S} s: is the cluster's network reachable from here?") from error
        if done.returncode != 0:
            raise _error(done.stderr.strip() or f"kubectl ended with {done.returncode}")
        return done.stdout


def _error(text: str) -> Exception:
    if "the server doesn't have a resource type" in text or "no matches for kind" in text:
        return NoSuchKind(text)
    # Its own default when it knows of no cluster at all.
    if "server localhost:8080" in text or re.search(r"context \S+ does not exist", text):
        return NotFound(f"kubectl knows no such cluster: log in to it (deployment.md, step 4), or name its --context: {text}")
    return Unavailable(text)


def name_of(item: dict[str, Any]) -> tuple[str, str]:
    """(namespace, name); the namespace of what has none is empty."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
