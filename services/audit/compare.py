"""Compares the table of events with the published entries while those are checked, so that no entry is parsed twice."""

from collections.abc import Iterator
from typing import Any

from services.audit.domain import Row
from services.core.errors import BadInput
from services.core.logentry import NO_PREVIOUS, chain_hash, parse_leaf
from services.core.logfindings import Findings, Kind


class TableCheck:
    """`see` every published entry in order, then `finish`.

    A row that says what its published entry says is right if that entry is, which is for `check_log` to tell. Any other row is
    checked by itself: one of a damaged entry, one that differs, one not published yet.

    rows: the whole table in order, columns as `domain.Row` has them.
    """

    def __init__(self, rows: Iterator[tuple[Any, ...]], found: Findings) -> None:
        self._rows, self._found = rows, found
        self._size = 0
        self._last: bytes | None = None
        self._hole = False

    def see(self, index: int, event: dict[str, Any], leaf: bytes) -> None:
        """A well-formed published entry; not called for a damaged one."""
        while (row := self._next()) is not None:
            # Nearly every row is right: compared as it is, without making a Row of the event.
            subject = event["subject"]
            if row == (
                index, event["id"], event["source"], event["seq"], event["ts"], event["type"], subject["kind"], subject["id"], leaf
            ):  # fmt: skip
                self._last = leaf
                return
            if row[0] == index and row[-1] != leaf:
                self._found.add(Kind.TABLE, "the table's leaf is not the published entry", index)
            self._check(Row._make(row))
            if row[0] == index:
                return

    def finish(self, published: int) -> None:
        """Rows after the last entry seen. published: entries under the checkpoint."""
        while (row := self._next()) is not None:
            self._check(Row._make(row))
        if self._size < published and not self._hole:
            self._found.add(Kind.TABLE, f"the table holds {self._size} entries, {published} are published")

    def _next(self) -> tuple[Any, ...] | None:
        row = None if self._hole else next(self._rows, None)
        if row is None:
            return None
        if row[0] != self._size:
            self._found.add(Kind.TABLE, f"the table has no row {self._size}, the next is {row[0]}", self._size)
            self._hole = True
            return None
        self._size += 1
        return row

    def _check(self, row: Row) -> None:
        previous, self._last = NO_PREVIOUS if self._last is None else chain_hash(self._last), row.leaf
        try:
            event, prev_hash = parse_leaf(row.leaf)
            if Row.of(row.at, event, row.leaf) != row:
                self._found.add(Kind.TABLE, "the table's columns are not what its leaf says", row.at)
            if prev_hash != previous:
                self._found.add(Kind.TABLE, "the table's leaf does not follow the one before it", row.at)
        except BadInput as error:
            self._found.add(Kind.TABLE, f"the table's leaf is no event: {error}", row.at)
