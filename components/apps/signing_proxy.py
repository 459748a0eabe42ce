"""The signing proxy in a cluster: its settings and files. It owns the last checkpoint that was signed, so there is one.

Manifests and checkpoints are signed by keys of KMS, the other statements by keys of Vault's transit engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pulumi import Input

from components.apps.calls import API, API_PORT, PROXY, PROXY_PORT
from components.apps.certificates import secret_of
from components.apps.common import TRUST, database_url, trust_files
from components.apps.pod import AccountToken, Command, Container, Mount, Probes, Scratch, SecretFiles
from components.apps.vault_access import AUDIENCE, TRANSIT
from components.apps.workload import WorkloadArgs

CERTS: Final = "/etc/ai-infra/tls"
VAULT: Final = "/var/run/secrets/vault"
IN_KMS: Final = ("manifest", "audit")
IN_VAULT: Final = ("builder", "evaluator", "sentinelnet")


@dataclass(frozen=True, kw_only=True)
class SigningProxyArgs:
    """image: with its digest; database: HOST:PORT; aliases: of the keys in KMS, by name; versions: of the keys in Vault: a new one
    signs when it is named here; vault_role: by which the proxy logs in; otlp_url: base, of what takes traces."""

    environment: str
    region: str
    namespace: str
    image: str
    database: Input[str]
    aliases: Mapping[str, Input[str]]
    versions: Mapping[str, int]
    vault_url: Input[str]
    otlp_url: Input[str]
    role_arn: Input[str]
    vault_role: str = PROXY

    def __post_init__(self) -> None:
        if self.aliases.keys() != set(IN_KMS) or self.versions.keys() != set(IN_VAULT):
            raise ValueError(f"give aliases of {', '.join(IN_KMS)} and versions of {', '.join(IN_VAULT)}")


def signing_proxy(args: SigningProxyArgs) -> WorkloadArgs:
    probe = Command(words=("python3", "-m", "services.core.health", str(PROXY_PORT), CERTS))
    main = Container(
        name=PROXY,
        image=args.image,
        command=("python3", "-m", "services.signing"),
        probes=Probes(live=probe, ready=probe, start_s=120),
        requests={"cpu": "200m", "memory": "256Mi"},
        limits={"memory": "512Mi"},
        ports={"https": PROXY_PORT},
        settings=settings(args),
        mounts={
            "certificate": Mount(path=CERTS, source=SecretFiles(secret=secret_of(PROXY))),
            "trust": Mount(path=TRUST, source=trust_files()),
            "vault": Mount(path=VAULT, source=AccountToken(audience=AUDIENCE)),
            "scratch": Mount(path="/tmp", source=Scratch(size="64Mi")),  # noqa: S108  # the container's own
        },
    )
    return WorkloadArgs(namespace=args.namespace, main=main, grace_s=30, role_arn=args.role_arn)


def settings(args: SigningProxyArgs) -> dict[str, Input[str]]:
    """As `services.signing.settings` and the back ends `awskms` and `vault` read them."""
    signers = {f"AI_INFRA_{name.upper()}_SIGNER": "awskms" for name in IN_KMS}
    in_kms = {f"AI_INFRA_KEY_{name.upper()}": alias for name, alias in args.aliases.items()}
    in_vault = {f"AI_INFRA_KEY_{name.upper()}": f"{TRANSIT}/{name}:{version}" for name, version in args.versions.items()}
    return {
        "AI_INFRA_ENV": args.environment,
        "AI_INFRA_TRUST": f"{TRUST}/trust.json",
        "AI_INFRA_SIGNING_HOST": "0.0.0.0",  # noqa: S104  # a pod's
        "AI_INFRA_SIGNING_PORT": str(PROXY_PORT),
        "AI_INFRA_SIGNING_CERTS": CERTS,
        "AI_INFRA_SIGNING_DATABASE": database_url(args.database, "signing", args.region),
        "AI_INFRA_API_URL": f"https://{API}.{args.namespace}.svc:{API_PORT}",
        "AI_INFRA_SIGNER": "vault",
        **signers,
        **in_kms,
        **in_vault,
        "AWS_DEFAULT_REGION": args.region,
        "VAULT_ADDR": args.vault_url,
        # One authority signs for Vault and for us.
        "VAULT_CACERT": f"{CERTS}/ca.crt",
        "VAULT_ROLE": args.vault_role,
        "VAULT_ROLE_TOKEN": f"{VAULT}/token",
        "OTEL_EXPORTER_OTLP_ENDPOINT": args.otlp_url,
    }
