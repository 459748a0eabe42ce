"""Settings of the router process and of the predictors that it starts. Read once, by bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.core import settings
from services.core.tls import Identity

DEFAULT_API = "https://127.0.0.1:8443"
DEFAULT_PORT = 8444


@dataclass(frozen=True, kw_only=True)
class Settings:
    """home: AI_INFRA_HOME; data: the router's own folder; certs: holds router/ and predictor/, each with tls.crt, tls.key, ca.crt.

    timeout_s: seconds that a predictor may take for one answer; max_body: bytes of one inference request;
    max_in_flight: requests that one predictor may have at once, above which the router answers 429.
    """

    env: str
    home: Path
    api_url: str
    host: str
    port: int
    certs: Path
    trust: Path
    object_backend: str
    object_location: str
    timeout_s: float = 2.0
    max_body: int = 1 << 20
    max_in_flight: int = 12

    @property
    def data(self) -> Path:
        return self.home / "router"

    def identity(self, name: str) -> Identity:
        return Identity.in_folder(self.certs / name)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises BadSetting, naming the variable and what it should hold."""
        home = Path(environ.get("AI_INFRA_HOME", ".ai-infra")).absolute()
        return cls(
            env=settings.environment(environ),
            home=home,
            api_url=environ.get("AI_INFRA_API_URL", DEFAULT_API),
            host=environ.get("AI_INFRA_ROUTER_HOST", "127.0.0.1"),
            port=settings.port(environ, "AI_INFRA_ROUTER_PORT", DEFAULT_PORT),
            certs=Path(environ.get("AI_INFRA_CERTS", home / "services")),
            trust=Path(environ.get("AI_INFRA_TRUST", home / "trust.json")),
            object_backend=environ.get("AI_INFRA_OBJECT_BACKEND", "folder"),
            object_location=environ.get("AI_INFRA_OBJECTS", str(home / "objects")),
            timeout_s=settings.number(environ, "AI_INFRA_PREDICT_TIMEOUT_S", 2.0, 0.01, 600),
            max_body=int(settings.number(environ, "AI_INFRA_PREDICT_MAX_BODY", 1 << 20, 1, 1 << 30)),
            max_in_flight=int(settings.number(environ, "AI_INFRA_PREDICT_MAX_IN_FLIGHT", 12, 1, 10_000)),
        )

