"""Verification of 1 GiB of signed weights, in one file and in eight: ours, stock `model_signing verify`, `openssl dgst -sha256`.

Whole processes are timed, start included; the files are in the page cache. Ours checks what the stock tool checks (every file's
digest, the signature, nothing extra or missing); openssl computes the digests and nothing else, in one process.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import peers
from benchmarks.harness import Row, Size, Target, against, in_turn, say, seconds
from services.core import dsse, keys, oms
from services.core.keys import PrivateKey

MIB = 1 << 20
TREES = {"one file": 1, "8 files": 8}
VERIFY = """
import sys
from pathlib import Path
from services.core import keys, oms

tree, public = map(Path, sys.argv[1:])
oms.verify((tree / oms.SIGNATURE_FILE).read_bytes(), tree, keys.load_public_pem(public.read_text()))
"""
"""Our side of what is timed: ends with status 1 if the tree is not the signed one."""


def measure(size: Size) -> list[Row]:
    """Seconds of each tool over each tree."""
    total = size.of(1024, 16) * MIB
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        key = keys.generate_p256()
        public = Path(folder) / "key.pem"
        public.write_text(keys.public_pem(key.public_key()))
        for name, files in TREES.items():
            tree = signed_tree(Path(folder) / f"model-{files}", files, total // files, key)
            say(f"weights: {total // MIB} MiB in {name}")
            rows += rows_of(name, size, tree, public)
    return rows


def rows_of(name: str, size: Size, tree: Path, public: Path) -> list[Row]:
    files = sorted(str(path) for path in tree.glob("*.safetensors"))
    bundle = str(tree / oms.SIGNATURE_FILE)
    tool = peers.installed("model-signing") / "model_signing"
    stock = [str(tool), "verify", "key", "--signature", bundle, "--public_key", str(public), str(tree)]
    contenders = {
        "ours": [sys.executable, "-c", VERIFY, str(tree), str(public)],
        "stock": stock,
        "openssl": [peers.openssl(), "dgst", "-sha256", *files],
    }
    found = in_turn(size.rounds + 1, {tool: lambda command=command: timed(command) for tool, command in contenders.items()})
    ours, theirs, bare = (found[tool][1:] for tool in contenders)
    work, note = f"verify 1 GiB of weights in {name}", "whole processes, with their start; files in the page cache"
    return [
        against(f"{work} / stock tool", "s", ours, theirs, "model_signing 1.1.1", Target(0.7, "lower", "ratio"), note),
        against(f"{work} / digests only", "s", ours, bare, "openssl dgst", Target(1.2, "lower", "ratio"), note),
    ]


def timed(command: list[str]) -> float:
    """Wall clock of a process that must succeed."""

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return seconds(run)


def signed_tree(tree: Path, files: int, each: int, key: PrivateKey) -> Path:
    """A tree of random files with its `model.sig`."""
    tree.mkdir()
    for number in range(files):
        with (tree / f"part-{number}.safetensors").open("wb") as file:
            for _ in range(each // MIB):
                file.write(os.urandom(MIB))
    payload = oms.statement(tree)
    signature = keys.sign(key, dsse.pae(dsse.PAYLOAD_TYPE, payload))
    (tree / oms.SIGNATURE_FILE).write_bytes(oms.bundle(payload, signature, key.public_key()))
    return tree
