"""The figures of mutation: how words become a score, and that what is kept is whole and says what the page says."""

import hashlib

import pytest

from tests.mutation.scores import PAGE, ROOT, TESTS, Score, count, page, read


def test_only_a_failed_or_hanging_test_counts_as_noticed() -> None:
    words = ["killed", "segfault", "timeout", "survived", "no tests", "suspicious", "not checked"]
    found = count("core/x.py", b"", words)
    assert found == Score("core/x.py", found.sha256, 7, killed=2, hung=1, survived=2, not_judged=2)
    assert found.percent == pytest.approx(300 / 7)


def test_every_module_that_is_judged_has_figures() -> None:
    assert list(read()) == list(TESTS)


@pytest.mark.parametrize("module", TESTS)
def test_the_figures_of_a_module_are_of_the_code_as_it_is(module: str) -> None:
    now = hashlib.sha256((ROOT / "services" / module).read_bytes()).hexdigest()
    remedy = f"make mutation RECORD=1 MODULES={module}"
    assert read()[module].sha256 == now, f"services/{module} has changed since docs/mutation.json was made; count anew: {remedy}"


@pytest.mark.parametrize("module", TESTS)
def test_the_figures_of_a_module_add_up_and_reach_four_fifths(module: str) -> None:
    found = read()[module]
    assert found.killed + found.hung + found.survived + found.not_judged == found.mutants
    assert found.percent >= 80


@pytest.mark.parametrize("module", TESTS)
def test_what_is_judged_and_its_judges_are_there(module: str) -> None:
    files = (f"services/{module}", *(f"tests/{test}" for test in TESTS[module]))
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_page_says_what_the_figures_are() -> None:
    assert page(read().values()) == PAGE.read_text()
