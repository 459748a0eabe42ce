"""What rules and dashboards name, and who exports it."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from prometheus_client import REGISTRY

from services.serving.predictor import measure
from tests.peers import ROOT

FOLDER: Final = ROOT / "monitoring"
OTHERS: Final = frozenset(
    {
        "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_XID_ERRORS",
        "certmanager_certificate_expiration_timestamp_seconds", "certmanager_certificate_not_before_timestamp_seconds",
        "kube_deployment_status_replicas_available", "kube_pod_container_state_started", "kube_pod_init_container_status_ready",
        "kube_pod_init_container_status_restarts_total", "kube_pod_labels", "kube_pod_status_unschedulable", "up",
    }
)  # fmt: skip
"""Exported by NVIDIA's DCGM exporter, cert-manager, kube-state-metrics and Prometheus itself, by their own lists: one by one, for a
prefix would let a misspelt one by."""
_WORD: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRINGS: Final = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]')
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)")
_OPERATORS: Final = ("and", "or", "unless", "by", "without", "on", "ignoring", "group_left")
_FUNCTIONS: Final = (
    "absent", "avg", "delta", "histogram_quantile", "increase", "label_replace", "max", "min", "min_over_time", "rate", "sum",
    "time", "topk",
)  # fmt: skip


def _rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> Iterator[str]:
    for path in sorted(FOLDER.glob("dashboards/*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])


RULES: Final = _rules()
GROUPS: Final = [rule["expr"] for rule in RULES]
PANELS: Final = list(_panels())
RECORDED: Final = frozenset(rule["record"] for rule in RULES if "record" in rule)


def metrics_in(expression: str) -> set[str]:
    """Names of series in a PromQL expression: what is neither label, text, range, function nor operator."""
    plain = _GROUPING.sub(" ", _STRINGS.sub(" ", expression))
    return {word for word in _WORD.findall(plain) if word not in (*_OPERATORS, *_FUNCTIONS)}


def of_ours(name: str) -> bool:
    """Whether a process of ours must export it."""
    return name not in RECORDED | OTHERS


def predictor_metrics() -> set[str]:
    """What a predictor exports, by its own definitions."""
    names = {measure.OUTCOMES, measure.BEHIND, *(f"{measure.SECONDS}_{end}" for end in ("bucket", "count", "sum"))}
    known = {sample for family in REGISTRY.collect() for sample in (family.name, f"{family.name}_total")}
    assert {measure.OUTCOMES, measure.SECONDS, measure.BEHIND} <= known
    return names
