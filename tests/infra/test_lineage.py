"""Which resource of the base is which of the head: by URN and alias, as the engine finds it again."""

from infra.graph import Graph, Resource
from infra.lineage import successors

STACK = "urn:pulumi:dev-ground::ai-infra::"
COMPONENT, KEY = "ai-infra:keys:Keys", "aws:kms/key:Key"


def _graph(name: str, **options: object) -> Graph:
    parent = Resource(urn=f"{STACK}{COMPONENT}::{name}", name=name, type=COMPONENT, custom=False, **options)  # type: ignore[arg-type]
    child = Resource(urn=f"{STACK}{COMPONENT}${KEY}::{name}-key", name=f"{name}-key", type=KEY, custom=True, parent=parent.urn)
    return Graph(environment="dev", layer="ground", project="ai-infra", stack="dev-ground", resources=(parent, child))


def test_renamed_component_is_another_one() -> None:
    assert successors(_graph("old"), _graph("new")) == {}


def test_alias_of_a_component_holds_for_what_is_within_it() -> None:
    base, head = _graph("old"), _graph("new", aliases=({"spec": {"name": "old"}},))
    assert successors(base, head) == {old.urn: new.urn for old, new in zip(base.resources, head.resources, strict=True)}


def test_alias_by_urn_holds_too() -> None:
    base, head = _graph("old"), _graph("new", aliases=({"urn": f"{STACK}{COMPONENT}::old"},))
    assert len(successors(base, head)) == 2
