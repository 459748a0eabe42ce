"""Namespaces, each with the Pod Security level that the API server holds its pods to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.core.v1 import Namespace
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

MODES = ("enforce", "audit", "warn")


@dataclass(frozen=True, kw_only=True)
class NamespacesArgs:
    """levels: of each namespace."""

    levels: Mapping[str, Literal["restricted", "baseline", "privileged"]]


class Namespaces(pulumi.ComponentResource):
    """It has no default: what is not named here does not exist."""

    def __init__(self, name: str, args: NamespacesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Namespaces", name, None, opts)
        for namespace, level in args.levels.items():
            held: dict[str, str] = {f"pod-security.kubernetes.io/{mode}": level for mode in MODES}
            metadata = ObjectMetaArgs(name=namespace, labels={"app.kubernetes.io/managed-by": "ai-infra"} | held)
            Namespace(namespace, metadata=metadata, opts=ResourceOptions(parent=self))
        self.register_outputs({})
