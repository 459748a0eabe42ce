"""The formats of c2sp.org, against the examples of its specifications and of golang.org/x/mod/sumdb/note."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import keys, merkle, tlog
from services.core.tlog import BadLogFormat, Checkpoint, TlogProof

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


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n- a AAAAAAAA\n",
        "text\n\n— a AAAAAAAA".encode(),
        "text\n\n— a AAAA\n".encode(),
        "text\n\n— a b AAAAAAAA\n".encode(),
        "text\n\n— a+b AAAAAAAA\n".encode(),
        "text\n\n— a ?\n".encode(),
        "te\tx\n\n— a AAAAAAAA\n".encode(),
        b"te\xffxt\n\n",
        b"text\n\n" + "— a AAAAAAAA\n".encode() * 65,
        b"x" * 65_537,
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(BadLogFormat):
        tlog.open_note(note, tlog.parse_vkey(PETER))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER.replace("PeterNeumann", ""),
        PETER[:-4],
        PETER + "=",
        "a+00000000+A" + "A" * 43,
        "a+00000000+Ag==",
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(BadLogFormat):
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


@pytest.mark.parametrize("size", ["01", "-1", "", "1 ", "9223372036854775808", "1e3", "١"])
def test_a_tree_size_is_a_plain_decimal(size: str) -> None:
    with pytest.raises(BadLogFormat):
        tlog.parse_checkpoint(Checkpoint("o", 1, ROOT).text().replace("\n1\n", f"\n{size}\n"))


@pytest.mark.parametrize("text", ["o\n1\n", "o\n1\nAAAA\n", "o\n1\n" + "A" * 43 + "=\n\n", "\n1\n" + "A" * 43 + "=\n"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadLogFormat):
        tlog.parse_checkpoint(text)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 0, 1, "tile/0/000.p/1"),
        (1, 999, 256, "tile/1/999"),
        (2, 1000, 255, "tile/2/x001/000.p/255"),
        (63, 1234067, 256, "tile/63/x001/x234/067"),
    ],
)
def test_tile_paths_are_those_of_the_specification(level: int, index: int, width: int, path: str) -> None:
    assert tlog.tile_path(level, index, width) == tlog.require_tile_path(path) == path


def test_entry_bundles_lie_beside_the_tiles() -> None:
    assert tlog.entries_path(1234067, 7) == tlog.require_tile_path("tile/entries/x001/x234/067.p/7")


@given(st.integers(0, 63), st.integers(0, 1 << 40), st.integers(1, 256))
def test_every_tile_has_a_path_of_its_own(level: int, index: int, width: int) -> None:
    path = tlog.require_tile_path(tlog.tile_path(level, index, width))
    elements = path.split(".p/")[0].split("/")[2:]
    assert int("".join(element.removeprefix("x") for element in elements)) == index
    assert all(element.startswith("x") for element in elements[:-1])
    assert path.endswith(f".p/{width}") == (width < 256)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/64/000",
        "tile/00/000",
        "tile/0/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/../checkpoint",
        "/tile/0/000",
        "tile/0/000/",
        "checkpoint",
        "tile/0/000\n",
        "tile/0/" + "x000/" * 20 + "000",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(BadLogFormat):
        tlog.require_tile_path(path)


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    assert tlog.tiles(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert tlog.tiles(256) == [(0, 0, 256), (1, 0, 1)]
    assert tlog.tiles(0) == []
    assert [tlog.width_at(0, index, 70_000) for index in (272, 273, 274)] == [256, 112, 0]


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_an_entry_bundle_keeps_its_entries(entries: list[bytes]) -> None:
    assert tlog.decode_bundle(tlog.encode_bundle(entries)) == entries


def test_the_longest_entry_fits_and_a_longer_one_does_not() -> None:
    assert tlog.encode_bundle([b"x" * 65_535])[:2] == b"\xff\xff"
    with pytest.raises(BadLogFormat):
        tlog.encode_bundle([b"x" * 65_536])


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x00" * 257])
def test_a_cut_or_overfull_entry_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(BadLogFormat):
        tlog.decode_bundle(data)


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, b"x" * 32 * 257])
def test_a_tile_is_whole_hashes(data: bytes) -> None:
    with pytest.raises(BadLogFormat):
        tlog.decode_tile(data)


@pytest.mark.parametrize("size", [1, 2, 7, 256, 300])
@pytest.mark.parametrize("extra", [b"", b"extra"])
def test_a_proof_file_verifies_for_its_leaf_only(size: int, extra: bytes) -> None:
    leaves = [str(i).encode() for i in range(size)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    index = size // 2
    note = signed("ed25519", Checkpoint(ORIGIN, size, merkle.root(hashes)).text()).decode()
    proof = TlogProof(index, tuple(merkle.inclusion_proof(merkle.nodes_of(hashes), index, size)), note, extra)
    assert tlog.parse_proof(proof.text()) == proof
    assert tlog.verify_proof(proof.text(), leaves[index], vkey("ed25519"))[0] == index
    with pytest.raises(merkle.BadProof):
        tlog.verify_proof(proof.text(), b"other", vkey("ed25519"))
    with pytest.raises(keys.BadSignature):
        tlog.verify_proof(proof.text(), leaves[index], vkey("p256"))


def test_a_proof_file_has_the_layout_of_the_specification() -> None:
    proof = TlogProof(5, (ROOT, ROOT), "a\n1\nb\n\n— a c\n", b"info")
    lines = proof.text().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra aW5mbw==", "index 5"]
    assert lines[5:] == ["", "a", "1", "b", "", "— a c", ""]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 1\n\nc\n",
        "c2sp.org/tlog-proof@v1\nindex x\n\nc\n",
        "c2sp.org/tlog-proof@v1\nindex 01\n\nc\n",
        "c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nc\n",
        "c2sp.org/tlog-proof@v1\nextra YQ==\n\nc\n",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nc\n",
    ],
)
def test_what_is_no_proof_file_is_refused(text: str) -> None:
    with pytest.raises(BadLogFormat):
        tlog.parse_proof(text)
