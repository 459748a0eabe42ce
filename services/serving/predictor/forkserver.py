"""Starts predictors in tenths of a second: imports KServe and torch once, then forks one process for each order.

Imports took 7-8 s for each predictor, a fork 20 ms. The parent stays single-threaded and computes nothing, so a fork copies no
lock and no thread pool. Commands come as JSON lines on stdin, events leave as JSON lines:

    {"op": "start", "replica": ID, "order": {…}}      {"event": "idle"}: imports are done
    {"op": "stop", "replica": ID}                     {"event": "ready", "replica", "pid", "port"}
                                                      {"event": "refused", "replica", "retryable", "message"}
                                                      {"event": "exited", "replica", "status"}

It ends, and its predictors with it, when stdin closes or the router dies.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from services.core.errors import AiInfraError
from services.core.processes import die_with_parent

POLL_S = 0.1
STOP_S = 5.0
"""Seconds from the wish to stop a predictor to its end by force; it finishes its requests within two."""
MAX_MESSAGE = 500
"""Characters; at most 6 bytes each in ASCII JSON, so that a line stays below PIPE_BUF (4096) and writers never mix theirs."""

Serve = Callable[[dict[str, Any], Callable[[int], None]], None]
"""Loads what the order says and serves; calls back with the port."""


class ForkServer:
    """commands: a file descriptor to read; events: one to write."""

    def __init__(self, commands: int, events: int, serve: Serve) -> None:
        self._commands, self._events, self._serve = commands, events, serve
        self._children: dict[int, str] = {}
        self._kill_at: dict[int, float] = {}
        self._buffer = b""

    def run(self) -> None:
        """Until the commands end."""
        self._tell(event="idle")
        while self._read():
            self._reap()
            self._kill()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._commands], [], [], POLL_S)
        if not ready:
            return True
        data = os.read(self._commands, 1 << 16)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, command: dict[str, Any]) -> None:
        if command["op"] == "start":
            self._fork(command["replica"], command["order"])
            return
        for pid, replica in self._children.items():
            if replica == command["replica"]:
                os.kill(pid, signal.SIGTERM)
                self._kill_at[pid] = time.monotonic() + STOP_S

    def _kill(self) -> None:
        """Ends predictors that hang and do not hear that they should stop."""
        for pid, due in list(self._kill_at.items()):
            if time.monotonic() >= due:
                del self._kill_at[pid]
                os.kill(pid, signal.SIGKILL)

    def _fork(self, replica: str, order: dict[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child(parent, replica, order)
        self._children[pid] = replica

    def _child(self, parent: int, replica: str, order: dict[str, Any]) -> NoReturn:
        status = 1
        try:
            die_with_parent(parent)
            os.close(self._commands)
            self._serve(order, lambda port: self._tell(event="ready", replica=replica, pid=os.getpid(), port=port))
            status = 0
        except AiInfraError as error:
            self._tell(event="refused", replica=replica, retryable=error.retryable, message=str(error)[:MAX_MESSAGE])
        except Exception as error:  # whatever it is, the router must hear of it
            self._tell(event="refused", replica=replica, retryable=False, message=f"{type(error).__name__}: {error}"[:MAX_MESSAGE])
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._kill_at.pop(pid, None)
            self._tell(event="exited", replica=self._children.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _tell(self, **event: Any) -> None:
        line = json.dumps(event).encode("ascii") + b"\n"
        try:
            os.write(self._events, line)
        except BrokenPipeError:
            # The router is gone; stdin ends with it.
            return
