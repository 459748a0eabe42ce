"""Vault's roles and policies on a real Vault that asks a real API server whose a token is: who can log in, and what each may do.

The component's resources are made by the calls that Vault's provider would make. The audit device is left out: its path is a pod's.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.apps.calls import API, PROXY
from components.apps.signing_proxy import IN_VAULT
from components.apps.vault_access import AUDIENCE, VaultAccess
from services.core import keys
from services.core.backends import load
from services.core.kube import Kube, Resource
from services.signing import backends
from services.signing.errors import SignerUnavailable
from services.signing.ports import Signer
from tests.infra.apps import SERVICES, VAULT
from tests.infra.recorded import recorded
from tests.kube.apiserver import ADMIN, ApiServer
from tests.peers import need
from tests.ports import free_port
from tests.serving import wait_for

NAMESPACES = Resource("", "v1", "namespaces")
ACCOUNTS = Resource("", "v1", "serviceaccounts")
ROOT_TOKEN = "root-of-a-test"


@dataclass(frozen=True)
class Vault:
    """root: a client that may do everything; cluster: whose tokens it takes."""

    address: str
    root: httpx.Client
    cluster: ApiServer

    def token_of(self, account: str, audience: str = AUDIENCE, namespace: str = SERVICES) -> str:
        """As the kubelet would mount it."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}}
        path = f"{self.cluster.url}{ACCOUNTS.one(account, namespace)}/token"
        headers = {"Authorization": f"Bearer {ADMIN}"}
        answer = httpx.post(path, json=request, headers=headers, verify=str(self.cluster.identity.ca))
        return str(answer.raise_for_status().json()["status"]["token"])

    def log_in(self, role: str, token: str) -> httpx.Client:
        """Raises httpx.HTTPStatusError: Vault does not take it."""
        answer = httpx.post(f"{self.address}/v1/auth/kubernetes/login", json={"role": role, "jwt": token}).raise_for_status()
        return self.as_(answer.json()["auth"]["client_token"])

    def as_(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=f"{self.address}/v1", headers={"X-Vault-Token": token})


@pytest.fixture(scope="module")
def vault(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    program, port = need("vault"), free_port()
    command = [program, "server", "-dev", f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{port}"]
    home = os.environ | {"HOME": str(tmp_path_factory.mktemp("vault"))}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=home)
    address = f"http://127.0.0.1:{port}"
    root = httpx.Client(base_url=f"{address}/v1", headers={"X-Vault-Token": ROOT_TOKEN}, timeout=30)
    found = Vault(address, root, cluster)
    try:
        wait_for(lambda: _answers(root), "Vault answers")
        _accounts(cluster)
        for made in recorded(lambda: VaultAccess("vault", VAULT)).values():
            _make(found, made.type, made.inputs)
        yield found
    finally:
        process.terminate()
        process.wait()


def _answers(root: httpx.Client) -> bool:
    try:
        return root.get("/sys/health").is_success
    except httpx.TransportError:
        return False


def _accounts(cluster: ApiServer) -> None:
    kube = Kube(cluster.access(), "tests")
    for namespace in (SERVICES, "elsewhere"):
        kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        for name in (API, PROXY):
            meta = {"name": name, "namespace": namespace}
            kube.apply(ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    kube.close()


def _make(vault: Vault, kind: str, given: dict[str, Any], api_server: str | None = None) -> None:
    """api_server: another one than the cluster's, for Vault to ask."""
    post = vault.root.post
    match kind:
        case "Mount":
            answer = post(f"/sys/mounts/{given['path']}", json={"type": given["type"]})
        case "AuthBackend":
            answer = post(f"/sys/auth/{given['path']}", json={"type": given["type"]})
        case "AuthBackendConfig":
            # Not in a pod, it has no token of its own: it asks with that of an administrator.
            ca, local = vault.cluster.identity.ca.read_text(), {"disable_local_ca_jwt": True, "token_reviewer_jwt": ADMIN}
            reached = {"kubernetes_host": api_server or vault.cluster.url, "kubernetes_ca_cert": ca}
            answer = post(f"/auth/{given['backend']}/config", json=reached | local)
        case "AuthBackendRole":
            names = {"bound_service_account_names", "bound_service_account_namespaces", "audience", "token_policies"}
            names.add("token_no_default_policy")
            # Numbers are floats between a program and Pulumi.
            times = {name: int(given[_camel(name)]) for name in ("token_ttl", "token_max_ttl")}
            role = {name: given[_camel(name)] for name in names} | times
            answer = post(f"/auth/{given['backend']}/role/{given['roleName']}", json=role)
        case "Policy":
            answer = vault.root.put(f"/sys/policies/acl/{given['name']}", json={"policy": given["policy"]})
        case "SecretBackendKey":
            kept = {"type": given["type"], "exportable": given["exportable"]}
            answer = post(f"/{given['backend']}/keys/{given['name']}", json=kept)
        case "Audit":
            return
        case _:
            raise AssertionError(f"nobody said how Vault makes a {kind}")
    assert answer.is_success, answer.text


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def as_the_proxy(vault: Vault, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is in the proxy's pod: its settings, and the token of its account in `folder/token`."""
    (folder / "token").write_text(vault.token_of(PROXY))
    settings = {"VAULT_ADDR": vault.address, "VAULT_ROLE": PROXY, "VAULT_ROLE_TOKEN": str(folder / "token")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("VAULT_TOKEN", raising=False)


def signer_of(key: str) -> Signer:
    signer: Signer = load(backends, "vault", env="prod").open_signer(f"transit/{key}:1", 5.0)
    return signer


def test_the_proxy_signs_with_the_token_of_its_pod(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_the_proxy(vault, tmp_path, monkeypatch)
    for key in IN_VAULT:
        signer = signer_of(key)
        keys.verify(signer.public_key(), b"payload", signer.sign(b"payload").sig)


def test_a_token_that_vault_took_back_is_asked_for_anew(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_the_proxy(vault, tmp_path, monkeypatch)
    signer = signer_of("builder")
    signer.sign(b"before")
    vault.root.put("/sys/leases/revoke-prefix/auth/kubernetes").raise_for_status()
    keys.verify(signer.public_key(), b"after", signer.sign(b"after").sig)
    vault.root.put("/sys/leases/revoke-prefix/auth/kubernetes").raise_for_status()
    (tmp_path / "token").write_text(vault.token_of(API))
    with pytest.raises(SignerUnavailable, match="check the role"):
        signer.sign(b"as another account")
    (tmp_path / "token").unlink()
    with pytest.raises(SignerUnavailable, match="VAULT_ROLE_TOKEN"):
        signer.sign(b"without a token")


@pytest.mark.parametrize(
    ("account", "audience", "namespace"),
    [(API, AUDIENCE, SERVICES), (PROXY, AUDIENCE, "elsewhere"), (PROXY, "https://kubernetes.default.svc", SERVICES)],
    ids=["another account", "another namespace", "a token for the API server"],
)
def test_nobody_else_logs_in_as_the_proxy(vault: Vault, account: str, audience: str, namespace: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"'40[03] "):
        vault.log_in(PROXY, vault.token_of(account, audience, namespace))


def test_the_api_has_no_role_to_log_in_by(vault: Vault) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="'400 "):
        vault.log_in(API, vault.token_of(API))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/transit/keys/builder/rotate"),
        ("POST", "/transit/keys/builder/config"),
        ("DELETE", "/transit/keys/builder"),
        ("GET", "/transit/export/signing-key/builder"),
        ("GET", "/transit/backup/builder"),
        ("POST", "/transit/keys/another"),
        ("POST", "/transit/sign/another"),
        ("GET", "/transit/keys?list=true"),
        ("GET", "/sys/policies/acl/ai-infra-signing-proxy"),
        ("GET", "/sys/mounts"),
        ("GET", "/auth/token/lookup-self"),
    ],
)
def test_the_proxys_token_does_nothing_but_sign(vault: Vault, method: str, path: str) -> None:
    with vault.log_in(PROXY, vault.token_of(PROXY)) as proxy:
        assert proxy.request(method, path, json={} if method == "POST" else None).status_code == 403


def test_without_the_api_server_the_proxy_signs_for_as_long_as_its_token_lives(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_the_proxy(vault, tmp_path, monkeypatch)
    signer = signer_of("builder")
    signer.sign(b"before")
    (made,) = [item for item in recorded(lambda: VaultAccess("vault", VAULT)).values() if item.type == "AuthBackendConfig"]
    _make(vault, made.type, made.inputs, api_server=f"https://127.0.0.1:{free_port()}")
    try:
        signer.sign(b"with the token that it has")
        vault.root.put("/sys/leases/revoke-prefix/auth/kubernetes").raise_for_status()
        with pytest.raises(SignerUnavailable, match="API server that Vault asks may be away") as refused:
            signer.sign(b"with another one")
        assert refused.value.retryable
    finally:
        _make(vault, made.type, made.inputs)
    signer.sign(b"after")
