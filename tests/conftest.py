"""What holds for every test."""

from collections.abc import Iterator

import pytest

from tests import databases


@pytest.fixture(autouse=True)
def idle_connections_closed() -> Iterator[None]:
    """One PostgreSQL serves the whole run, and takes a hundred connections."""
    yield
    if databases.CHOICE == "postgresql":
        databases.close_idle()
