"""Python processes that start with torch imported already.

Ray Train starts six Python processes for a run, and each spends 5 to 9 s of processor time on imports: on two cores a run with
two seconds of training took 36 to 46 s. The nursery is a process that imports once and forks. `launcher` writes an executable
that behaves like `python ARGUMENTS`, but asks the nursery for a fork; Ray is told to use it as its Python.

Two rules make forking safe. The nursery has no threads (it refuses to serve if an import started one). And it never imports Ray:
Ray's C++ side reads its environment and seeds its random ids when it is loaded, so that two forks of a process which had loaded
it would give different tasks the same id. A launcher whose nursery is gone runs the real interpreter: only speed depends on it.
"""

import array
import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOCKET = "nursery"
MAX_REQUEST = 4 << 20
"""Bytes of arguments and environment; Linux allows a process about 2 MiB."""

LAUNCHER = """\
#!/bin/sh
exec {python} -ISE {client} {socket} {python} "$@"
"""


def launcher(folder: Path) -> Path:
    """Writes the executable. folder: private to this user (mode 0700), its path at most 90 bytes (a socket lies in it)."""
    path = folder / "python"
    words = {"python": sys.executable, "client": str(Path(__file__).with_name("prefork_client.py")), "socket": str(folder / SOCKET)}
    path.write_text(LAUNCHER.format(**{name: _quoted(word) for name, word in words.items()}))
    path.chmod(0o700)
    return path


def run(folder: Path, preload: tuple[str, ...], main: Callable[[], int]) -> int:
    """Imports, forks `main` as the first child, and serves forks until it ends.

    Args:
        folder: as for `launcher`.
        preload: modules that every fork finds imported; none of them may start a thread.
    Returns:
        The status that this process is to exit with: of `main` in the nursery, its own in a fork.
    """
    for name in preload:
        importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a process with threads cannot fork safely: an import started one")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / SOCKET))
    listener.listen(64)
    first = os.fork()
    if first == 0:
        listener.close()
        return main()
    found = _Nursery(listener, first).serve()
    return found if isinstance(found, int) else found()


class _Nursery:
    """Single-threaded: waits for requests, for the end of forks, and for launchers that were killed."""

    def __init__(self, listener: socket.socket, first: int) -> None:
        self._listener, self._first = listener, os.pidfd_open(first)
        self._first_pid = first
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._first, selectors.EVENT_READ)
        self._forks: dict[int, tuple[int, socket.socket]] = {}
        """Process id to its pidfd and the connection of the launcher that stands for it."""

    def serve(self) -> int | Callable[[], int]:
        """In the nursery the status of the first child, once it ended; in a fork what it has to do."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._first:
                    return self._stop()
                if key.fileobj is self._listener:
                    work = self._fork()
                    if work is not None:
                        return work
                elif key.data in self._forks:
                    self._ended(key.data, dead=key.fileobj == self._forks[key.data][0])

    def _fork(self) -> Callable[[], int] | None:
        connection, _ = self._listener.accept()
        try:
            request, files = _receive(connection)
        except (OSError, ValueError):
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            self._leave()
            connection.close()
            return lambda: _become(request, files)
        for file in files:
            os.close(file)
        pidfd = os.pidfd_open(pid)
        self._forks[pid] = (pidfd, connection)
        self._selector.register(pidfd, selectors.EVENT_READ, pid)
        self._selector.register(connection, selectors.EVENT_READ, pid)
        connection.sendall(pid.to_bytes(8, "big"))
        return None

    def _ended(self, pid: int, *, dead: bool) -> None:
        """A fork ended, or the launcher that stands for it was killed: then the fork goes too."""
        pidfd, connection = self._forks.pop(pid)
        if not dead:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(pidfd)
        self._selector.unregister(connection)
        os.close(pidfd)
        with contextlib.suppress(OSError):  # a launcher that is gone waits for no status
            connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
        connection.close()

    def _leave(self) -> None:
        """In a fork: nothing of the nursery stays open."""
        self._selector.close()
        self._listener.close()
        os.close(self._first)
        for pidfd, connection in self._forks.values():
            os.close(pidfd)
            connection.close()

    def _stop(self) -> int:
        _, status = os.waitpid(self._first_pid, 0)
        for pid in self._forks:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.settimeout(5)
    data, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(payload[: len(payload) - len(payload) % files.itemsize])
    size = int.from_bytes(data, "big")
    if len(files) != 3 or len(data) != 8 or size > MAX_REQUEST:
        raise ValueError("not a launcher's request")
    body = bytearray()
    while len(body) < size:
        chunk = connection.recv(size - len(body))
        if not chunk:
            raise ValueError("the launcher ended")
        body += chunk
    connection.settimeout(None)
    return json.loads(body), list(files)


def _become(request: dict[str, Any], files: list[int]) -> int:
    """Turns this fork into `python ARGUMENTS` with the launcher's files, folder and environment."""
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
