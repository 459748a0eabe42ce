"""One SQLAlchemy Core engine for each database: SQLite by default, PostgreSQL in production. An ORM cost 2 to 4.5 times as much."""

import select
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidatePoolError, OperationalError

from services.core.errors import BadInput, Conflict, Unavailable
from services.core.storage import why
from services.core.transactions import RELAXED, part, transaction

BUSY_TIMEOUT_MS = 5_000
"""How long a write waits for another one, on both databases."""
PAGE_BYTES = 2048
"""Of a new SQLite file; one that is there keeps its own. A commit writes a whole page of the table and of each index: half of
SQLite's own size is half the bytes that it waits for. Files are no larger for it, and reading all of one is no slower."""
CONNECT_TIMEOUT_S = 5
SILENCE = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 15_000}
"""Of TCP: a server that is gone without a word, as after a failover, is given up after 15 s; Linux waits for a quarter of an hour,
for an answer that is still to come for two hours. Seconds, the last in milliseconds."""
POSTGRESQL_OPTIONS = f"-c lock_timeout={BUSY_TIMEOUT_MS} -c synchronous_commit=on"
POOL = 20
"""Connections to PostgreSQL that are kept open: opening one costs it a new process. As many again when all are busy."""
_within = threading.local()
"""engines: those that this thread is in a write transaction of."""
IAM = "aws_region"
"""Parameter of a PostgreSQL URL: the password of each new connection is a token that AWS signs for the process' own role."""
UNIQUE = frozenset({"23505", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"})


def open_engine(url: str) -> Engine:
    """An engine whose commits are durable when they return. Creates no table.

    Its connections raise Unavailable where the database is locked, full, read-only or away, in reads as in writes, and BadInput for
    a value that it cannot hold.
    SQLite: WAL, synchronous=FULL, foreign keys enforced. PostgreSQL: synchronous commit, waits bounded as on SQLite.
    With `?aws_region=REGION` it logs in to RDS by IAM: the URL holds no password.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "reset", _strict)
        # Python's sqlite3 would begin a deferred transaction by itself, which fails with "locked" when it turns into a write.
        event.listen(engine, "begin", lambda connection: None)
    else:
        region = make_url(url).query.get(IAM)
        wanted = make_url(url).difference_update_query([IAM])
        limits = {"connect_timeout": CONNECT_TIMEOUT_S, "options": POSTGRESQL_OPTIONS, **SILENCE}
        # A read is one statement then, where the driver would begin and roll back around it; `begin` says BEGIN itself.
        engine = create_engine(wanted, isolation_level="AUTOCOMMIT", pool_size=POOL, max_overflow=POOL, connect_args=limits)
        event.listen(engine, "checkout", _require_silent)
        if isinstance(region, str):
            event.listen(engine, "do_connect", _token(wanted, region))
    event.listen(engine, "handle_error", _as_ours)
    return engine


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    pragmas = (
        f"page_size={PAGE_BYTES}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    )
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _token(url: URL, region: str) -> Callable[..., None]:
    """Sets the password of each connection when it is made: a token is good for 15 minutes, and a connection for longer."""
    import boto3  # part of the extra `s3`
    from botocore.exceptions import BotoCoreError

    signer = boto3.Session().client("rds", region_name=region)

    def give(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        try:
            options["password"] = signer.generate_db_auth_token(url.host, url.port or 5432, url.username, region)
        except BotoCoreError as error:
            raise Unavailable(f"no token for the database user {url.username}: {error}") from error

    return give


def _require_silent(connection: Any, _record: Any, _proxy: Any) -> None:
    """Makes the pool connect anew after the server ended: an idle connection has nothing to read but its end.

    Cheaper than a ping by a round trip; one that is cut off without a word is found by the next statement, and is Unavailable
    once SILENCE is over.
    """
    if not connection.closed:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if not waiting.poll(0):
            return
    raise InvalidatePoolError


def _as_ours(context: ExceptionContext) -> BaseException | None:
    """The error that callers know for one of the database; None leaves it as it is."""
    if isinstance(context.sqlalchemy_exception, OperationalError) or context.is_disconnect:
        return Unavailable(f"the database did not answer: {why(context.original_exception)}")
    if isinstance(context.sqlalchemy_exception, DataError):
        # PostgreSQL has no NUL in a text, and SQLite has: an id or a name with one is its sender's error.
        return BadInput(f"the database holds no such value: {context.original_exception}")
    return None


@contextmanager
def begin(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """One write transaction: committed at the end, rolled back on an exception. One at a time in each database, so that what it
    reads cannot change before it commits; readers are not held up.

    Threads that write at once share a commit (see `transactions`). One that fails undoes its own part alone. Read through this
    connection: another one does not see what was written before in the transaction.

    durable: False for what is written again if a power cut takes it: the commit does not wait for the disk.
    Raises:
        Unavailable: the database is locked, full or away, or broke off a deadlock; nothing was written; retry.
        Conflict: a row of this key is there already; nothing was written.
        RuntimeError: this thread is in a write transaction of this engine already, or the error of a statement was caught within:
            errors of the program.
    """
    with _as_said(), _not_within(engine), part(engine, durable=durable, timeout_s=BUSY_TIMEOUT_MS / 1000) as connection:
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it was at its first read, whatever is written meanwhile; writers are not held up.

    Raises:
        Unavailable: the database did not answer; retry.
    """
    level = "" if engine.dialect.name == "sqlite" else " ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"BEGIN{level}")
        try:
            yield connection
        finally:
            connection.exec_driver_sql("ROLLBACK")


def transactional(engine: Engine) -> Connection:
    """A connection whose statements stand or fall together until it commits, on PostgreSQL too: what Alembic expects."""
    connection = engine.connect()
    return connection if engine.dialect.name == "sqlite" else connection.execution_options(isolation_level="READ COMMITTED")


class Writer:
    """`begin` for one who writes often, one transaction after the other; not for two threads at once.

    It keeps its connection to SQLite, since to take one from the pool costs half an insert. One to a server may be gone by the
    next time, which the pool finds out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """See `begin`."""
        with _not_within(self._engine), self._connection() as connection, transaction(connection):
            yield connection

    def insert(self, statement: str, row: tuple[Any, ...]) -> None:
        """One row, by the driver's own statement; durable when this returns. Raises as `begin`.

        A statement is a transaction by itself: no other write comes between, and nothing is asked of the database but this.
        SQLite's driver is given it past SQLAlchemy, which takes a sixth of an append's time.
        """
        with self._connection() as connection:
            if self._engine.dialect.name == "sqlite":
                driver: Any = connection.connection.driver_connection
                driver.execute(statement, row)
            else:
                connection.exec_driver_sql(statement, row)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with _as_said():
            # After an error the connection goes back to the pool, and the next transaction takes another.
            connection, self._kept = self._kept or self._engine.connect(), None
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if self._engine.dialect.name == "sqlite":
                self._kept = connection
            else:
                connection.close()


@contextmanager
def _not_within(engine: Engine) -> Iterator[None]:
    own: set[Engine] = vars(_within).setdefault("engines", set())
    if engine in own:
        raise RuntimeError("begin within begin on one database: the inner would wait for the outer; pass its connection on")
    own.add(engine)
    try:
        yield
    finally:
        own.discard(engine)


@contextmanager
def _as_said() -> Iterator[None]:
    """The database's errors as `begin` names them."""
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as error:
        raise Unavailable(f"the database did not take the write: {why(getattr(error, 'orig', error))}") from error
    except (IntegrityError, sqlite3.IntegrityError) as error:
        if _constraint(getattr(error, "orig", error)) in UNIQUE:
            raise Conflict("another write took this name or id first: repeat the call to see it") from error
        raise
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the database connection was lost") from error
        raise


def _constraint(error: BaseException | None) -> str:
    """Which constraint was hurt: SQLite's name of the error, PostgreSQL's SQLSTATE."""
    if isinstance(error, sqlite3.Error):
        return str(error.sqlite_errorname)
    return str(getattr(error, "sqlstate", ""))


def _strict(connection: Any, record: Any, _state: Any) -> None:
    if record.info.pop(RELAXED, False):
        connection.execute("PRAGMA synchronous=FULL")
