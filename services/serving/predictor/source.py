"""What a predictor in a cluster is started from, as a URI: `ai-infra://DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE`.

The last three are digests of objects: the artifact's list of files, the envelope of its Manifest, and its OMS bundle. So the whole
order can be read from the object store alone. Nothing in it is believed before it is verified.
"""

import re
from dataclasses import dataclass
from typing import Protocol, Self

from services.core import dsse
from services.core.canonical import parse as parse_json
from services.core.digests import require_digest, require_files
from services.core.errors import BadInput
from services.core.statements import Manifest, expect
from services.serving.predictor.order import Order

SCHEME = "ai-infra://"
URI = f"{SCHEME}[a-z0-9-]{{1,63}}(/sha256:[0-9a-f]{{64}}){{3}}"
"""A regular expression, the same for Python and for CEL (RE2)."""


class Objects(Protocol):
    """Bytes by digest: all that verifying needs of an object store."""

    def get(self, digest: str) -> bytes:
        """As `ObjectStore.get`."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """artifact, manifest, bundle: digests of objects."""

    deployment: str
    artifact: str
    manifest: str
    bundle: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Raises BadInput."""
        if not re.fullmatch(URI, uri):
            form = f"{SCHEME}DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE"
            raise BadInput(f"storage URI {uri[:300]!r}: want {form}, the last three as sha256:…")
        deployment, *digests = uri.removeprefix(SCHEME).split("/")
        artifact, manifest, bundle = map(require_digest, digests)
        return cls(deployment=deployment, artifact=artifact, manifest=manifest, bundle=bundle)

    @classmethod
    def of(cls, order: Order) -> Self:
        return cls(deployment=order.deployment, artifact=order.artifact_id, manifest=order.manifest, bundle=order.bundle)

    def __str__(self) -> str:
        return f"{SCHEME}{self.deployment}/{self.artifact}/{self.manifest}/{self.bundle}"

    def order(self, environment: str, objects: Objects) -> Order:
        """The order, completed from what the digests name. environment: the one that is served here.

        Raises:
            BadInput, CorruptObject, NotFound: an object is not there, or is not what the URI calls it. Unavailable: retry.
        """
        files = require_files(parse_json(objects.get(self.artifact)))
        manifest = expect(Manifest, dsse.parse(objects.get(self.manifest)).payload)
        return Order(
            deployment=self.deployment,
            environment=environment,
            model=manifest.model,
            number=manifest.number,
            artifact_id=self.artifact,
            files=tuple(files),
            manifest=self.manifest,
            bundle=self.bundle,
        )
