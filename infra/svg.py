"""A drawing of cards in frames, with arrows between them, as SVG that is read on light and on dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

LINE: Final = 17
"""Pixels from one line of a card to the next."""

STYLE: Final = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 20px; font-weight: 600 }
.name { font-weight: 600 } .quiet { fill: #616e7c } .head { font-weight: 600; fill: #3e4c59 }
.page { fill: #ffffff }
.frame { fill: none; stroke: #9aa5b1; stroke-dasharray: 5 4 } .area { fill: #f5f7fa; stroke: #cbd2d9 }
.card { fill: #ffffff; stroke: #9aa5b1 } .locked { stroke: #b44d12; stroke-width: 2 } .spot { stroke-dasharray: 4 3 }
.key { fill: #0b69a3 } .lock { fill: #b44d12 } .arrow { fill: none; stroke: #52606d; stroke-width: 1.3 } .tip { fill: #52606d }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7eb } .quiet { fill: #9aa5b1 } .head { fill: #cbd2d9 } .page { fill: #12181f } .frame { stroke: #616e7c }
.area { fill: #1b232c; stroke: #3e4c59 } .card { fill: #12181f; stroke: #616e7c } .locked { stroke: #f0a46c }
.key { fill: #6cc0f5 } .lock { fill: #f0a46c } .arrow { stroke: #9aa5b1 } .tip { fill: #9aa5b1 }
}
"""


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(frozen=True, kw_only=True)
class Card:
    """hint: what a pointer over it shows; key: what encrypts it; lock: why nobody deletes from it."""

    name: str
    lines: Sequence[str] = ()
    hint: str
    key: str = ""
    lock: str = ""
    style: str = ""

    @property
    def height(self) -> int:
        return 12 + LINE * (1 + len(self.lines) + bool(self.key) + bool(self.lock))


class Sheet:
    """Elements in the order in which they are painted."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def box(self, box: Box, style: str, hint: str = "") -> None:
        title = f"<title>{escape(hint)}</title>" if hint else ""
        self._parts.append(
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" class="{style}">{title}</rect>'
        )

    def put(self, other: "Sheet") -> None:
        """All of another sheet on top."""
        self._parts.extend(other._parts)

    def text(self, x: int, y: int, text: str, style: str = "") -> None:
        marked = f' class="{style}"' if style else ""
        self._parts.append(f'<text x="{x}" y="{y}"{marked}>{escape(text)}</text>')

    def card(self, x: int, y: int, width: int, card: Card) -> Box:
        box = Box(x, y, width, card.height)
        self.box(box, f"card {card.style} {'locked' if card.lock else ''}".strip(), card.hint)
        lines = [(card.name, "name"), *((line, "quiet") for line in card.lines)]
        lines += [(card.lock, "lock")] if card.lock else []
        lines += [(f"key: {card.key}", "key")] if card.key else []
        for number, (text, style) in enumerate(lines):
            self.text(x + 10, y + 19 + LINE * number, text, style)
        return box

    def arrow(self, start: Box, end: Box, hint: str) -> None:
        """From the side that faces the other box. Between columns it goes over the middle of the gap."""
        if end.x >= start.right:
            x1, y1, x2, y2 = start.right, start.y + start.height // 2, end.x, end.y + end.height // 2
            middle = x2 - 20
            path = f"M{x1} {y1} H{middle} V{y2} H{x2 - 6}" if y1 != y2 else f"M{x1} {y1} H{x2 - 6}"
            tip = f"M{x2} {y2} l-8 -4 v8 z"
        else:
            up = end.y < start.y
            x = max(start.x, end.x) + min(start.width, end.width) // 2
            y1, y2 = (start.y, end.bottom) if up else (start.bottom, end.y)
            path = f"M{x} {y1} V{y2 + (6 if up else -6)}"
            tip = f"M{x} {y2} l-4 {8 if up else -8} h8 z"
        self._parts.append(f'<g><title>{escape(hint)}</title><path class="arrow" d="{path}"/><path class="tip" d="{tip}"/></g>')

    def document(self, width: int, height: int, title: str) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        )
        page = f'<rect class="page" width="{width}" height="{height}"/>'
        parts = [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", page, *self._parts, "</svg>"]
        return "\n".join(parts) + "\n"
