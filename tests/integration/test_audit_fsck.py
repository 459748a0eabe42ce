"""Somebody else's checker judges our log: tessera's fsck, over files and over HTTP.

It exits 0 on a tampered log too and can hang with one worker, hence its words are read and its time is limited.
"""

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.core import keys, merkle, tlog
from tests.audit import Home, append
from tests.peers import need


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def fsck(url: str, vkey: str, folder: Path) -> bool:
    key = folder / "log.vkey"
    key.write_text(vkey)
    command = [need("fsck"), "--N=8", "--ui=false", f"--storage_url={url}", f"--public_key={key}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return "Successfully fsck'd" in done.stderr + done.stdout


@pytest.mark.parametrize("sizes", [(1,), (255, 256), (257, 300), (20, 600, 66_000)])
def test_fsck_accepts_the_log_at_every_size(home: Home, sizes: tuple[int, ...]) -> None:
    need("fsck")
    audit = home.open()
    for size in sizes:
        append(audit, size - audit.size(), audit.size() + 1)
        audit.publish()
    assert fsck(f"file://{home.folder}/", home.vkey.text, home.folder.parent)


def test_fsck_refuses_an_edited_entry(home: Home) -> None:
    need("fsck")
    home.filled(20)
    leaves = home.leaves()
    leaves[7] = leaves[7].replace(b'"n":8', b'"n":9')
    home.write_bundles(leaves)
    assert not fsck(f"file://{home.folder}/", home.vkey.text, home.folder.parent)


def test_fsck_accepts_a_checkpoint_of_a_p256_key(home: Home) -> None:
    need("fsck")
    home.filled(300)
    key = keys.generate_p256()
    root = merkle.root(map(merkle.leaf_hash, home.leaves()))
    text = tlog.Checkpoint("ai-infra.test/p256", 300, root).text()
    note = tlog.sign_note(text, "ai-infra.test/p256", key.public_key(), lambda message: keys.sign(key, message).sig)
    home.store.write("checkpoint", note.encode())
    assert fsck(f"file://{home.folder}/", tlog.vkey_text("ai-infra.test/p256", key.public_key()), home.folder.parent)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served(home: Home) -> Iterator[str]:
    home.filled(300)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(home.folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_fsck_accepts_the_log_over_http(home: Home, served: str) -> None:
    assert fsck(served, home.vkey.text, home.folder.parent)
