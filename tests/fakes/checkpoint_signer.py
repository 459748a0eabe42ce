"""A checkpoint signer in memory, by the signing proxy's rules: it keeps (size, root) first, and refuses a shrink or a fork."""

from collections.abc import Sequence

from services.core import keys, merkle, tlog
from services.signing.ports import CheckpointState


class FakeCheckpointSigner:
    """Implements audit.ports.CheckpointSigner. Its state outlives the AuditLog objects that a test throws away."""

    def __init__(self, origin: str = "ai-infra.test/log") -> None:
        self._key = keys.generate_ed25519()
        self.origin = origin
        self.last: CheckpointState | None = None

    @property
    def vkey(self) -> tlog.VerifierKey:
        return tlog.parse_vkey(tlog.vkey_text(self.origin, self._key.public_key()))

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        assert origin == self.origin
        return self.last

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        assert origin == self.origin
        new, held = CheckpointState(size, root), self.last or CheckpointState(0, merkle.EMPTY_ROOT)
        if new != held:
            merkle.verify_consistency(held.size, held.root, size, root, proof)
        self.last = new
        return self.sign_anything(size, root)

    def sign_anything(self, size: int, root: bytes) -> str:
        """What only a stolen key does: no state, no rule."""
        return self.sign_text(tlog.Checkpoint(self.origin, size, root).text())

    def sign_text(self, text: str) -> str:
        """A note that need be no checkpoint."""
        return tlog.sign_note(text, self.origin, self._key.public_key(), self._key.sign)
