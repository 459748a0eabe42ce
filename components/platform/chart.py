"""A chart of another project at one version, with values of ours. What it renders to is judged by nobody offline: see `Release`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pulumi import ResourceOptions
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs

TIMEOUT_S: Final = 900
"""A first release may wait for a node."""
CPU_CEILING: Final = "128"
"""More than any node of the configurations has, so that it holds nothing back."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """name: in its repository, or all of an `oci://` address; repository: URL, none for the latter."""

    name: str
    repository: str | None = None


def release(
    name: str,
    chart: Chart,
    version: str,
    namespace: str,
    values: Mapping[str, Any],
    opts: ResourceOptions,
    *,
    skip_crds: bool = False,
) -> Release:
    """Whole or not at all: a release whose pods do not get ready is rolled back.

    skip_crds: definitions come from a chart of their own, as Helm never upgrades those that a chart brings along.
    """
    return Release(
        name,
        name=name,
        chart=chart.name,
        repository_opts=RepositoryOptsArgs(repo=chart.repository) if chart.repository else None,
        version=version,
        namespace=namespace,
        create_namespace=False,
        values=dict(values),
        atomic=True,
        cleanup_on_fail=True,
        wait_for_jobs=True,
        skip_crds=skip_crds,
        max_history=5,
        timeout=TIMEOUT_S,
        opts=opts,
    )


def sized(cpu: str, memory: str) -> dict[str, Any]:
    """Resources of a container of a chart: what is idle may be used, and shares are kept by the request.

    The CPU's limit is said all the same. Helm merges maps, so a chart's own would stay: one below our request is refused, one above
    it throttles. Nor can it be taken away, as Pulumi drops the nulls among Python's values.
    """
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": CPU_CEILING, "memory": memory}}
