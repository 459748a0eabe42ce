"""What a check keeps of what it finds: each thing once, the first thousand, in a reader's order."""

from services.core.logfindings import MAX_PROBLEMS, Findings, Kind, Problem


def test_each_thing_is_kept_once_as_it_was_first_said() -> None:
    found = Findings()
    found.add(Kind.EDITED, "first said", 3)
    found.add(Kind.EDITED, "said again", 3)
    found.add(Kind.GAP, "one gap")
    found.add(Kind.GAP, "another gap")
    found.add(Kind.GAP, "one gap")
    assert found.sorted() == (
        Problem(Kind.EDITED, "first said", 3), Problem(Kind.GAP, "one gap"), Problem(Kind.GAP, "another gap"),
    )  # fmt: skip
    assert found.more == 0


def test_the_first_thousand_are_kept_and_the_rest_counted() -> None:
    found = Findings()
    for index in range(MAX_PROBLEMS + 3):
        found.add(Kind.EDITED, "edited", index)
    found.add(Kind.EDITED, "edited", 0)
    assert found.sorted() == tuple(Problem(Kind.EDITED, "edited", index) for index in range(MAX_PROBLEMS))
    assert found.more == 3


def test_what_is_about_an_entry_comes_first_in_the_logs_order() -> None:
    found = Findings()
    for kind, index in ((Kind.GAP, None), (Kind.EDITED, 1), (Kind.REUSED_ID, 0), (Kind.BAD_EVENT, 1), (Kind.EDITED, 0)):
        found.add(kind, "", index)
    assert [(problem.kind, problem.index) for problem in found.sorted()] == [
        (Kind.EDITED, 0), (Kind.REUSED_ID, 0), (Kind.BAD_EVENT, 1), (Kind.EDITED, 1), (Kind.GAP, None),
    ]  # fmt: skip


def test_what_was_found_is_told_by_its_kind() -> None:
    found = Findings()
    found.add(Kind.GAP, "")
    told = [found.has(Kind.GAP), found.has(Kind.EDITED, Kind.GAP), found.has(Kind.EDITED), found.has()]
    assert told == [True, True, False, False]
