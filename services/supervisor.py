"""Runs the platform of a home: API, signing proxy and router as processes of their own, started again when one dies."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services.core.calls import client
from services.core.errors import BadSetting, Unavailable
from services.core.processes import SUPERVISOR
from services.home import Home

DEFAULT_PORTS = {"api": 8443, "router": 8444, "signing-proxy": 8445}
MODULES = {"api": "services.api", "router": "services.serving.router", "signing-proxy": "services.signing"}
READY_S = 60.0
MAX_RESTARTS, WITHIN_S = 5, 600.0
"""Restarts of one process within ten minutes before the supervisor gives up: one that dies at once will die again."""

Tell = Callable[[str], None]


def free_ports() -> dict[str, int]:
    """Three ports that nobody listens on now."""
    sockets = [socket.socket() for _ in DEFAULT_PORTS]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return {name: item.getsockname()[1] for name, item in zip(DEFAULT_PORTS, sockets, strict=True)}
    finally:
        for item in sockets:
            item.close()


@dataclass
class Platform:
    """The processes of one home. Use as a context manager: leaving it stops them. lock: file descriptor, while they are ours."""

    home: Home
    ports: Mapping[str, int] = field(default_factory=lambda: DEFAULT_PORTS)
    environ: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = lambda text: None
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    restarts: dict[str, list[float]] = field(default_factory=dict)
    lock: int | None = None

    def __enter__(self) -> "Platform":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"https://127.0.0.1:{port}" for name, port in self.ports.items()}

    def start(self) -> None:
        """All processes, ready to serve.

        Raises:
            BadSetting: the home runs no platform, a port is taken, or a process says that a setting is wrong.
            Unavailable: one is not ready in time.
        """
        self.home.require_platform()
        self.hold()
        for name, port in self.ports.items():
            _require_free(name, port)
        for name in MODULES:
            self._spawn(name)
        for name in MODULES:
            self._wait(name)
        # Written last: whoever reads the addresses finds the platform ready.
        _write(self.home.root / "run" / "endpoints.json", json.dumps(self.urls))

    def hold(self) -> None:
        """Makes this process the home's only one: each database has one owner. `stop` lets the home go.

        By a lock, which the kernel takes back however the process ends; the number in the file is for the message only.

        Raises:
            BadSetting: another platform runs on this home.
        """
        if self.lock is not None:
            return
        handle = os.open(self.home.root / "run" / "pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(handle, 20).decode("ascii", "replace")
            os.close(handle)
            raise BadSetting(f"the platform of {self.home.root} is running already, as process {pid}: stop it first") from error
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self.lock = handle

    def watch(self) -> None:
        """Starts processes that died again, until interrupted.

        Raises:
            Unavailable: one died too often.
        """
        while True:
            time.sleep(0.3)
            self.mend()

    def mend(self) -> None:
        """Starts each process that died again."""
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                continue
            now = time.monotonic()
            self.restarts[name] = [when for when in self.restarts.get(name, []) if now - when < WITHIN_S] + [now]
            if len(self.restarts[name]) > MAX_RESTARTS:
                raise Unavailable(f"{name} died {MAX_RESTARTS} times: see {self._log(name)}")
            self.tell(f"{name} ended with {process.returncode}; starting it again")
            self._spawn(name)
            self._wait(name)

    def stop(self) -> None:
        """Stops all, the router first, so that no request meets half a platform. Of a home that another process runs, nothing."""
        if self.lock is None:
            return
        if self.processes:
            (self.home.root / "run" / "endpoints.json").unlink(missing_ok=True)
        for name in ("router", "api", "signing-proxy"):
            process = self.processes.pop(name, None)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        # The file stays: whoever waits for a lock on a file that is unlinked meanwhile would hold a lock on nothing.
        os.close(self.lock)
        self.lock = None

    def kill(self, name: str) -> None:
        """SIGKILL to one process, as an outage would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def _spawn(self, name: str) -> None:
        log = self._log(name).open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", MODULES[name]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environ(),
            start_new_session=True,
        )
        log.close()

    def _environ(self) -> dict[str, str]:
        return os.environ | {
            "AI_INFRA_HOME": str(self.home.root),
            "AI_INFRA_PEOPLE": str(self.home.people),
            "AI_INFRA_API_PORT": str(self.ports["api"]),
            "AI_INFRA_ROUTER_PORT": str(self.ports["router"]),
            "AI_INFRA_SIGNING_PORT": str(self.ports["signing-proxy"]),
            "AI_INFRA_API_URL": self.urls["api"],
            "AI_INFRA_ROUTER_URL": self.urls["router"],
            "AI_INFRA_SIGNING_URL": self.urls["signing-proxy"],
            "AI_INFRA_CERTS": str(self.home.root / "services"),
            SUPERVISOR: str(os.getpid()),
            **self.environ,
        }

    def _wait(self, name: str) -> None:
        process, deadline = self.processes[name], time.monotonic() + READY_S
        with client(self.urls[name], self.home.service("api"), timeout_s=2.0) as caller:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise BadSetting(f"{name} does not start: {self._last_line(name)}")
                try:
                    if caller.get("/healthz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # it is not listening yet
                time.sleep(0.05)
        raise Unavailable(f"{name} is not ready after {READY_S:.0f} s: see {self._log(name)}")

    def _log(self, name: str) -> Path:
        return self.home.root / "logs" / f"{name}.log"

    def _last_line(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it says nothing in {self._log(name)}"


def _require_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadSetting(f"port {port} for {name} is taken: stop what listens there, or use --port-base") from error


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.rename(path)
