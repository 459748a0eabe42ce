"""OpenSSF Model Signing 1.0: the statement over a file tree and its Sigstore bundle (`model.sig`), as the stock
`model_signing verify key` takes it.

Method "files", SHA-256. The subject digest ignores names, so it is no identity of a tree: `digests.tree_digest` is.
One bundle holds one signature (the stock verifier reads the first only).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from services.core import dsse, keys
from services.core.canonical import canonical
from services.core.canonical import parse as parse_json
from services.core.digests import FileEntry, require_digest, require_safe_path, scan_tree
from services.core.errors import BadInput, Refused, TooLarge
from services.core.keys import BadSignature, PublicKey, Signature

SIGNATURE_FILE = "model.sig"
IGNORED_BY_STOCK = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_METHOD = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


class BadModelSignature(Refused):
    """The tree, the bundle and the key do not belong together; the message names the file or the field."""


@dataclass(frozen=True)
class ModelStatement:
    """What an OMS statement says. resources: path → digest, in the statement's order; subject: their joint digest."""

    name: str
    subject: str
    resources: Mapping[str, str]


def statement(files: Path | Sequence[FileEntry], name: str = "model") -> bytes:
    """Canonical bytes of the statement over a directory or over entries hashed before. The name is informative only.

    Raises:
        BadInput: an empty tree, or a top-level name that stock verifiers leave out (`.git…`): a signature cannot cover it.
    """
    entries = _entries(files)
    for entry in entries:
        if entry.path.split("/")[0] in IGNORED_BY_STOCK:
            raise BadInput(f"{entry.path}: verifiers ignore git's own files, so no signature can cover it; leave it out")
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _hex(subject_digest(entries))}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {**_METHOD, "ignore_paths": [SIGNATURE_FILE]},
                "resources": [{"name": entry.path, "algorithm": "sha256", "digest": _hex(entry.sha256)} for entry in entries],
            },
        }
    )


def subject_digest(files: Path | Sequence[FileEntry]) -> str:
    """SHA-256 over the files' binary digests, in the order in which the stock tool sorts paths."""
    return _joint_digest([entry.sha256 for entry in _entries(files)])


def parse_statement(payload: bytes) -> ModelStatement:
    """The statement in the payload, its inner digest checked.

    Raises:
        BadInput: not an OMS 1.0 statement of method "files" with SHA-256; a bad path or digest; a file listed twice.
    """
    value = _fields(parse_json(payload), {"_type", "subject", "predicateType", "predicate"}, "an OMS statement")
    if (value["_type"], value["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise BadInput(f"no OMS 1.0 statement: _type {value['_type']!r}, predicateType {value['predicateType']!r}")
    predicate = _fields(value["predicate"], {"serialization", "resources"}, "an OMS predicate")
    _check_method(predicate["serialization"])
    resources = _resources(predicate["resources"])
    name, subject = _subject(value["subject"])
    if subject != _joint_digest(list(resources.values())):
        raise BadInput("the OMS statement's subject digest is not the digest of its resources")
    return ModelStatement(name, subject, resources)


def bundle(payload: bytes, signature: bytes | Signature, public_key: PublicKey) -> bytes:
    """The Sigstore bundle v0.3 to be written as `model.sig`.

    Args:
        payload: as `statement` gives it; signature: DER, over dsse.pae(dsse.PAYLOAD_TYPE, payload).
    Raises:
        BadInput: the key is not ECDSA: the format's stock verifier takes no other.
        BadSignature: the signature does not verify; nothing that others would refuse is handed out.
    """
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise BadInput("a model is signed with an ECDSA key: the stock verifier takes no Ed25519")
    sig = signature.sig if isinstance(signature, Signature) else signature
    keys.verify(public_key, dsse.pae(dsse.PAYLOAD_TYPE, payload), sig)
    return canonical(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": _key_hint(public_key)}, "tlogEntries": []},
            "dsseEnvelope": dsse.envelope(dsse.PAYLOAD_TYPE, payload, [("", sig)]),
        }
    )


def verify(bundle_bytes: bytes, files: Path | Sequence[FileEntry], public_key: PublicKey) -> str:
    """The subject digest, after the signature and exactly these files were checked.

    Stricter than the stock tool: only `model.sig` itself may lie in the tree without being signed.

    Raises:
        BadModelSignature: another key, a malformed bundle, or a file that is extra, missing or edited, by name.
    """
    _, subject = verify_any(bundle_bytes, files, {keys.signer_id(public_key): public_key})
    return subject


def verify_any(bundle_bytes: bytes, files: Path | Sequence[FileEntry], public_keys: Mapping[str, PublicKey]) -> tuple[str, str]:
    """As `verify`, under whichever of the keys made the signature: its signer id, and the subject digest."""
    try:
        held = parse_bundle(bundle_bytes)
        signers = dsse.verified_signers(held, public_keys)
        if not signers:
            raise BadModelSignature(f"{SIGNATURE_FILE}: no trusted key made this signature")
        stated = parse_statement(held.payload)
    except (BadInput, BadSignature) as error:
        raise BadModelSignature(f"{SIGNATURE_FILE}: {error}") from error
    _check_files(stated, _entries(files))
    return signers.pop(), stated.subject


def parse_bundle(bundle_bytes: bytes) -> dsse.Envelope:
    """The bundle's envelope. The key hint is not trusted and not looked at.

    Raises:
        BadInput: not a bundle v0.3 over one in-toto payload with one signature.
    """
    if len(bundle_bytes) > dsse.MAX_ENVELOPE_BYTES:
        raise TooLarge(f"a bundle of {len(bundle_bytes)} bytes: at most {dsse.MAX_ENVELOPE_BYTES}")
    value = _fields(parse_json(bundle_bytes), {"mediaType", "verificationMaterial", "dsseEnvelope"}, "a model bundle")
    if value["mediaType"] != MEDIA_TYPE:
        raise BadInput(f"media type {value['mediaType']!r}: want {MEDIA_TYPE}")
    held = dsse.from_json(value["dsseEnvelope"])
    if held.payload_type != dsse.PAYLOAD_TYPE or len(held.signatures) != 1:
        raise BadInput("a model bundle holds one in-toto payload and one signature")
    return held


def _entries(files: Path | Sequence[FileEntry]) -> list[FileEntry]:
    """Without the top-level model.sig, in the order of path parts (as the stock tool sorts: "a/b" before "a.b")."""
    found = scan_tree(files) if isinstance(files, Path) else files
    entries = [entry for entry in found if entry.path != SIGNATURE_FILE]
    if not entries:
        raise BadInput("there is no file to sign or verify")
    return sorted(entries, key=lambda entry: entry.path.split("/"))


def _check_files(stated: ModelStatement, entries: list[FileEntry]) -> None:
    found = {entry.path: entry.sha256 for entry in entries}
    problems = [f"{path} is not signed" for path in found if path not in stated.resources]
    problems += [f"{path} is missing" for path in stated.resources if path not in found]
    problems += [f"{path} was edited" for path in found if stated.resources.get(path, found[path]) != found[path]]
    if len(found) != len(entries):
        problems.append("a path is listed twice")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BadModelSignature(f"the tree is not the signed one: {'; '.join(sorted(problems)[:5])}{more}")


def _check_method(value: Any) -> None:
    # ignore_paths has no effect on us: exactly the signed files are accepted, whatever it says.
    if not isinstance(value, dict) or {k: v for k, v in value.items() if k != "ignore_paths"} != _METHOD:
        raise BadInput('an OMS statement is taken with method "files", hash_type "sha256" and no symbolic links')


def _resources(value: Any) -> dict[str, str]:
    if not isinstance(value, list) or not value:
        raise BadInput("an OMS statement lists its resources")
    result: dict[str, str] = {}
    for item in value:
        fields = _fields(item, {"name", "algorithm", "digest"}, "an OMS resource")
        path, digest = fields["name"], fields["digest"]
        if not isinstance(path, str) or path in result or fields["algorithm"] != "sha256":
            raise BadInput(f"OMS resource {str(path)[:80]!r}: want one SHA-256 for each file")
        result[require_safe_path(path)] = _digest(digest)
    return result


def _subject(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 1:
        raise BadInput("an OMS statement has one subject")
    subject = _fields(value[0], {"name", "digest"}, "an OMS subject")
    if not isinstance(subject["name"], str):
        raise BadInput("an OMS subject's name is a string")
    return subject["name"], _digest(_fields(subject["digest"], {"sha256"}, "an OMS subject's digest")["sha256"])


def _fields(value: Any, fields: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != fields:
        raise BadInput(f"{what} has exactly the fields {sorted(fields)}")
    return value


def _digest(text: Any) -> str:
    return require_digest(f"sha256:{text}")


def _joint_digest(digests: Sequence[str]) -> str:
    return "sha256:" + hashlib.sha256(b"".join(bytes.fromhex(_hex(digest)) for digest in digests)).hexdigest()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _key_hint(key: PublicKey) -> str:
    """Hex SHA-256 of the key's PEM text (not of its DER): what the stock verifier compares."""
    return hashlib.sha256(keys.public_pem(key).encode("ascii")).hexdigest()
