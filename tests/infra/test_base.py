"""A base is what a revision makes: planned against itself nothing changes, in any environment."""

from pathlib import Path

import pytest

from infra.base import Base, base_of
from infra.diff import diff
from infra.render import ENVIRONMENTS
from infra.synth import synthesise
from infra.terraform import Terraform
from services.core.errors import BadInput
from tests.infra.graphs import ground
from tests.peers import ROOT, need


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_program_against_itself_changes_nothing(environment: str) -> None:
    need("terraform")
    terraform = Terraform()
    graph = ground(environment)
    found = diff(Base.of("main", "c" * 40, graph, terraform), graph, synthesise(graph), terraform)
    assert (found.rows, found.notes) == ((), ())


def test_revision_that_is_not_there_is_named_with_the_remedy() -> None:
    need("terraform")
    with pytest.raises(BadInput, match=r"no-such-branch is no revision.*fetch-depth: 0"):
        base_of(ROOT, "no-such-branch", "dev", "ground", Terraform(cache=Path("unused")))
