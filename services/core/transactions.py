"""How a write transaction begins and ends on each database, and how several threads share one. For callers it is in `database`."""

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from services.core.errors import Unavailable
from services.core.turns import Shared, Turns

WRITER = 0x616931
"""Key of the advisory lock that a write transaction on PostgreSQL holds; locks are per database."""
RELAXED = "relaxed"
"""Mark of an SQLite connection that does not wait for the disk."""
_turns: "weakref.WeakKeyDictionary[Engine, Turns]" = weakref.WeakKeyDictionary()
_known: "weakref.WeakKeyDictionary[Connection, dict[Any, Any]]" = weakref.WeakKeyDictionary()


def known(connection: Connection) -> dict[Any, Any]:
    """What writers noted of the rows that they wrote in this transaction: nobody else writes, so it holds until a part is
    undone. Of a connection without a shared transaction nothing is kept.
    """
    return _known.get(connection, {})


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """One of its own, durable when this returns."""
    _start(connection, durable=True)
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise
    _commit(connection)


@contextmanager
def part(engine: Engine, *, durable: bool, timeout_s: float) -> Iterator[Connection]:
    """A writer's part of a transaction that is committed when this returns; after an error the part is undone, and no other.

    timeout_s: how long it may take until other threads are done.
    Raises:
        Unavailable: it took longer, or the transaction broke with another's part; nothing was written; retry.
        RuntimeError: the error of a statement was caught within: an error of the program.
    """
    turns = _turns.setdefault(engine, Turns())
    shared = turns.take(durable, timeout_s) or _opened(engine, durable, turns)
    first = shared.writers == 1
    # A name of its own: should making it fail, going back to it fails too, and does not go back to that of the part before.
    savepoint = f"part{shared.writers}"
    try:
        if not first:
            shared.connection.exec_driver_sql(f"SAVEPOINT {savepoint}")
        yield shared.connection
        _require_sound(shared.connection)
    except BaseException as error:
        if first or not _took_back(shared.connection, savepoint):
            _give_up(shared, turns, error)
        elif not turns.pass_on(shared):
            # The parts before this one stand. What becomes of them, their writers are told.
            with suppress(Exception):
                _finish(shared, turns)
        raise
    if turns.pass_on(shared):
        shared.wait()
    else:
        _finish(shared, turns)


def _opened(engine: Engine, durable: bool, turns: Turns) -> Shared:
    try:
        connection = engine.connect()
        try:
            _start(connection, durable=durable)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        turns.end()
        raise
    _known[connection] = {}
    return Shared(connection, durable)


def _finish(shared: Shared, turns: Turns) -> None:
    """Commits for all writers."""
    failed: BaseException | None = None
    try:
        _commit(shared.connection)
    except BaseException as error:
        failed = error
        raise
    finally:
        _end(shared, turns, failed)


def _give_up(shared: Shared, turns: Turns, error: BaseException) -> None:
    """Writes nothing, for none of the writers."""
    try:
        _roll_back(shared.connection)
    finally:
        _end(shared, turns, error)


def _end(shared: Shared, turns: Turns, error: BaseException | None) -> None:
    try:
        shared.connection.close()
    finally:
        shared.end(error)
        turns.end()


def _took_back(connection: Connection, savepoint: str) -> bool:
    """Whether the last writer's part is undone, and no other. Raises nothing: the error that led here is raised on."""
    known(connection).clear()
    try:
        connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {savepoint}")
    except BaseException:
        return False
    return True


def _require_sound(connection: Connection) -> None:
    """Else a commit would write nothing, on PostgreSQL without an error, and the parts of others would be gone."""
    driver: Any = connection.connection.driver_connection
    sqlite = connection.dialect.name == "sqlite"
    if not (driver.in_transaction if sqlite else driver.info.transaction_status.name == "INTRANS"):
        raise RuntimeError("a statement of this transaction failed, and its error was caught within: let it end the transaction")


def _start(connection: Connection, *, durable: bool) -> None:
    if connection.dialect.name == "sqlite":
        if not durable:
            # The connection stays so until it is given back, which `_strict` of `database` sees to.
            connection.info[RELAXED] = True
            connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
        # IMMEDIATE takes the write lock now, so a transaction that read first cannot fail half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # As above for PostgreSQL, whose transactions would else both find a name free and both take it. In one round trip;
    # where the wait for the lock ends it, the pool rolls back what had begun.
    relaxed = "" if durable else "; SET LOCAL synchronous_commit=off"
    connection.exec_driver_sql(f"BEGIN{relaxed}; SELECT pg_advisory_xact_lock({WRITER})")


def _commit(connection: Connection) -> None:
    """As a statement, which the engine's hooks see like every other one."""
    try:
        connection.exec_driver_sql("COMMIT")
    except (OperationalError, Unavailable):
        _roll_back(connection)
        raise
    connection.commit()


def _roll_back(connection: Connection) -> None:
    """Never hides the error that led here: a connection that cannot roll back is closed, which does the same."""
    try:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("ROLLBACK")
        connection.rollback()
    except (SQLAlchemyError, Unavailable) as error:
        logging.getLogger(__name__).debug("rollback: %s", error)
        connection.invalidate()
