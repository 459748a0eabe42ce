"""The published log in a folder: each file appears whole or not at all."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from services.core.durable import sync_folder
from services.core.logfile import FolderReader
from services.core.storage import writing


class FolderStore(FolderReader):
    """Implements ports.LogStore. One process writes; any number read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._root = folder

    def write(self, path: str, data: bytes) -> None:
        target = self._root / path
        # One writer, so one name will do; a crash leaves it behind, and the next write of this file replaces it.
        temporary = target.with_name(f".{target.name}.tmp")
        with writing(f"{path} of the log could not be written"):
            self._make(target.parent)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_folder(target.parent)

    def remove_partials(self, path: str) -> None:
        with writing(f"partial forms of {path} could not be removed"), suppress(FileNotFoundError):
            shutil.rmtree(self._root / f"{path}.p")

    def _make(self, folder: Path) -> None:
        """Makes a folder whose own entry is durable too."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
