"""Paths, tiles, entry bundles and proof files of c2sp.org, against the examples of its specifications."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.core import keys, merkle, tlog
from services.core.tlog import BadLogFormat, Checkpoint, TlogProof

ORIGIN = "example.com/log"
KEY = keys.generate_ed25519()
OTHER = keys.generate_p256()
ROOT = merkle.leaf_hash(b"x")


def vkey(key: keys.PrivateKey) -> tlog.VerifierKey:
    return tlog.parse_vkey(tlog.vkey_text(ORIGIN, key.public_key()))


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
    with pytest.raises(BadLogFormat) as refused:
        tlog.require_tile_path(path)
    assert str(refused.value) == f"{path[:80]!r} is no path of a tile or an entry bundle"


def test_a_path_has_64_characters_at_most() -> None:
    folders = "tile/0/" + "x000/" * 10
    assert len(tlog.require_tile_path(f"{folders}000.p/9")) == 64
    with pytest.raises(BadLogFormat):
        tlog.require_tile_path(f"{folders}000.p/10")


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    assert tlog.tiles(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert tlog.tiles(256) == [(0, 0, 256), (1, 0, 1)]
    assert tlog.tiles(0) == []
    assert [tlog.width_at(0, index, 70_000) for index in (272, 273, 274)] == [256, 112, 0]
    assert [tlog.width_at(level, 0, 70_000) for level in (1, 2, 3)] == [256, 1, 0]
    assert tlog.width_at(1, 1, 70_000) == 17


@given(st.lists(st.binary(max_size=300), max_size=256))
@example([b"x" * size for size in (0, 1, 255, 256, 257, 511, 65_535)])
@example([b""] * 256)
def test_an_entry_bundle_keeps_its_entries(entries: list[bytes]) -> None:
    assert tlog.decode_bundle(tlog.encode_bundle(entries)) == entries


def test_the_longest_entry_fits_and_a_longer_one_does_not() -> None:
    assert tlog.encode_bundle([b"x" * 65_535])[:2] == b"\xff\xff"
    with pytest.raises(BadLogFormat, match=r"^an entry is over 65535 bytes$"):
        tlog.encode_bundle([b"x" * 65_536])


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x00" * 257])
def test_a_cut_or_overfull_entry_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(BadLogFormat, match=r"^an entry bundle is cut inside an entry, or holds more than 256$"):
        tlog.decode_bundle(data)


@pytest.mark.parametrize("width", [1, 2, 255, 256])
def test_a_tile_keeps_its_hashes(width: int) -> None:
    hashes = [merkle.leaf_hash(bytes([at])) for at in range(width)]
    assert len(tlog.encode_tile(hashes)) == 32 * width
    assert tlog.decode_tile(tlog.encode_tile(hashes)) == hashes


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, b"x" * 32 * 257])
def test_a_tile_is_whole_hashes(data: bytes) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.decode_tile(data)
    assert str(refused.value) == f"a tile of {len(data)} bytes: want 1 to 256 hashes"


@pytest.mark.parametrize("size", [1, 2, 7, 256, 300])
@pytest.mark.parametrize("extra", [b"", b"extra"])
def test_a_proof_file_verifies_for_its_leaf_only(size: int, extra: bytes) -> None:
    leaves = [str(i).encode() for i in range(size)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    index = size // 2
    note = tlog.sign_note(Checkpoint(ORIGIN, size, merkle.root(hashes)).text(), ORIGIN, KEY.public_key(), KEY.sign)
    proof = TlogProof(index, tuple(merkle.inclusion_proof(merkle.nodes_of(hashes), index, size)), note, extra)
    assert tlog.parse_proof(proof.text()) == proof
    assert tlog.verify_proof(proof.text(), leaves[index], vkey(KEY))[0] == index
    with pytest.raises(merkle.BadProof):
        tlog.verify_proof(proof.text(), b"other", vkey(KEY))
    with pytest.raises(keys.BadSignature):
        tlog.verify_proof(proof.text(), leaves[index], vkey(OTHER))


def test_a_proof_file_has_the_layout_of_the_specification() -> None:
    proof = TlogProof(5, (ROOT, ROOT), "a\n1\nb\n\n— a c\n", b"info")
    lines = proof.text().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra aW5mbw==", "index 5"]
    assert lines[3:5] == [tlog.hash_text(ROOT)] * 2
    assert lines[5:] == ["", "a", "1", "b", "", "— a c", ""]
    assert TlogProof(0, (), "c\n").text() == "c2sp.org/tlog-proof@v1\nindex 0\n\nc\n"


def test_a_proof_file_is_at_most_two_notes_long() -> None:
    head = "c2sp.org/tlog-proof@v1\nindex 0\n\n"
    longest = head + "c" * (2 * tlog.MAX_NOTE_BYTES - len(head))
    assert len(tlog.parse_proof(longest).checkpoint) == len(longest) - len(head)
    with pytest.raises(BadLogFormat, match=r"^no proof: "):
        tlog.parse_proof(longest + "c")


NO_PROOF = "no proof: want the first line c2sp.org/tlog-proof@v1 and a checkpoint after an empty line"
NO_INDEX = "the proof has no line with its index"
INDEX = "want a decimal without leading zeroes, below 2^63"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", NO_PROOF),
        ("c2sp.org/tlog-proof@v1\n", NO_PROOF),
        ("c2sp.org/tlog-proof@v2\nindex 1\n\nc\n", NO_PROOF),
        ("c2sp.org/tlog-proof@v1\n\nc\n", NO_INDEX),
        ("c2sp.org/tlog-proof@v1\nextra YQ==\n\nc\n", NO_INDEX),
        ("c2sp.org/tlog-proof@v1\nextra !\n\nc\n", "extra data: not base64"),
        ("c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nc\n", "extra data: not base64"),
        ("c2sp.org/tlog-proof@v1\nindex x\n\nc\n", f"index 'x': {INDEX}"),
        ("c2sp.org/tlog-proof@v1\nindex 01\n\nc\n", f"index '01': {INDEX}"),
        ("c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nc\n", "a hash of 3 bytes: want 32"),
    ],
)
def test_what_is_no_proof_file_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(BadLogFormat) as refused:
        tlog.parse_proof(text)
    assert str(refused.value) == reason
