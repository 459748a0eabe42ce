"""Asks the log's witnesses to cosign a checkpoint (C2SP tlog-witness). A witness that is away holds nobody up for long."""

import logging
import time
from collections.abc import Callable, Sequence

import httpx

from services.core import cosignature, tlog
from services.core.errors import AiInfraError
from services.core.keys import BadSignature
from services.core.tlog import BadLogFormat, VerifierKey
from services.witness.service import Request

TIMEOUT_S = 2.0
PAUSE_S = 5.0
"""How long a witness that failed is left alone, so that it does not slow each publication."""

MAX_TRIES = 3
"""A witness that follows faster logs than this one asks for: each 409 names the size to start from."""

Proof = Callable[[int], list[bytes]]
"""Size of an older tree to its consistency proof up to the checkpoint in question."""

log = logging.getLogger(__name__)


class Witness:
    """One witness at its URL. problem: why it did not cosign the last checkpoint that it was asked for."""

    def __init__(self, url: str, vkey: VerifierKey, client: httpx.Client | None = None, pause_s: float = PAUSE_S) -> None:
        self.vkey, self.problem = vkey, "not asked yet"
        self._url = url.rstrip("/") + "/add-checkpoint"
        self._client = client or httpx.Client(timeout=TIMEOUT_S)
        self._pause_s, self._paused_until, self._size = pause_s, 0.0, 0

    def cosign(self, note: bytes, size: int, proof: Proof) -> str:
        """Its signature line over a signed note; empty if it gives none, which `problem` explains.

        Args:
            size: entries under the checkpoint.
        """
        if time.monotonic() < self._paused_until:
            return ""
        try:
            line = self._ask(note, size, proof)
        except (httpx.HTTPError, AiInfraError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            self._paused_until = time.monotonic() + self._pause_s
            log.warning("witness %s did not cosign %s entries: %s", self.vkey.name, size, self.problem)
            return ""
        self.problem, self._size = "", size
        return line

    def _ask(self, note: bytes, size: int, proof: Proof) -> str:
        for _ in range(MAX_TRIES):
            # From a size that it does not know, it answers with its own: after a restart of either side, or another asker.
            hashes = proof(self._size) if self._size <= size else []
            answer = self._client.post(self._url, content=Request(min(self._size, size), tuple(hashes), note).to_bytes())
            if answer.status_code == 200:
                return self._own_line(note, answer.text)
            if answer.status_code != 409:
                raise BadLogFormat(f"it answers {answer.status_code}: {answer.text[:200]!r}")
            told = tlog.parse_size(answer.text.strip())
            if told > size or told == self._size:
                raise BadLogFormat(f"it cosigned another history of {told} entries, this checkpoint is of {size}: verify the log")
            self._size = told
        raise BadLogFormat(f"it named another size {MAX_TRIES} times")

    def _own_line(self, note: bytes, answer: str) -> str:
        """Its line out of the answer; lines of others, which nobody asked for, are left out."""
        for line in answer.splitlines(keepends=True):
            found = tlog.parse_signature_line(line.rstrip("\n"))
            if (found.name, found.key_id) == (self.vkey.name, self.vkey.key_id):
                cosignature.cosigners(note + line.encode(), [self.vkey])
                return line
        raise BadSignature(f"no signature of {self.vkey.name} in its answer: is its key another one in trust.json?")


def cosigned(note: bytes, witnesses: Sequence[Witness], size: int, proof: Proof) -> bytes:
    """The note with a line of each witness that cosigns it; those that stand there already are not asked again."""
    there = cosignature.cosigners(note, [witness.vkey for witness in witnesses])
    for witness in witnesses:
        if witness.vkey.name not in there:
            note += witness.cosign(note, size, proof).encode()
    return note
