"""What people are told that a flag does."""

from typing import Any

import pytest

from services.commands.quarantine import effects


def deployed(number: int, state: str) -> dict[str, Any]:
    return {"model": "digits", "number": number, "environment": "prod", "id": f"dep-{number}", "state": state}


def flag(clearance: str | None = None) -> dict[str, Any]:
    return {"id": "flag-1", "clearance": clearance}


NOTHING = ["nothing that is deployed is, or descends from, what the flag is on"]


@pytest.mark.parametrize("state", ["serving", "quarantined"])
def test_a_flag_stops_what_descends_from_it_and_nothing_else(state: str) -> None:
    """Stopped already or not yet: the command may come before or after the round that stops it."""
    found = effects(flag(), [deployed(1, state), deployed(2, "serving")], [["flag-1", "flag-2"], []])
    assert found == ["stops within 5 s: digits@1 in prod (dep-1)"]


def test_a_lifted_flag_lets_serve_again_what_no_other_flag_stops() -> None:
    found = effects(
        flag("sha256:signed"), [deployed(n, "quarantined") for n in (1, 2)] + [deployed(3, "serving")], [[], ["flag-2"], []]
    )
    assert found == ["serves again within 5 s: digits@1 in prod (dep-1)", "stays stopped by flag-2: digits@2 in prod (dep-2)"]


def test_a_flag_that_touches_nothing_deployed_says_so() -> None:
    assert effects(flag(), [deployed(1, "serving"), deployed(2, "quarantined")], [[], ["flag-2"]]) == NOTHING
    assert effects(flag("sha256:signed"), [deployed(1, "serving")], [[]]) == NOTHING
