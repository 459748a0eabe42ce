"""What holds for every test."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests import databases

# No time is asserted in a test, so neither that of one example.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def server_kept_small() -> Iterator[None]:
    """One PostgreSQL serves the whole run, and takes a hundred connections."""
    yield
    if databases.CHOICE == "postgresql":
        databases.close_idle()
    databases.drop_ended()
