"""C2SP formats of a transparency log: signed-note, tlog-checkpoint, tlog-tiles and tlog-proof (c2sp.org). Pure text and bytes.

It does not fetch, store or sign by itself; what witnesses sign is in core.cosignature. Lines of unknown keys are kept and ignored.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.core import keys, merkle
from services.core.errors import BadInput

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_ENTRY_BYTES = 65_535
MAX_TILE_BYTES = TILE_WIDTH * merkle.HASH_BYTES
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 64
"""More than the 16 that signed-note obliges a verifier to accept."""

PROOF_HEADER = "c2sp.org/tlog-proof@v1"

_ED25519, _ECDSA = 1, 2
_COSIGNATURE = 4
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_TILE_PATH = re.compile(
    r"tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)


class BadLogFormat(BadInput):
    """The bytes are not what C2SP's formats allow."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key of a note. name: who signs, for a log its origin; key_id: 4 bytes; text: the key in note format."""

    name: str
    key_id: bytes
    key: keys.PublicKey
    text: str


class NoteSignature(NamedTuple):
    """A signature line. key_id: 4 bytes, with the name a hint at the key; signature: what the key's type says."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A tree head. origin: the log's name; size: leaves; root: 32 bytes; extensions: further lines, not interpreted."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note's text, which the log signs."""
        return "".join(line + "\n" for line in (self.origin, str(self.size), _b64(self.root), *self.extensions))


@dataclass(frozen=True)
class TlogProof:
    """A `.tlog-proof` file. checkpoint: signed note, verbatim; extra: not authenticated by anything."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    def text(self) -> str:
        head = [PROOF_HEADER, *([f"extra {_b64(self.extra)}"] if self.extra else []), f"index {self.index}"]
        return "\n".join([*head, *map(_b64, self.hashes)]) + "\n\n" + self.checkpoint


def vkey_text(name: str, key: keys.PublicKey) -> str:
    """The verifier key `name+keyid+base64`, as golang.org/x/mod/sumdb/note writes it."""
    encoded = _encode(key)
    return f"{_require_name(name)}+{_key_id(name, encoded).hex()}+{_b64(encoded)}"


def witness_vkey_text(name: str, key: ed25519.Ed25519PublicKey) -> str:
    """A witness's verifier key (signature type 4, tlog-cosignature)."""
    encoded = bytes([_COSIGNATURE]) + _raw(key)
    return f"{_require_name(name)}+{_key_id(name, encoded).hex()}+{_b64(encoded)}"


def parse_vkey(text: str) -> VerifierKey:
    """A log's key: Ed25519, or ECDSA on P-256 (signature type 2, whose id is the hash of its SPKI).

    Raises:
        BadLogFormat: malformed, another type, or an id that is not this key's.
    """
    return _parse_vkey(text, (_ED25519, _ECDSA))


def parse_witness_vkey(text: str) -> VerifierKey:
    """A witness's key, which signs what core.cosignature says and never a note's text itself. Raises as parse_vkey."""
    return _parse_vkey(text, (_COSIGNATURE,))


def _parse_vkey(text: str, kinds: tuple[int, ...]) -> VerifierKey:
    name, _, rest = text.strip().partition("+")
    found, _, encoded64 = rest.partition("+")
    encoded = _unb64(encoded64, "verifier key")
    key = _decode(encoded, kinds)
    if found != _key_id(_require_name(name), encoded).hex():
        raise BadLogFormat(f"verifier key {name!r}: the id {found[:8]!r} is not the hash of the key")
    return VerifierKey(name, bytes.fromhex(found), key, text.strip())


def sign_note(text: str, name: str, key: keys.PublicKey, sign: Callable[[bytes], bytes]) -> str:
    """The signed note.

    Args:
        key: public half of the key that `sign` uses.
        sign: message to signature; 64 raw bytes for Ed25519, DER over SHA-256 for ECDSA.
    """
    key_id = _key_id(_require_name(name), _encode(key))
    return f"{text}\n{signature_line(name, key_id, sign(_require_text(text).encode()))}"


def signature_line(name: str, key_id: bytes, signature: bytes) -> str:
    """One signature line of a note, with its newline."""
    return f"— {_require_name(name)} {_b64(key_id + signature)}\n"


def open_note(note: bytes, vkey: VerifierKey) -> str:
    """The text of a note that this key signed; signatures of other keys are ignored, as signed-note obliges.

    Raises:
        BadLogFormat: no note.
        BadSignature: the key did not sign it, or one of its signatures is wrong.
    """
    text, signatures = split_note(note)
    verified = False
    for name, key_id, signature in signatures:
        if (name, key_id) == (vkey.name, vkey.key_id):
            keys.verify(vkey.key, text.encode(), signature)
            verified = True
    if not verified:
        raise keys.BadSignature(f"the note carries no signature of {vkey.name}+{vkey.key_id.hex()}")
    return text


def split_note(note: bytes) -> tuple[str, list[NoteSignature]]:
    """Text and signature lines of a note, unverified. Raises BadLogFormat."""
    if len(note) > MAX_NOTE_BYTES:
        raise BadLogFormat(f"a note of {len(note)} bytes: want at most {MAX_NOTE_BYTES}")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLogFormat("a note is UTF-8") from error
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise BadLogFormat("a note is a text, an empty line, and signature lines")
    lines = tail.split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise BadLogFormat(f"a note with {len(lines)} signatures: want at most {MAX_SIGNATURES}")
    return _require_text(text + "\n"), [parse_signature_line(line) for line in lines]


def parse_signature_line(line: str) -> NoteSignature:
    """A signature line without its newline. Raises BadLogFormat."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise BadLogFormat("a signature line is an em dash, a key name and base64")
    data = _unb64(parts[2], "signature")
    if len(data) < 5:
        raise BadLogFormat("a note's signature is a key id of 4 bytes and the signature itself")
    return NoteSignature(_require_name(parts[1]), data[:4], data[4:])


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint's text. It verifies nothing.

    Raises:
        BadLogFormat: fewer than three lines, an empty line, a size with leading zeroes, a root that is not 32 bytes.
    """
    lines = _require_text(text).split("\n")[:-1]
    if len(lines) < 3 or not all(lines):
        raise BadLogFormat("a checkpoint has three lines or more, none of them empty")
    origin, size, root, *extensions = lines
    return Checkpoint(origin, parse_size(size), parse_hash(root), tuple(extensions))


def parse_size(text: str) -> int:
    """A tree's size in decimal. Raises BadLogFormat."""
    return _decimal(text, "tree size")


def parse_hash(text: str) -> bytes:
    """32 bytes in base64. Raises BadLogFormat."""
    data = _unb64(text, "hash")
    if len(data) != merkle.HASH_BYTES:
        raise BadLogFormat(f"a hash of {len(data)} bytes: want {merkle.HASH_BYTES}")
    return data


def hash_text(data: bytes) -> str:
    """A hash as the lines of a proof have it."""
    return _b64(data)


def open_checkpoint(note: bytes, vkey: VerifierKey) -> Checkpoint:
    """The checkpoint of a log whose origin is its key's name.

    Raises:
        BadLogFormat: no checkpoint, or one of another origin.
        BadSignature: the log's key did not sign it.
    """
    checkpoint = parse_checkpoint(open_note(note, vkey))
    if checkpoint.origin != vkey.name:
        raise BadLogFormat(f"the checkpoint's origin is {checkpoint.origin!r}, the log's is {vkey.name!r}")
    return checkpoint


def unverified_checkpoint(note: bytes) -> Checkpoint:
    """What a note claims, for telling problems apart after its signature failed. Never for a decision.

    Raises:
        BadLogFormat: no checkpoint.
    """
    return parse_checkpoint(split_note(note)[0])


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """`tile/<L>/<N>[.p/<W>]`. width: hashes in it, 1 to 256."""
    return f"tile/{level}/{_index_path(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """`tile/entries/<N>[.p/<W>]`."""
    return f"tile/entries/{_index_path(index, width)}"


def require_tile_path(path: str) -> str:
    """The path itself if tlog-tiles gives it a meaning.

    Raises:
        BadLogFormat: otherwise.
    """
    if len(path) > 64 or not _TILE_PATH.fullmatch(path):
        raise BadLogFormat(f"{path[:80]!r} is no path of a tile or an entry bundle")
    return path


def tiles(size: int) -> list[tuple[int, int, int]]:
    """(level, index, width) of the rightmost tile of each level of a tree, full or partial; nothing for an empty tree."""
    found, level = [], 0
    while count := size >> (TILE_HEIGHT * level):
        found.append((level, (count - 1) // TILE_WIDTH, (count - 1) % TILE_WIDTH + 1))
        level += 1
    return found


def width_at(level: int, index: int, size: int) -> int:
    """Width of one tile in a tree of that size: 0 where there is none, 256 when full."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    return b"".join(hashes)


def decode_tile(data: bytes) -> list[bytes]:
    """Raises BadLogFormat unless it is 1 to 256 hashes of 32 bytes."""
    if not data or len(data) % merkle.HASH_BYTES or len(data) > MAX_TILE_BYTES:
        raise BadLogFormat(f"a tile of {len(data)} bytes: want 1 to {TILE_WIDTH} hashes")
    return [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length as a big-endian uint16.

    Raises:
        BadLogFormat: an entry over 65,535 bytes.
    """
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise BadLogFormat(f"an entry is over {MAX_ENTRY_BYTES} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Raises BadLogFormat for a cut entry or more than 256 of them."""
    entries: list[bytes] = []
    at, size = 0, len(data)
    while at < size:
        end = at + 2 + (data[at] << 8 | data[at + 1]) if at + 1 < size else size + 1
        if end > size or len(entries) == TILE_WIDTH:
            raise BadLogFormat("an entry bundle is cut inside an entry, or holds more than 256")
        entries.append(data[at + 2 : end])
        at = end
    return entries


def parse_proof(text: str) -> TlogProof:
    """A `.tlog-proof` file. It verifies nothing.

    Raises:
        BadLogFormat: another header, a bad index, hash or base64, or no checkpoint.
    """
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != PROOF_HEADER or len(text) > 2 * MAX_NOTE_BYTES:
        raise BadLogFormat(f"no proof: want the first line {PROOF_HEADER} and a checkpoint after an empty line")
    extra = b""
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra = _unb64(lines.pop(1).removeprefix("extra "), "extra data")
    if len(lines) < 2 or not lines[1].startswith("index "):
        raise BadLogFormat("the proof has no line with its index")
    hashes = tuple(parse_hash(line) for line in lines[2:])
    return TlogProof(_decimal(lines[1].removeprefix("index "), "index"), hashes, checkpoint, extra)


def verify_proof(text: str, leaf: bytes, vkey: VerifierKey) -> tuple[int, Checkpoint]:
    """Index and checkpoint under which a log's key shows this leaf to be in the log.

    Args:
        leaf: the entry's own bytes, from elsewhere; the proof does not hold them.
    Raises:
        BadLogFormat: no proof.
        BadSignature: the log's key did not sign the checkpoint.
        BadProof: the leaf is not at that index of that tree.
    """
    proof = parse_proof(text)
    checkpoint = open_checkpoint(proof.checkpoint.encode(), vkey)
    merkle.verify_inclusion(merkle.leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return proof.index, checkpoint


def _require_name(name: str) -> str:
    if not name or "+" in name or any(char.isspace() or char < " " for char in name):
        raise BadLogFormat(f"{name[:80]!r} is no key name: want no space and no plus")
    return name


def _require_text(text: str) -> str:
    if not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise BadLogFormat("a note's text ends with a newline and holds no other control character")
    return text


def _encode(key: keys.PublicKey) -> bytes:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return bytes([_ED25519]) + _raw(key)
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return bytes([_ECDSA]) + der


def _raw(key: ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _decode(encoded: bytes, kinds: tuple[int, ...]) -> keys.PublicKey:
    if encoded[:1] not in [bytes([kind]) for kind in kinds]:
        raise BadLogFormat(f"want a verifier key of type {kinds}: 1 is Ed25519, 2 ECDSA P-256, 4 a witness's Ed25519")
    try:
        if encoded[0] != _ECDSA:
            return ed25519.Ed25519PublicKey.from_public_bytes(encoded[1:])
        key = serialization.load_der_public_key(encoded[1:])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadLogFormat(f"the verifier key holds no public key: {error}") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise BadLogFormat("the verifier key of type 2 is not on P-256")


def _key_id(name: str, encoded: bytes) -> bytes:
    if encoded[0] == _ECDSA:
        return hashlib.sha256(encoded[1:]).digest()[:4]
    return hashlib.sha256(name.encode() + b"\n" + encoded).digest()[:4]


def _index_path(index: int, width: int) -> str:
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLogFormat(f"{what}: not base64") from error
    if _b64(data) != text:
        raise BadLogFormat(f"{what}: not canonical base64")
    return data


def _decimal(text: str, what: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 63:
        raise BadLogFormat(f"{what} {text[:20]!r}: want a decimal without leading zeroes, below 2^63")
    return int(text)
