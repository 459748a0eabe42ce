"""Reads settings from a mapping of environment variables. Each error names the variable and what it should hold."""

from collections.abc import Mapping

from services.core.errors import BadSetting

ENVIRONMENTS = ("dev", "staging", "prod")


def environment(environ: Mapping[str, str]) -> str:
    """AI_INFRA_ENV, default dev. Raises BadSetting."""
    env = environ.get("AI_INFRA_ENV", "dev")
    if env not in ENVIRONMENTS:
        raise BadSetting(f"AI_INFRA_ENV={env!r}: want one of {list(ENVIRONMENTS)}")
    return env


def number(environ: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """A number between low and high. Raises BadSetting."""
    text = environ.get(name, "")
    try:
        value = float(text) if text else float(default)
    except ValueError:
        raise BadSetting(f"{name}={text!r}: want a number") from None
    if not low <= value <= high:
        raise BadSetting(f"{name}={text}: want {low} to {high}")
    return value


def collector(environ: Mapping[str, str]) -> str:
    """Base URL of what takes traces, as OpenTelemetry names the variable; empty: nobody does. Raises BadSetting."""
    url = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if url and not url.startswith(("http://", "https://")):
        raise BadSetting(f"OTEL_EXPORTER_OTLP_ENDPOINT={url}: want http://HOST:4318 or https://HOST:4318, of OTLP over HTTP")
    return url


def port(environ: Mapping[str, str], name: str, default: int) -> int:
    """A TCP port; 0 takes a free one. Raises BadSetting."""
    return int(number(environ, name, default, 0, 65_535))
