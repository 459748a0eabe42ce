"""Who gets what from Vault: a role for each service account that needs something, and one policy that names exactly that.

Who has no role cannot log in. Only the signing proxy may sign with transit keys; nobody but administrators may change, rotate
or export one. Not here: Vault itself, and its unsealing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pulumi
from pulumi import ResourceOptions
from pulumi_vault import Audit, AuthBackend, Mount, Policy
from pulumi_vault.kubernetes import AuthBackendConfig, AuthBackendRole
from pulumi_vault.transit import SecretBackendKey

AUDIENCE: Final = "vault"
"""Of the tokens that pods log in with: one for the API server is of no use here, nor this one there."""
TRANSIT: Final = "transit"
LOGIN: Final = "kubernetes"
TOKEN_S: Final = 900
"""A token lives that long, and the role's next one is asked for with a fresh token of the pod."""

Capability = Literal["create", "read", "update", "delete", "list"]


@dataclass(frozen=True, kw_only=True)
class Account:
    """A service account, and what it may do: path → capabilities."""

    namespace: str
    name: str
    paths: Mapping[str, Sequence[Capability]]

    def __post_init__(self) -> None:
        wild = sorted(path for path in self.paths if "*" in path or "+" in path)
        if wild or not self.paths:
            raise ValueError(f"Vault paths of {self.name}: name each, got {', '.join(wild) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class VaultAccessArgs:
    """keys: names of transit keys; accounts: by role; api_server: its address for Vault, which asks it whose a token is."""

    environment: str
    keys: Sequence[str]
    accounts: Mapping[str, Account]
    api_server: str = "https://kubernetes.default.svc"


class VaultAccess(pulumi.ComponentResource):
    """First the audit device: what is not written down is not answered."""

    def __init__(self, name: str, args: VaultAccessArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:VaultAccess", name, None, opts)
        self._args, child = args, ResourceOptions(parent=self)
        audit = Audit("vault-audit", type="file", path="file", options={"file_path": "/vault/audit/audit.log"}, opts=child)
        self._after = ResourceOptions(parent=self, depends_on=[audit])
        self._transit()
        self._login()
        self.register_outputs({})

    def _transit(self) -> None:
        engine = Mount("transit", path=TRANSIT, type="transit", opts=self._after)
        for key in self._args.keys:
            SecretBackendKey(
                f"transit-{key}",
                backend=engine.path,
                name=key,
                type="ecdsa-p256",
                exportable=False,
                allow_plaintext_backup=False,
                deletion_allowed=False,
                # Its public key is in trust.json: signatures of a lost key can be checked, and none can be made.
                opts=ResourceOptions(parent=self, protect=self._args.environment == "prod"),
            )

    def _login(self) -> None:
        backend = AuthBackend("kubernetes-login", type="kubernetes", path=LOGIN, opts=self._after)
        AuthBackendConfig(
            "kubernetes-login",
            backend=backend.path,
            kubernetes_host=self._args.api_server,
            # Vault asks with its own account's token, which the kubelet renews; none is stored.
            disable_local_ca_jwt=False,
            opts=ResourceOptions(parent=self),
        )
        for role, account in self._args.accounts.items():
            policy = Policy(role, name=f"ai-infra-{role}", policy=document(account.paths), opts=ResourceOptions(parent=self))
            AuthBackendRole(
                role,
                backend=backend.path,
                role_name=role,
                bound_service_account_names=[account.name],
                bound_service_account_namespaces=[account.namespace],
                audience=AUDIENCE,
                token_policies=[policy.name],
                # Vault's own default would add paths that nobody here asked for.
                token_no_default_policy=True,
                token_ttl=TOKEN_S,
                token_max_ttl=TOKEN_S,
                opts=ResourceOptions(parent=self),
            )


def signing_paths(keys: Sequence[str]) -> dict[str, Sequence[Capability]]:
    """What signing with these keys takes, and nothing else."""
    sign: dict[str, Sequence[Capability]] = {f"{TRANSIT}/sign/{key}": ["update"] for key in keys}
    public: dict[str, Sequence[Capability]] = {f"{TRANSIT}/keys/{key}": ["read"] for key in keys}
    return sign | public


def document(paths: Mapping[str, Sequence[Capability]]) -> str:
    """The policy in HCL."""
    rules = [f'path "{path}" {{\n  capabilities = [{_listed(found)}]\n}}\n' for path, found in sorted(paths.items())]
    return "\n".join(rules)


def _listed(capabilities: Sequence[Capability]) -> str:
    return ", ".join(f'"{capability}"' for capability in capabilities)
