"""The router's door: clients that do not get on with their first request, too many of them, and certificates that are renewed."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import ClientSession, web

from services.core.renewal import renew
from services.core.tls import DevelopmentCa, client_context, server_context, service_id
from services.serving.router.front import Front

HEAD_S = 0.3


def served(test: Callable[[int, Front], Awaitable[None]], max_connections: int = 100) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=await request.text())

    async def main() -> None:
        inner = web.Server(answer)
        front = Front(inner, HEAD_S, max_connections)
        server = await asyncio.get_running_loop().create_server(front, "127.0.0.1", 0)
        try:
            await test(server.sockets[0].getsockname()[1], front)
        finally:
            server.close()
            front.close()
            await inner.shutdown(0.1)

    asyncio.run(main())


async def ask(port: int, body: str = "hello") -> str:
    async with ClientSession() as session, session.post(f"http://127.0.0.1:{port}/", data=body) as response:
        return await response.text()


def test_a_client_that_dribbles_its_headers_is_cut_while_others_are_answered() -> None:
    async def test(port: int, front: Front) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"POST / HT")
            await asyncio.sleep(HEAD_S / 4)
            assert await ask(port) == "hello"
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5 * HEAD_S) == b""
        assert not front.waiting

    served(test)


def test_a_head_in_pieces_is_answered() -> None:
    async def test(port: int, front: Front) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-le", b"ngth: 2\r\n\r", b"\no", b"k"):
            writer.write(piece)
            await asyncio.sleep(0.02)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()

    served(test)


def test_connections_over_the_limit_are_closed_and_room_comes_back() -> None:
    async def test(port: int, front: Front) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), HEAD_S / 2) == b""
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        assert await ask(port) == "hello"

    served(test, max_connections=2)


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    ca = DevelopmentCa(tmp_path / "ca")
    identity = ca.issue(service_id("router"), tmp_path / "router")
    outside = server_context(identity)

    asking = client_context(ca.issue(service_id("api"), tmp_path / "api"))

    async def shown(port: int) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=asking)
        secure: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = secure.getpeercert(binary_form=True)
        writer.close()
        assert certificate is not None
        return certificate

    async def main() -> None:
        renewing = asyncio.ensure_future(renew(identity, 0.05))
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=outside)
        port = server.sockets[0].getsockname()[1]
        before = await shown(port)
        identity.key.write_bytes(b"half of a new key")
        await asyncio.sleep(0.2)
        assert await shown(port) == before
        ca.issue(service_id("router"), tmp_path / "router")
        await asyncio.sleep(0.3)
        assert await shown(port) != before
        renewing.cancel()
        server.close()

    asyncio.run(main())
