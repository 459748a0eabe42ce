"""What a caller is told when the database server is gone without a word: no answer, and no end of the connection.

`unshare -n python -m tests.faults.silence SOCKET`, within a network of its own, whose only link goes down while one statement waits
for its answer and a second connection is idle. Prints the error of each, as JSON.
"""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection

from services.core.database import open_engine
from services.core.errors import Unavailable


def main(path: str) -> None:
    _link("up")
    port = _forwarded(path)
    engine = open_engine(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres")
    with engine.connect() as waiting, engine.connect() as idle, ThreadPoolExecutor(1) as pool:
        for connection in (waiting, idle):
            assert _asked(connection, "SELECT 1") == ""
        answer = pool.submit(_asked, waiting, "SELECT pg_sleep(600)")
        while not idle.exec_driver_sql("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'").first():
            pass
        _link("down")
        print(json.dumps({"idle": _asked(idle, "SELECT 1"), "waiting": answer.result()}), flush=True)


def _asked(connection: Connection, statement: str) -> str:
    """Empty when it was answered."""
    try:
        connection.exec_driver_sql(statement)
    except Unavailable as error:
        return str(error)
    return ""


def _link(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def _forwarded(path: str) -> int:
    """The TCP port of a server that listens on a socket in the file system alone."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            client = listener.accept()[0]
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_carry, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def _carry(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
