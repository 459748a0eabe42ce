"""Results that are kept between runs by what they were made from: plans, and what a base makes. The folder may go at any time."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

NEWEST: Final = 24
"""Files of a kind that stay."""


def load(file: Path) -> Any:
    """What was kept; nothing where nothing was."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def keep(file: Path, value: Any) -> None:
    """There whole or not at all. Of the files of its kind, which is the name up to the first hyphen, the newest stay."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as written:
        json.dump(value, written)
    os.replace(written.name, file)
    kind = file.name.split("-")[0]
    for old in sorted(file.parent.glob(f"{kind}-*.json"), key=lambda found: found.stat().st_mtime)[:-NEWEST]:
        old.unlink(missing_ok=True)
