"""The folder that the storage initialiser completes, and the predictor's objects that lie in it.

Below the folder that KServe mounts:

    incoming/                  a download that is not verified; nobody starts from it
    verified/source            the storage URI that it was initialised from
    verified/files.json        the artifact's list of files
    verified/manifest.dsse.json
    verified/model/…           the artifact, and model.sig: a tree that the stock `model_signing verify` takes
"""

import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from services.core.canonical import parse as parse_json
from services.core.digests import FileEntry, require_files, sha256
from services.core.errors import BadInput, NotFound, Unavailable
from services.core.objects import CorruptObject
from services.core.oms import SIGNATURE_FILE
from services.serving.errors import LoadRefused
from services.serving.predictor.source import Source

INCOMING, VERIFIED = "incoming", "verified"
SOURCE, FILES, MANIFEST, MODEL = "source", "files.json", "manifest.dsse.json", "model"


class ModelFolder:
    """Objects by digest, out of a folder in the form above. It believes nothing in it but digests that it recomputed."""

    def __init__(self, root: Path) -> None:
        """root: `verified` or `incoming`."""
        self.root = root

    @cached_property
    def source(self) -> Source:
        """Raises LoadRefused: the folder was not completed. BadInput."""
        try:
            text = (self.root / SOURCE).read_text()
        except FileNotFoundError as error:
            raise LoadRefused(f"{self.root} was not initialised: the storage initialiser has to complete it first") from error
        return Source.parse(text)

    @cached_property
    def entries(self) -> list[FileEntry]:
        return require_files(parse_json(self._read(self.root / FILES, self.source.artifact)))

    def get(self, digest: str) -> bytes:
        """As `ObjectStore.get`."""
        if digest == self.source.artifact:
            return self._read(self.root / FILES, digest)
        if digest not in self._paths:
            raise NotFound(f"no object {digest} in {self.root}")
        return self._read(self._paths[digest], digest)

    def require_complete(self) -> None:
        """Raises LoadRefused: a file is there that was not initialised, or one is missing."""
        wanted = {self.root / SOURCE, self.root / FILES, self.root / MANIFEST, self.model / SIGNATURE_FILE}
        wanted |= {self.model / entry.path for entry in self.entries}
        found = {Path(folder, name) for folder, _, names in os.walk(self.root) for name in names}
        if strange := sorted(str(path.relative_to(self.root)) for path in found ^ wanted):
            raise LoadRefused(f"{self.root} is not the folder that was initialised: {', '.join(strange[:5])}")

    @property
    def model(self) -> Path:
        return self.root / MODEL

    @cached_property
    def _paths(self) -> Mapping[str, Path]:
        files = {entry.sha256: self.model / entry.path for entry in self.entries}
        return files | {self.source.manifest: self.root / MANIFEST, self.source.bundle: self.model / SIGNATURE_FILE}

    def _read(self, path: Path, digest: str) -> bytes:
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BadInput(f"{path} is a link or a device: want a plain file")
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{path} is not there") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
        if sha256(data) != digest:
            raise CorruptObject(f"{path} does not have the bytes of {digest}")
        return data
