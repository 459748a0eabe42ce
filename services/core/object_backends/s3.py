"""An S3 bucket with object lock: each object is retained in COMPLIANCE mode, so that nobody can delete it before its time.

The bucket is made with object lock and versioning by the infrastructure program, not here.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

from services.core.digests import CHUNK, require_digest, sha256, sha256_file
from services.core.errors import BadSetting, Unavailable
from services.core.objects import CorruptObject, NoSuchObject, ObjectStore, WrongChecksum

PRODUCTION = True
MAX_OBJECT = 5 << 30
"""Bytes that S3 takes in one request; larger files would need parts, whose checksum is not that of the whole."""


def open_store(location: str) -> ObjectStore:
    """location: `s3://bucket/prefix?retention_days=N&endpoint=URL`; endpoint only for what is not AWS.

    Raises:
        BadSetting: another form, or no retention of a day or more.
    """
    import boto3
    from botocore.config import Config

    parts = urlsplit(location)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    days = options.pop("retention_days", "")
    endpoint = options.pop("endpoint", None)
    if parts.scheme != "s3" or not parts.netloc or options:
        raise BadSetting(f"object store {location!r}: want s3://bucket/prefix?retention_days=N")
    if not days.isdigit() or int(days) < 1:
        raise BadSetting(f"object store {location!r}: retention_days is 1 or more; without it anyone with the key can delete")
    settings = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "max_attempts": 3})
    client = boto3.client("s3", endpoint_url=endpoint, config=settings)
    return S3Store(client, parts.netloc, parts.path.strip("/"), int(days))


class S3Store:
    """Keys are `prefix/<64 hex digits>`. Writes say If-None-Match: *, and S3 checks the SHA-256 before it makes them visible."""

    def __init__(self, client: Any, bucket: str, prefix: str, retention_days: int) -> None:
        self._client, self._bucket, self._prefix, self._days = client, bucket, prefix, retention_days

    def put(self, data: bytes) -> str:
        digest = sha256(data)
        self._write(digest, data)
        return digest

    def put_file(self, path: Path, expected: str | None = None) -> str:
        digest = sha256_file(path)
        if expected is not None and digest != expected:
            raise WrongChecksum(f"the bytes have digest {digest}, not {expected}")
        if path.stat().st_size > MAX_OBJECT:
            raise WrongChecksum(f"{path.stat().st_size} bytes: S3 checks the digest of {MAX_OBJECT} at most; split the file")
        with path.open("rb") as source:
            # A file that changes after it was hashed is refused by S3: the checksum is the one of before.
            self._write(digest, source)
        return digest

    def get(self, digest: str) -> bytes:
        with self.open(digest) as source, _answers(digest):
            data = source.read()
        if sha256(data) != digest:
            raise CorruptObject(f"object {digest} does not have the bytes that its name says")
        return data

    def open(self, digest: str) -> BinaryIO:
        with _answers(digest):
            return cast(BinaryIO, self._client.get_object(**self._at(digest))["Body"])

    def copy_to(self, digest: str, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        hasher = hashlib.sha256()
        with self.open(digest) as source, _answers(digest), partial.open("wb") as target:
            while chunk := source.read(CHUNK):
                hasher.update(chunk)
                target.write(chunk)
        if "sha256:" + hasher.hexdigest() != digest:
            partial.unlink()
            raise CorruptObject(f"object {digest} does not have the bytes that its name says")
        partial.rename(path)

    def has(self, digest: str) -> bool:
        try:
            self.size(digest)
        except NoSuchObject:
            return False
        return True

    def size(self, digest: str) -> int:
        with _answers(digest):
            return int(self._client.head_object(**self._at(digest))["ContentLength"])

    def _at(self, digest: str) -> dict[str, str]:
        name = require_digest(digest).removeprefix("sha256:")
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}" if self._prefix else name}

    def _write(self, digest: str, body: bytes | BinaryIO) -> None:
        from botocore.exceptions import ClientError

        checksum = base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()
        with _answers(digest):
            try:
                self._client.put_object(
                    **self._at(digest),
                    Body=body,
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                    # On each object: a bucket's default retention is not shown by every store, and can be changed.
                    ObjectLockMode="COMPLIANCE",
                    ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=self._days),
                )
            except ClientError as error:
                # It is there already, or another writer of the same bytes was faster.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                    raise


@contextmanager
def _answers(digest: str) -> Iterator[None]:
    """boto's errors as ours. A refusal of the credentials is told as Unavailable too: it is the operator's to mend."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if status == 404 and code != "NoSuchBucket":
            raise NoSuchObject(f"no object {digest}") from error
        if code in ("BadDigest", "XAmzContentChecksumMismatch"):
            raise WrongChecksum(f"the bytes that arrived are not {digest}") from error
        raise Unavailable(f"the object store refused object {digest}: {code}") from error
    except (BotoCoreError, HTTPError) as error:
        raise Unavailable(f"the object store did not answer: {type(error).__name__}") from error
