"""What signing needs from outside (`Signer`), and what others need from signing (`SigningProxy`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.core.keys import PublicKey, Signature


class Signer(Protocol):
    """Signs with one key, wherever that key lives."""

    def sign(self, payload: bytes) -> Signature:
        """Signature over one payload (DSSE pre-authentication bytes, or the text of a signed note).

        Args:
            payload: the bytes themselves; the backend hashes where its key system wants a digest.
        Returns:
            The signer id of the key and the signature: DER for ECDSA, 64 raw bytes for Ed25519.
        Raises:
            SignerUnavailable: the key service did not answer; safe to retry.
            KeyRefused: the key is disabled or not ours; do not retry.
        """

    def public_key(self) -> PublicKey:
        """The key that verifies the signatures. Raises as `sign`."""


@dataclass(frozen=True)
class Signed:
    """keyid: signer id; signature: as Signer gives it; public_key: SPKI PEM of the key."""

    keyid: str
    signature: bytes
    public_key: str


@dataclass(frozen=True)
class StatementRequest:
    """key: builder, evaluator, sentinelnet or manifest; payload: canonical bytes of an in-toto statement.

    evidence: for a Manifest, {"request": envelope bytes with the approvals, "decision": envelope bytes of the VSA}.
    on_behalf_of: SPIFFE URI of the person or service for whom the caller asks; recorded, not trusted.
    """

    key: str
    payload: bytes
    on_behalf_of: str
    evidence: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointState:
    """The last checkpoint that was signed. root: 32 bytes."""

    size: int
    root: bytes


class SigningProxy(Protocol):
    """The proxy as the API process sees it. A call that failed with a retryable error may be repeated unchanged: the same
    payload under the same key gets the same signature."""

    def sign_statement(self, key: str, payload: bytes, evidence: Mapping[str, bytes], actor: str) -> bytes:
        """DSSE envelope (canonical bytes) of an in-toto statement. Both audit events are in the log when this returns.

        Args: see StatementRequest; actor is its on_behalf_of.
        Raises:
            BadPayload: not a statement that this key signs, or the evidence is malformed.
            Refused: the evidence does not allow the signature (QuorumNotReached, KeyRefused…).
            SignerUnavailable: the proxy, the key service or the log did not answer; retry.
        """

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        """The OMS bundle (`model.sig`) over an OMS statement. Key builder; key manifest once the proxy has signed a Manifest
        with the same OMS subject. Raises as `sign_statement`."""

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """The signed note (C2SP tlog-checkpoint) over a log of `size` entries.

        Args:
            root: 32 bytes; proof: RFC 6962 consistency proof from `last_checkpoint`, empty for the first one or the same size.
        Raises:
            CheckpointRefused: smaller than the last one, or not consistent with it; do not retry.
            SignerUnavailable: as above. The state may have moved: ask `last_checkpoint` before the retry.
        """

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        """Where the next consistency proof starts; None before the first checkpoint."""

    def keys(self) -> Mapping[str, str]:
        """Key name → SPKI PEM, of every key that the proxy holds."""
