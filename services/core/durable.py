"""What a file system needs to be told so that a crash does not take a name back."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
