"""Graphs: of a few AWS resources, written by hand, and of the environments, each of which is rendered once."""

import functools
from typing import Any

from infra.graph import Graph, Resource
from infra.render import layers, render
from tests.peers import ROOT

PROVIDER = "urn:aws"
CONTEXT = Resource(
    urn=PROVIDER,
    name="aws-eu-central-1",
    type="pulumi:providers:aws",
    custom=True,
    # As the engine has them: whatever is no text of itself is JSON, and some settings are always there.
    inputs={
        "region": "eu-central-1",
        "allowedAccountIds": '["111122223333"]',
        "defaultTags": '{"tags": {"environment": "dev"}}',
        "skipCredentialsValidation": "false",
        "skipRegionValidation": "true",
    },
)


def resource(kind: str, name: str, inputs: dict[str, Any] | None = None, **options: Any) -> Resource:
    """kind: as kms/key:Key, or the whole type of what is not AWS's. The URN is urn:NAME."""
    token = kind if kind.count(":") > 1 else f"aws:{kind}"
    given: dict[str, Any] = {"custom": True, "provider": PROVIDER} | options
    return Resource(urn=f"urn:{name}", name=name, type=token, inputs=inputs or {}, **given)


def component(name: str, **options: Any) -> Resource:
    return resource("ai-infra:test:Component", name, custom=False, provider=None, **options)


def graph(*resources: Resource, **outputs: Any) -> Graph:
    return Graph(
        environment="dev",
        layer="ground",
        project="ai-infra",
        stack="dev-ground",
        resources=(CONTEXT, *resources),
        outputs=outputs,
    )


@functools.cache
def ground(environment: str) -> Graph:
    """That of an environment, from this checkout."""
    return render(ROOT, environment)


@functools.cache
def all_layers(environment: str) -> tuple[Graph, ...]:
    """Ground, platform and apps."""
    return layers(ROOT, environment, "apps")


def ref(name: str, *path: str | int) -> dict[str, Any]:
    return {"$ref": {"urn": f"urn:{name}", "path": list(path)}}


def join(*parts: Any) -> dict[str, Any]:
    return {"$join": list(parts)}


def secret(value: Any) -> dict[str, Any]:
    return {"$secret": value}
