"""Hooks around every statement of an engine, those too that code gives to SQLite's driver past SQLAlchemy."""

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

Hook = Callable[[str, bool], None]
"""Gets the statement, and whether it is a transaction by itself; fails it by SQLAlchemy's OperationalError."""


def around_statements(engine: Engine, before: Hook, after: Hook) -> None:
    """For the engine's connections that are made from now on. after: not called for a statement that failed."""
    event.listen(engine, "before_cursor_execute", lambda c, _, statement, *__: before(statement, not _in_transaction(c)))
    event.listen(engine, "after_cursor_execute", lambda c, _, statement, *__: after(statement, not _in_transaction(c)))

    class Hooked(sqlite3.Connection):
        """SQLAlchemy executes by cursors: what is executed by the connection goes past it."""

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            _raised(before, statement)
            cursor = super().execute(statement, *values)
            _raised(after, statement)
            return cursor

    def connect(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        options["factory"] = Hooked

    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", connect)
        engine.dispose()


def _raised(hook: Hook, statement: str) -> None:
    try:
        hook(statement, True)
    except OperationalError as error:
        raise sqlite3.OperationalError(str(error.orig)) from error


def _in_transaction(connection: Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return bool(driver.in_transaction)
    return bool(driver.info.transaction_status != driver.info.transaction_status.IDLE)
