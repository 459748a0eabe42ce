"""What KServe says of a model, and what follows from it."""

from typing import Any

import pytest

from services.serving.backends.kserve import refusal_of


def blocked(**failure: Any) -> dict[str, Any]:
    return {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}


@pytest.mark.parametrize(
    ("model", "refusal"),
    [
        ({}, ""),
        ({"transitionStatus": "UpToDate"}, ""),
        ({"transitionStatus": "InProgress", "lastFailureInfo": {"message": "of the one before"}}, ""),
        (blocked(exitCode=1, message="the manifest is for prod", reason="ModelLoadFailed"), "the manifest is for prod"),
        (blocked(message="killed", reason="ModelLoadFailed"), "killed"),
        (blocked(exitCode=1, reason="ModelLoadFailed"), "ModelLoadFailed"),
        (blocked(exitCode=75, message="https://api:8443 did not answer", reason="ModelLoadFailed"), ""),
        ({"transitionStatus": "InvalidSpec"}, "InvalidSpec"),
    ],
)
def test_a_model_is_refused_by_what_no_retry_cures(model: dict[str, Any], refusal: str) -> None:
    assert refusal_of(model) == refusal
