"""What a verification found, link by link."""

from dataclasses import dataclass
from typing import Any

OK, BROKEN, NOT_CLAIMED, NOT_CHECKABLE, NOT_REACHED = "ok", "broken", "not claimed", "not checkable", "not reached"


@dataclass(frozen=True)
class Link:
    """One link of the chain. name: what `--json` and the exit message call it; detail: what was found."""

    name: str
    status: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"link": self.name, "status": self.status, "detail": self.detail}


@dataclass(frozen=True)
class Report:
    """subject: what the archive is about; links: in the order of the walk; warnings: what the log tells that came later."""

    subject: str
    links: tuple[Link, ...]
    warnings: tuple[str, ...] = ()

    @property
    def broken(self) -> Link | None:
        """The first broken link."""
        return next((link for link in self.links if link.status == BROKEN), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "verified": self.broken is None,
            "brokenLink": self.broken.name if self.broken else None,
            "links": [link.to_json() for link in self.links],
            "warnings": list(self.warnings),
        }
