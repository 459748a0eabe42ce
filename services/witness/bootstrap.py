"""Puts a witness together: the only file of it that names concrete classes."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from services.core import tlog
from services.core.clock import system_clock
from services.core.errors import BadSetting
from services.core.processes import die_with_supervisor
from services.witness.folder import FolderState, open_key
from services.witness.http import create_witness_app
from services.witness.service import Witness


@dataclass(frozen=True)
class Settings:
    """state: folder of key and kept checkpoints, of this witness alone; name: as its cosignatures say it; logs: verifier keys."""

    state: Path
    name: str
    logs: Sequence[str]
    host: str
    port: int


def vkey(state: Path, name: str) -> str:
    """The witness's verifier key, which the log's owner and every verifier must know; the key is made if there is none."""
    return tlog.witness_vkey_text(name, open_key(state).public_key())


def run(settings: Settings, ready: Callable[[str, int], None]) -> None:
    """Serves until SIGTERM. ready: told the verifier key and the port that it listens on.

    Raises:
        BadSetting, BadLogFormat: the message names the file, the key or the address.
    """
    die_with_supervisor(os.environ)
    state = FolderState(settings.state)
    try:
        logs = [tlog.parse_vkey(text) for text in settings.logs]
        witness = Witness(settings.name, open_key(settings.state), logs, state, system_clock)
        config = uvicorn.Config(create_witness_app(witness), host=settings.host, port=settings.port, log_level="warning")
        # From here on callers queue: whoever is told "ready" is answered.
        with _listening(settings.host, settings.port) as bound:
            ready(witness.vkey, bound.getsockname()[1])
            uvicorn.Server(config).run([bound])
    finally:
        state.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise BadSetting(f"{host}:{port} cannot be listened on: {why}; name another --port or --host") from error
