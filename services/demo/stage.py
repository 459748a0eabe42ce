"""How the demo tells its story and keeps account of what it showed. A claim that does not hold ends the demo."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from services.core.errors import AiInfraError, Refused


class ClaimFailed(AiInfraError):
    """What the demo says did not happen."""


@dataclass
class Stage:
    """console: where the story is told; shown: what was claimed and held; times: seconds by chapter."""

    console: Console = field(default_factory=lambda: _console())
    shown: list[dict[str, Any]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    _chapter: str = ""

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """One step of the main job."""
        self._chapter, begun = title, time.monotonic()
        self.console.rule(f"[bold]{escape(title)}[/bold]", align="left")
        try:
            yield
        finally:
            self.times[title] = round(time.monotonic() - begun, 1)

    @contextmanager
    def wait(self, text: str) -> Iterator[None]:
        """A spinner while something takes time."""
        with self.console.status(escape(text)):
            yield

    def tell(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def claim(self, text: str, holds: bool, detail: str = "") -> None:
        """Says what was shown. Raises ClaimFailed if it does not hold."""
        if not holds:
            raise ClaimFailed(f"{self._chapter}: not shown: {text}. {detail}")
        self.shown.append({"step": self._chapter, "claim": text, "detail": detail})
        line = Text.from_markup(f"{escape(text)}[dim]{escape(f'  {detail}' if detail else '')}[/dim]")
        if not self.console.is_terminal:
            self.console.print(Text("  ✓ ") + line, highlight=False, soft_wrap=True)
            return
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row("  [green]✓[/green]", line)
        self.console.print(row, highlight=False)

    def refused(self, text: str, rule: str, act: Callable[[], Any]) -> None:
        """Claims that an act is refused by this rule. Other rules may refuse it too, for what follows from the same fault."""
        try:
            act()
        except Refused as error:
            by = {item["rule"]: "; ".join(item["reasons"]) for item in error.rules}
            others = [name for name in by if name != rule]
            detail = f"{rule}: {by[rule]}" if rule in by else f"by {others}: {error}"
            self.claim(f"refused: {text}", rule in by, detail + (f" (also {', '.join(others)})" if rule in by and others else ""))
        else:
            self.claim(f"refused: {text}", False, "it was allowed")

    def finish(self, json_file: Path | None, home: Path) -> None:
        """How much each step showed, and how long it took."""
        total = time.monotonic() - self.begun
        table = Table(title=f"shown in {total:.0f} s", title_justify="left", header_style="bold")
        table.add_column("step")
        for column in ("shown", "seconds"):
            table.add_column(column, justify="right")
        for step, count in Counter(item["step"] for item in self.shown).items():
            table.add_row(escape(step), str(count), f"{self.times[step]:.0f}")
        self.console.print(table)
        if json_file is not None:
            value = {"ok": True, "seconds": round(total, 1), "times": self.times, "shown": self.shown, "home": str(home)}
            json_file.write_text(json.dumps(value, indent=2) + "\n")


def _console() -> Console:
    """The terminal; where there is none, lines of 140 characters, so that logs can be read."""
    console = Console()
    return console if console.is_terminal else Console(width=140)
