"""What a predictor is told to serve. Pure values; nothing in an order is believed before it is verified."""

from dataclasses import dataclass
from typing import Any

from services.core.digests import FileEntry, require_digest, require_files


@dataclass(frozen=True, kw_only=True)
class Order:
    """files: of the artifact; manifest, bundle: object digests of the Manifest's envelope and of the OMS bundle."""

    deployment: str
    environment: str
    model: str
    number: int
    artifact_id: str
    files: tuple[FileEntry, ...]
    manifest: str
    bundle: str

    def to_json(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment,
            "environment": self.environment,
            "model": self.model,
            "number": self.number,
            "artifactId": self.artifact_id,
            "files": [entry.to_json() for entry in self.files],
            "manifest": self.manifest,
            "bundle": self.bundle,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Order":
        """Raises BadInput for a bad digest or file entry, KeyError for a missing field."""
        return cls(
            deployment=value["deployment"],
            environment=value["environment"],
            model=value["model"],
            number=value["number"],
            artifact_id=require_digest(value["artifactId"]),
            files=tuple(require_files(value["files"])),
            manifest=require_digest(value["manifest"]),
            bundle=require_digest(value["bundle"]),
        )
