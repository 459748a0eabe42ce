"""What commands share: who is calling, how results and errors are shown, exit codes."""

import datetime
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from services.client import Client
    from services.core.trust import Trust
    from services.home import Home


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    REFUSED = 1
    BAD_INPUT = 2
    NOT_FOUND = 3
    CONFLICT = 4
    CHANGES = 5
    INTERRUPTED = 130
    RETRY = 75


EXIT_HELP = (
    "Exit codes: 0 done; 1 refused by a rule, or verification failed; 2 bad input or setting; 3 not found; "
    "4 conflict; 5 something would change: decisions under a simulated bundle, or resources (infra diff --exit-code); "
    "75 try again later (EX_TEMPFAIL); 130 interrupted."
)

Target = Literal["staging", "prod"]
"""Where a version is promoted to and served."""

Version = Annotated[str, typer.Argument(help="NAME@NUMBER, as `ai-infra model list` shows it.")]
As = Annotated[str, typer.Option("--as", envvar="AI_INFRA_AS", help="Name of the person who acts.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def home() -> "Home":
    """The home that AI_INFRA_HOME names."""
    from services.home import Home

    return Home.from_env(os.environ).require()


@contextmanager
def connected(person: str, *, second_key: bool = False) -> Iterator["Client"]:
    """A client of the running platform, as one of the home's people. A pipeline that has a trace says so in TRACEPARENT."""
    from services.client import Client

    given = os.environ.get("TRACEPARENT", "")
    traceparent = given if _TRACEPARENT.fullmatch(given) else ""
    with Client.connect(home(), person, second_key=second_key, traceparent=traceparent) as client:
        yield client


_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""What is none of W3C Trace Context begins a new trace, and stops nobody."""


_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets through and a terminal may obey: DEL, the controls above ASCII, the order of writing."""


def show(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    """JSON to stdout, or what `human` draws."""
    if as_json:
        print(_STEERING.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, indent=2, ensure_ascii=False)))
    else:
        human(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str = "") -> None:
    """A table on the terminal. Cells are plain text: nothing in them is read as markup. empty: said instead of no rows."""
    if not rows:
        say(f"{title}: none{f'; {empty}' if empty else ''}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape("\n".join(map(plain, str(cell).split("\n")))) for cell in row))
    console = Console()
    # In a pipe or a file there is no edge to fold at: an id stays in one piece.
    (console if console.is_terminal else Console(width=max(console.width, 160))).print(drawn)


def say(text: str) -> None:
    """Lines on the terminal. What others wrote cannot steer it."""
    from rich.console import Console
    from rich.markup import escape

    Console().print(escape("\n".join(map(plain, text.split("\n")))), highlight=False, soft_wrap=True, emoji=False)


def plain(text: str) -> str:
    """The text with control characters spelled out: a name could else clear the screen and write `verified` on it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def note(text: str) -> None:
    """One line on stderr, beside the result."""
    sys.stderr.write(f"note: {text}\n")


def short(digest: str | None) -> str:
    """The first 12 hex digits of a digest or id."""
    return "-" if digest is None else digest.removeprefix("sha256:")[:12]


def named(identity: str) -> str:
    """What a table calls a thing: its name, or as much of its digest as other tables show."""
    return short(identity) if identity.startswith("sha256:") else identity


LAST_MS = 253_402_300_799_999
"""The end of the year 9999, and of Python's calendar. An event or a cosignature may state a later time."""


def moment(milliseconds: int) -> str:
    """When it was, in UTC. milliseconds: since the epoch."""
    if milliseconds > LAST_MS:
        return f"{milliseconds:,} ms after 1970"
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def read_file(path: Path) -> bytes:
    """Raises BadInput, naming the file."""
    from services.core.errors import BadInput

    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """What a file of JSON holds. Raises BadInput, naming the file."""
    from services.core.canonical import parse
    from services.core.errors import BadInput, BadJson

    try:
        return parse(read_file(path))
    except BadJson as error:
        raise BadInput(f"{path}: {error}") from error


def read_trust(path: Path | None) -> "Trust":
    """A trust.json; the home's if none is named. Raises BadInput, naming the file."""
    from services.core.errors import BadInput
    from services.core.trust import Trust

    file = path if path is not None else _trust_of_home()
    data = read_file(file)
    try:
        return Trust.parse(data)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def _trust_of_home() -> Path:
    from services.core.errors import BadInput
    from services.home import Home

    found = Home.from_env(os.environ).root / "trust.json"
    if not found.exists():
        raise BadInput("no home is here whose trust.json could be used: name one with --trust")
    return found


def guarded(run: Callable[[], Any], as_json: bool) -> int:
    """Runs a command; an error becomes a message on stderr and an exit code."""
    from services.core.errors import AiInfraError, BadInput

    try:
        run()
        return Exit.OK
    except AiInfraError as error:
        _tell(error, as_json)
        return exit_code(error)
    except OSError as error:
        # A file that is missing, a folder that is a file, a full disk: the system's message names it.
        _tell(BadInput(str(error) if error.filename is None else f"{error.filename}: {error.strerror}"), as_json)
        return Exit.BAD_INPUT
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer makes an exit of this code of Ctrl-C; every other exit has said why.
        if isinstance(ended, SystemExit) and ended.code != Exit.INTERRUPTED:
            raise
        sys.stderr.write("interrupted: what was acknowledged stands; the same command may be given again\n")
        return Exit.INTERRUPTED


def exit_code(error: Exception) -> Exit:
    """The exit code that an error stands for."""
    from services.core import errors

    table: tuple[tuple[type[errors.AiInfraError], Exit], ...] = (
        (errors.Unavailable, Exit.RETRY),
        (errors.NotFound, Exit.NOT_FOUND),
        (errors.Conflict, Exit.CONFLICT),
        (errors.BadInput, Exit.BAD_INPUT),
        (errors.BadSetting, Exit.BAD_INPUT),
    )
    return next((code for kind, code in table if isinstance(error, kind)), Exit.REFUSED)


def _tell(error: Any, as_json: bool) -> None:
    rules = getattr(error, "rules", [])
    if as_json:
        value = {"error": type(error).__name__, "detail": str(error), "retryable": error.retryable, "rules": rules}
        sys.stderr.write(json.dumps(value) + "\n")
        return
    # Further lines are indented: what others wrote in a message looks like no line of ours.
    first, *more = str(error).split("\n")
    sys.stderr.write("".join([f"error: {plain(first)}\n", *(f"  {plain(line.strip())}\n" for line in more if line.strip())]))
    for rule in rules:
        for reason in rule["reasons"] or ["(no reason given)"]:
            sys.stderr.write(f"  {rule['rule']}: {rule['verdict']}: {plain(reason)}\n")
    if any(rule["rule"] == "authz.operation" for rule in rules):
        sys.stderr.write("  --as NAME acts as another person; the --help of a command shows one who has the role for it\n")
    if error.retryable:
        sys.stderr.write("  nothing was changed; try again later\n")
