"""Notes, keys and checkpoints of c2sp.org, against the examples of its specifications and of golang.org/x/mod/sumdb/note."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.core import keys, merkle, tlog
from services.core.tlog import BadLogFormat, Checkpoint

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
ORIGIN = "example.com/log"
KEYS: dict[str, keys.PrivateKey] = {"ed25519": keys.generate_ed25519(), "p256": keys.generate_p256()}
ROOT = merkle.leaf_hash(b"x")


def signed(kind: str, text: str, name: str = ORIGIN) -> bytes:
    key = KEYS[kind]
    return tlog.sign_note(text, name, key.public_key(), lambda message: keys.sign(key, message).sig).encode()


def vkey(kind: str, name: str = ORIGIN) -> tlog.VerifierKey:
    return tlog.parse_vkey(tlog.vkey_text(name, KEYS[kind].public_key()))


def test_the_note_of_gos_documentation_verifies() -> None:
    assert tlog.open_note(NOTE.encode(), tlog.parse_vkey(PETER)).startswith("If you think")


def test_a_verifier_key_has_the_text_that_go_gives_it() -> None:
    key = tlog.parse_vkey(PETER)
    assert (key.name, key.key_id.hex(), tlog.vkey_text(key.name, key.key)) == ("PeterNeumann", "c74f20a3", PETER)


@pytest.mark.parametrize("kind", KEYS)
def test_a_signed_note_opens_with_its_key_only(kind: str) -> None:
    note = signed(kind, "text\n")
    assert tlog.open_note(note, vkey(kind)) == "text\n"
    with pytest.raises(keys.BadSignature):
        tlog.open_note(note.replace(b"text", b"test"), vkey(kind))
    with pytest.raises(keys.BadSignature):
        tlog.open_note(note, vkey(kind, "example.com/other"))
    with pytest.raises(keys.BadSignature):
        tlog.open_note(note, tlog.parse_vkey(PETER))


def test_a_wrong_signature_beside_a_right_one_of_the_same_key_is_refused() -> None:
    note = signed("ed25519", "text\n").decode()
    wrong = signed("ed25519", "test\n").decode().splitlines(keepends=True)[-1]
    with pytest.raises(keys.BadSignature):
        tlog.open_note((note + wrong).encode(), vkey("ed25519"))


def test_an_empty_line_inside_a_text_is_part_of_it() -> None:
    assert tlog.open_note(signed("ed25519", "one\n\ntwo\n"), vkey("ed25519")) == "one\n\ntwo\n"


def test_the_longest_note_and_the_most_signatures_are_taken() -> None:
    line = "— a AAAAAAA=\n"
    tail = ("\n" + line * tlog.MAX_SIGNATURES).encode()
    text = b"x" * (tlog.MAX_NOTE_BYTES - len(tail) - 1) + b"\n"
    assert tlog.split_note(text + tail) == (text.decode(), [("a", bytes(4), b"\0")] * tlog.MAX_SIGNATURES)


PARTS = "a note is a text, an empty line, and signature lines"
LINE = "a signature line is an em dash, a key name and base64"
NAME = "is no key name: want no space and no plus"


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (b"", PARTS),
        (b"text\n", PARTS),
        (b"text\n\n", PARTS),
        ("text\n\n— a AAAAAAAA".encode(), PARTS),
        (b"text\n\n- a AAAAAAAA\n", LINE),
        ("text\n\n— a b AAAAAAAA\n".encode(), LINE),
        ("text\n\n— a AAAAAAAA \n".encode(), LINE),
        ("text\n\n— a\tAAAAAAAA\n".encode(), LINE),
        ("text\n\n— a AAAA\n".encode(), "a note's signature is a key id of 4 bytes and the signature itself"),
        ("text\n\n— a AAAAAA==\n".encode(), "a note's signature is a key id of 4 bytes and the signature itself"),
        ("text\n\n— a+b AAAAAAAA\n".encode(), f"'a+b' {NAME}"),
        (f"text\n\n— {'+' * 90} AAAAAAAA\n".encode(), f"'{'+' * 80}' {NAME}"),
        ("text\n\n— a\x01 AAAAAAAA\n".encode(), f"'a\\x01' {NAME}"),
        ("text\n\n— a\u2003 AAAAAAAA\n".encode(), f"'a\\u2003' {NAME}"),
        ("text\n\n— a ?\n".encode(), "signature: not base64"),
        ("text\n\n— a AAAA?AAAA\n".encode(), "signature: not base64"),
        ("text\n\n— a AAAAAAB=\n".encode(), "signature: not canonical base64"),
        ("te\tx\n\n— a AAAAAAAA\n".encode(), "a note's text ends with a newline and holds no other control character"),
        (b"te\xffxt\n\n", "a note is UTF-8"),
        (b"text\n\n" + "— a AAAAAAAA\n".encode() * 65, "a note with 65 signatures: want at most 64"),
        (b"x" * 65_537, "a note of 65537 bytes: want at most 65536"),
    ],
)
def test_what_is_no_note_is_refused_by_name(note: bytes, reason: str) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.open_note(note, tlog.parse_vkey(PETER))
    assert str(refused.value) == reason


TYPE = "want a verifier key of type (1, 2): 1 is Ed25519, 2 ECDSA P-256, 4 a witness's Ed25519"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", TYPE),
        ("name", TYPE),
        ("name+00000000+AAAA", TYPE),
        ("a+00000000+A" + "A" * 43, TYPE),
        (PETER.replace("c74f20a3", "c74f20a4"), "verifier key 'PeterNeumann': the id 'c74f20a4' is not the hash of the key"),
        (PETER.replace("c74f20a3", "C74F20A3"), "verifier key 'PeterNeumann': the id 'C74F20A3' is not the hash of the key"),
        (PETER.replace("c74f20a3", "0123456789"), "verifier key 'PeterNeumann': the id '01234567' is not the hash of the key"),
        (PETER.replace("PeterNeumann", "Peter Neumann"), f"'Peter Neumann' {NAME}"),
        (PETER.replace("PeterNeumann", ""), f"'' {NAME}"),
        (PETER + "=", "verifier key: not "),
        (PETER[:-4], "the verifier key holds no public key: "),
        ("a+00000000+Ag==", "the verifier key holds no public key: "),
    ],
)
def test_what_is_no_verifier_key_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.parse_vkey(text)
    assert str(refused.value).startswith(reason)
    assert len(str(refused.value)) > len(reason) or not reason.endswith(": ")


def spki(key: keys.PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_the_id_of_an_ecdsa_key_is_the_hash_of_its_spki_whatever_its_name() -> None:
    digest = hashlib.sha256(spki(KEYS["p256"].public_key())).digest()
    assert [vkey("p256", name).key_id for name in ("a", "b")] == [digest[:4]] * 2


def test_white_space_around_a_verifier_key_is_no_part_of_it() -> None:
    assert tlog.parse_vkey(f" {PETER}\n").text == PETER


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()).public_key(), keys.generate_ed25519().public_key()])
def test_a_key_of_another_curve_is_no_ecdsa_verifier_key(key: keys.PublicKey | ec.EllipticCurvePublicKey) -> None:
    der = spki(key)
    text = f"a+{hashlib.sha256(der).hexdigest()[:8]}+{base64.b64encode(bytes([2]) + der).decode()}"
    with pytest.raises(BadLogFormat, match=r"^the verifier key of type 2 is not on P-256$"):
        tlog.parse_vkey(text)


def test_a_checkpoint_survives_its_text() -> None:
    checkpoint = Checkpoint(ORIGIN, 20852163, ROOT, ("more",))
    assert tlog.open_checkpoint(signed("ed25519", checkpoint.text()), vkey("ed25519")) == checkpoint
    assert tlog.unverified_checkpoint(signed("p256", checkpoint.text())) == checkpoint


def test_the_checkpoint_of_the_specification_parses() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = tlog.parse_checkpoint(text)
    assert (checkpoint.origin, checkpoint.size, checkpoint.text()) == ("example.com/behind-the-sofa", 20852163, text)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    with pytest.raises(BadLogFormat):
        tlog.open_checkpoint(signed("ed25519", Checkpoint("example.com/other", 1, ROOT).text()), vkey("ed25519"))


@pytest.mark.parametrize("size", ["01", "-1", "", "1 ", "9223372036854775808", "1e3", "١", "1" * 30])
def test_a_tree_size_is_a_plain_decimal(size: str) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.parse_size(size)
    assert str(refused.value) == f"tree size {size[:20]!r}: want a decimal without leading zeroes, below 2^63"


def test_the_largest_tree_size_is_taken() -> None:
    assert [tlog.parse_size(text) for text in ("0", "9223372036854775807")] == [0, (1 << 63) - 1]


def test_a_hash_survives_its_text() -> None:
    assert tlog.parse_hash(tlog.hash_text(ROOT)) == ROOT


LINES = "a checkpoint has three lines or more, none of them empty"
ENDS = "a note's text ends with a newline and holds no other control character"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("o\n1\n", LINES),
        ("o\n1\n" + "A" * 43 + "=\n\n", LINES),
        ("\n1\n" + "A" * 43 + "=\n", LINES),
        ("o\n1\n" + "A" * 43 + "=", ENDS),
        ("o\r\n1\n" + "A" * 43 + "=\n", ENDS),
        ("o\n1\nAAAA\n", "a hash of 3 bytes: want 32"),
        ("o\n1\n?\n", "hash: not base64"),
        ("o\n\n1\n", LINES),
        ("o\n01\n" + "A" * 43 + "=\n", "tree size '01': want a decimal without leading zeroes, below 2^63"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.parse_checkpoint(text)
    assert str(refused.value) == reason
