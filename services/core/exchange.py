"""HTTP/1.1 over mutual TLS as two of our processes speak it: one connection, one request at a time, small bodies.

Not for servers of other people: it follows no redirect, keeps no cookie, and asks for no compression.
"""

import select
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

import httptools

READ_BYTES = 1 << 16


class Answer(NamedTuple):
    """content: the body, JSON as a rule."""

    status: int
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Connection:
    """Open from the start; for one thread at a time.

    timeout_s: of each wait for the server. Whatever raises OSError or httptools.HttpParserError leaves it unusable: close it.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> None:
        self._host = f"{host}:{port}"
        plain = socket.create_connection((host, port), timeout_s)
        try:
            # Else the end of a request waits for the server to acknowledge its beginning.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        self._ended = select.poll()
        self._ended.register(self._socket, select.POLLIN)
        self._parser: Any = None
        self._body, self._complete, self._kept = list[bytes](), False, True

    @property
    def usable(self) -> bool:
        """Whether it may be asked again: an idle connection has nothing to read but its end."""
        return self._kept and not self._ended.poll(0)

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request and its answer. headers: without line ends, as in our own code."""
        self._body, self._complete, self._parser = [], False, httptools.HttpResponseParser(self)
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # In one piece: head and body apart are two TLS records, and wake the server twice.
        self._socket.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1") + body)
        while not self._complete:
            if not (read := self._socket.recv(READ_BYTES)):
                raise ConnectionError("the connection ended before the answer did")
            self._parser.feed_data(read)
        return Answer(self._parser.get_status_code(), b"".join(self._body))

    def close(self) -> None:
        self._socket.close()

    # httptools

    def on_headers_complete(self) -> None:
        self._kept = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
