"""Settings of the API process. Read once, by bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.core import settings
from services.core.errors import BadSetting
from services.home import Home

LOCK = Path(__file__).resolve().parents[2] / "requirements" / "demo.lock"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """trust: trust.json; database, audit_database: SQLAlchemy URLs; objects: where the object store's backend keeps its bytes;
    policy_url: of the OPA server, for the policy engine `opa`;
    lock: the hashed requirements file that training runs with; collector: of traces, empty for none. All else has a default
    below AI_INFRA_HOME.
    """

    env: str
    home: Home
    trust: Path
    host: str
    port: int
    database: str
    audit_database: str
    object_backend: str
    objects: str
    policy_engine: str
    policy_url: str
    compute: str
    serving: str
    lock: Path
    signing_url: str
    router_url: str
    collector: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises BadSetting, naming the variable and what it should hold."""
        home = Home.from_env(environ)
        found = cls(
            env=settings.environment(environ),
            home=home,
            trust=Path(environ.get("AI_INFRA_TRUST", home.root / "trust.json")),
            host=environ.get("AI_INFRA_API_HOST", "127.0.0.1"),
            port=settings.port(environ, "AI_INFRA_API_PORT", 8443),
            database=environ.get("AI_INFRA_DATABASE", f"sqlite:///{home.root / 'platform.db'}"),
            audit_database=environ.get("AI_INFRA_AUDIT_DATABASE", f"sqlite:///{home.root / 'audit.db'}"),
            object_backend=environ.get("AI_INFRA_OBJECT_BACKEND", "folder"),
            objects=environ.get("AI_INFRA_OBJECTS", str(home.root / "objects")),
            policy_engine=environ.get("AI_INFRA_POLICY_ENGINE", "regopy"),
            policy_url=environ.get("AI_INFRA_POLICY_URL", ""),
            compute=environ.get("AI_INFRA_COMPUTE", "ray_local"),
            serving=environ.get("AI_INFRA_SERVING", "local"),
            lock=Path(environ.get("AI_INFRA_LOCK", LOCK)),
            signing_url=environ.get("AI_INFRA_SIGNING_URL", "https://127.0.0.1:8445"),
            router_url=environ.get("AI_INFRA_ROUTER_URL", "https://127.0.0.1:8444"),
            collector=settings.collector(environ),
        )
        found._refuse_development()
        return found

    def _refuse_development(self) -> None:
        """What production must not run on. Backends refuse themselves, by PRODUCTION = False, when they are opened."""
        if self.env != "prod":
            return
        for name, url in (("AI_INFRA_SIGNING_URL", self.signing_url), ("AI_INFRA_ROUTER_URL", self.router_url)):
            if not url.startswith("https://"):
                raise BadSetting(f"{name}={url}: env is prod, use https")
        for name, url in (("AI_INFRA_DATABASE", self.database), ("AI_INFRA_AUDIT_DATABASE", self.audit_database)):
            if url.startswith("sqlite"):
                raise BadSetting(f"{name} is SQLite: env is prod, use PostgreSQL")
        if (self.home.root / "ca" / "ca.key").exists():
            raise BadSetting(f"{self.home.root} has a development CA: env is prod, use certificates of your own CA")

