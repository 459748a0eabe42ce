"""A graph as a stack of the facts: its account, what is protected, and what Terraform makes of it."""

import json
from typing import Any

from infra.facts import Stack
from infra.graph import Graph
from infra.synth import addresses
from services.core.errors import BadInput


def stack_of(graph: Graph, document: dict[str, Any], plan: dict[str, Any]) -> Stack:
    """document: see synth; plan: `terraform show -json` of its plan.

    Raises:
        BadInput: the ground has something that is neither AWS's nor a provider: no rule would judge it.
    """
    return Stack(graph.environment, graph.layer, _account(graph), protected(graph), document, plan, _beside(graph))


def protected(graph: Graph) -> frozenset[str]:
    """Addresses of what the engine refuses to destroy."""
    named = addresses(graph)
    return frozenset(named[item.urn] for item in graph.resources if item.protect and item.urn in named)


def _beside(graph: Graph) -> dict[str, Any]:
    """What the document has not: outputs, providers, and components."""
    named = addresses(graph)
    others = [item for item in graph.resources if item.urn not in named]
    foreign = [f"{item.type} {item.name}" for item in others if item.custom and not item.type.startswith("pulumi:providers:")]
    if foreign:
        raise BadInput(
            f"{graph.stack} has {', '.join(foreign)}, which is not of AWS: no rule judges it there, and a secret in it would lie in"
            " the state; make it in a later layer, or let Secrets Manager or KMS make it"
        )
    return {"outputs": graph.outputs} | {f"{item.type} {item.name}": item.inputs for item in others}


def _account(graph: Graph) -> str:
    """The account of the AWS providers; inputs of providers may be JSON texts."""
    for item in graph.resources:
        allowed = item.inputs.get("allowedAccountIds") if item.type == "pulumi:providers:aws" else None
        accounts = json.loads(allowed) if isinstance(allowed, str) else allowed
        if accounts:
            return str(accounts[0])
    return ""
