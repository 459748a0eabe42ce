"""What stands around ASGI applications has in common."""

from starlette.types import Message, Send


class Noted:
    """A `send` that remembers the answer's status: 500 while none was sent."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
