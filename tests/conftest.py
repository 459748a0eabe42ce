"""What holds for every test."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests import databases

# No time is asserted in a test, so neither that of one example.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def listed_for_postgresql(request: pytest.FixtureRequest) -> Iterator[None]:
    """A file of tests whose databases follow TEST_DATABASE is one that `make test-postgresql` runs, or names the reason."""
    yield
    if databases.followed:
        databases.followed.clear()
        databases.require_listed(request.path.relative_to(request.config.rootpath).as_posix())


@pytest.fixture(autouse=True)
def server_kept_small() -> Iterator[None]:
    """One PostgreSQL serves the whole run, and takes a hundred connections."""
    yield
    if databases.CHOICE == "postgresql":
        databases.close_idle()
    databases.drop_ended()
