"""Files of tests whose databases follow TEST_DATABASE, as the Makefile lists them."""

from pathlib import Path

import pytest

from tests import databases
from tests.peers import ROOT


def test_a_file_that_neither_list_has_is_refused_with_the_remedy() -> None:
    databases.require_listed("tests/unit/test_promotion.py")
    databases.require_listed("tests/faults/test_disk.py")
    with pytest.raises(AssertionError, match="add it to ON_POSTGRESQL"):
        databases.require_listed("tests/unit/test_databases_listed.py")


def test_a_database_of_which_a_test_says_what_it_is_follows_nothing(tmp_path: Path) -> None:
    databases.url(tmp_path, "said", "sqlite")
    assert databases.followed == []


def test_what_is_left_out_is_there() -> None:
    assert [file for file in databases.ON_SQLITE_ONLY if not (ROOT / file).exists()] == []
