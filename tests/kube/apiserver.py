"""etcd and a Kubernetes API server on free loopback ports, with a certificate of their own and RBAC on. No controllers run."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
from cryptography.hazmat.primitives import serialization

from services.core.kube import Access
from services.core.tls import DevelopmentCa, service_id
from tests.peers import need

READY_S = 60.0
ADMIN, WATCHER, SERVING, TRAINING = "admin-token", "watcher-token", "serving-token", "training-token"
"""Bearer tokens: of a cluster administrator, of a user that RBAC gives nothing, of the serving and of the training backend."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ApiServer:
    """One cluster. folder: its certificates, logs and etcd's data, which outlives `stop`."""

    folder: Path
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    _etcd: subprocess.Popen[bytes] | None = None
    _server: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._etcd_program, self._server_program = need("etcd"), need("kube-apiserver")
        self.identity = DevelopmentCa(self.folder / "ca").issue(service_id("kube-apiserver"), self.folder / "tls")
        lines = [f'{ADMIN},admin,admin,"system:masters"', f"{WATCHER},nobody,nobody", f"{SERVING},serving,serving"]
        lines.append(f"{TRAINING},training,training")
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        key = serialization.load_pem_private_key(self.identity.key.read_bytes(), None).public_key()
        public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "accounts.pub").write_bytes(public)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def access(self, token: str = ADMIN) -> Access:
        path = self.folder / f"{token}.txt"
        path.write_text(token)
        return Access(url=self.url, ca=self.identity.ca, token=path)

    def kubeconfig(self, folder: Path, token: str = ADMIN) -> Path:
        """A file for programs that take no Access."""
        server = {"server": self.url, "certificate-authority": str(self.identity.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def start(self) -> None:
        """Returns when the server answers as ready. A second start finds what etcd kept."""
        if self._etcd is None:
            self._etcd = self._run("etcd", [self._etcd_program, *_etcd_flags(self.folder, self.etcd_port)])
        self._server = self._run("kube-apiserver", [self._server_program, *self._flags()])
        context = ssl.create_default_context(cafile=str(self.identity.ca))
        deadline = time.monotonic() + READY_S
        with httpx.Client(base_url=self.url, verify=context, headers={"Authorization": f"Bearer {ADMIN}"}) as client:
            while not _ready(client):
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the API server did not start: {self._log_tail()}")
                time.sleep(0.1)

    def kill(self) -> None:
        """Ends the API server alone, as a crash does."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def stop(self) -> None:
        self.kill()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def compact(self) -> None:
        """Drops etcd's history, so that watches from before it answer 410."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.etcd_port}") as client:
            # A range over nothing answers the present revision.
            revision = client.post("/v3/kv/range", content=json.dumps({"key": "Lw=="})).json()["header"]["revision"]
            client.post("/v3/kv/compaction", content=json.dumps({"revision": revision, "physical": True})).raise_for_status()

    def _run(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        log: IO[bytes]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _flags(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # The service's port is not this one: without endpoints there is nothing to reconcile.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self.identity.cert}",
            f"--tls-private-key-file={self.identity.key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.identity.key}",
            # Without controllers a namespace has no default service account, which pods would otherwise wait for.
            "--disable-admission-plugins=ServiceAccount",
            "--min-request-timeout=5",
        ]

    def _log_tail(self) -> str:
        return (self.folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]


def _etcd_flags(folder: Path, port: int) -> list[str]:
    peer = free_port()
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--advertise-client-urls=http://127.0.0.1:{port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        # Nothing here has to survive the machine.
        "--unsafe-no-fsync",
        "--log-level=error",
    ]


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False
