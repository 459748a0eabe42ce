"""Settings of the signing proxy. Read once, by bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.core import settings
from services.core.errors import BadSetting
from services.core.tls import Identity, service_id
from services.signing.domain import KEY_NAMES

DEFAULT_API = "https://127.0.0.1:8443"
DEFAULT_PORT = 8445


@dataclass(frozen=True, kw_only=True)
class Settings:
    """database: SQLAlchemy URL; certs: folder with tls.crt, tls.key and ca.crt of the proxy; trust: trust.json,
    which also names the log whose checkpoints are signed.

    signers: key name → its backend; keys: key name → what that backend calls it.
    timeout_s: seconds one call of the key service may take; log_timeout_s: one append to the log.
    caller: SPIFFE identity of the only client; collector: of traces, empty for none.
    """

    env: str
    host: str
    port: int
    database: str
    certs: Path
    trust: Path
    api_url: str
    signers: Mapping[str, str]
    keys: Mapping[str, str]
    caller: str = service_id("api")
    source: str = service_id("signing-proxy")
    timeout_s: float = 0.8
    log_timeout_s: float = 5.0
    collector: str = ""

    @property
    def identity(self) -> Identity:
        return Identity.in_folder(self.certs)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Everything has a default below AI_INFRA_HOME. Raises BadSetting, naming the variable and what it should hold."""
        home = Path(environ.get("AI_INFRA_HOME", ".ai-infra")).absolute()
        common, folder = environ.get("AI_INFRA_SIGNER", "keyfile"), home / "signing"
        signers = {name: environ.get(f"AI_INFRA_{name.upper()}_SIGNER", common) for name in KEY_NAMES}
        found = cls(
            env=settings.environment(environ),
            host=environ.get("AI_INFRA_SIGNING_HOST", "127.0.0.1"),
            port=settings.port(environ, "AI_INFRA_SIGNING_PORT", DEFAULT_PORT),
            database=environ.get("AI_INFRA_SIGNING_DATABASE", f"sqlite:///{folder / 'signing.db'}"),
            certs=Path(environ.get("AI_INFRA_SIGNING_CERTS", home / "services" / "signing-proxy")),
            trust=Path(environ.get("AI_INFRA_TRUST", home / "trust.json")),
            api_url=environ.get("AI_INFRA_API_URL", DEFAULT_API),
            signers=signers,
            keys={name: _key(environ, name, signers[name], folder) for name in KEY_NAMES},
            timeout_s=settings.number(environ, "AI_INFRA_SIGNER_TIMEOUT_S", 0.8, 0.01, 60),
            log_timeout_s=settings.number(environ, "AI_INFRA_LOG_TIMEOUT_S", 5.0, 0.01, 60),
            collector=settings.collector(environ),
        )
        found._refuse_development()
        return found

    def _refuse_development(self) -> None:
        """What production must not run on. Backends refuse themselves, by PRODUCTION = False, when they are opened."""
        if self.env == "prod" and not self.api_url.startswith("https://"):
            raise BadSetting(f"AI_INFRA_API_URL={self.api_url}: env is prod, use https")
        if self.env == "prod" and self.database.startswith("sqlite"):
            raise BadSetting("AI_INFRA_SIGNING_DATABASE is SQLite: env is prod, use PostgreSQL")


def _key(environ: Mapping[str, str], name: str, signer: str, folder: Path) -> str:
    variable = f"AI_INFRA_KEY_{name.upper()}"
    if variable in environ:
        return environ[variable]
    if signer == "keyfile":
        return str(folder / "keys" / f"{name}.pem")
    raise BadSetting(f"{variable} is missing: the key's name in the {signer!r} backend")

