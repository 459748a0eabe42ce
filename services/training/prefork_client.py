"""What the launcher runs: it stands for the fork that the nursery makes, passes its signals on and ends with its status.

Run as `python -ISE prefork_client.py SOCKET PYTHON ARGUMENTS…`, before anything is imported; so it imports next to nothing.
"""

import array
import json
import os
import signal
import socket
import sys

WORKER, SETUP = "default_worker.py", "setup_worker.py"
"""Ray's scripts that are run by a fork. Its agents are not: they end when their parent is not the raylet."""


def main() -> int:
    path, python, *arguments = sys.argv[1:]
    environment = dict(os.environ)
    words = without_setup([word for word in arguments if word != "-u"], environment)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not words or os.path.basename(words[0]) != WORKER:
            raise ConnectionError
        connection.connect(path)
        pid = ask(connection, {"arguments": words, "cwd": os.getcwd(), "environment": environment})
    except (ConnectionError, FileNotFoundError):
        os.execv(python, [python, *arguments])  # noqa: S606  # the interpreter that the launcher was written for
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda found, _: os.kill(pid, found))
    status = int.from_bytes(connection.recv(8), "big", signed=True)
    # A fork that a signal ended: a shell's way to say so, since this process cannot always end by the same signal.
    return status if status >= 0 else 128 - status


def without_setup(words: "list[str]", environment: "dict[str, str]") -> "list[str]":
    """Does what setup_worker.py does for a worker that asks for nothing but environment variables: it would import Ray for that."""
    if not words or os.path.basename(words[0]) != SETUP:
        return words
    prefix = "--serialized-runtime-env-context="
    contexts = [json.loads(word[len(prefix) :]) for word in words if word.startswith(prefix)]
    rest = [word for word in words[1:] if not word.startswith((prefix, "--language="))]
    if any(context.get("command_prefix") or context.get("override_worker_entrypoint") for context in contexts):
        return words
    for context in contexts:
        environment.update(context.get("env_vars") or {})
    return rest


def ask(connection: socket.socket, request: "dict[str, object]") -> int:
    """Process id of the fork."""
    body = json.dumps(request).encode()
    files = array.array("i", [0, 1, 2])
    connection.sendmsg([len(body).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    connection.sendall(body)
    answer = connection.recv(8)
    if len(answer) != 8:
        raise ConnectionError
    return int.from_bytes(answer, "big")


if __name__ == "__main__":
    sys.exit(main())
