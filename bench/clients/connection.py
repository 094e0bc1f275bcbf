"""A keep-alive HTTP/1.1 connection that costs little: the machine is there for what is measured.

It knows what the subjects' JSON answers need, a status and a Content-Length, and refuses the rest.
"""

import asyncio
import re
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)
_LAST = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_STATUS = slice(9, 12)
"""Where the status stands in `HTTP/1.1 200 OK`."""


class BadAnswer(Exception):
    """What came back is no HTTP/1.1 that this client knows, or the connection broke off."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time; connects when it must."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[Response] | None = None

    async def exchange(self, *pieces: bytes) -> Response:
        """Send a request, each piece in a write of its own, and wait for its response.

        Raises `BadAnswer` or `OSError`.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, self._host, self._port)
        assert self._transport is not None
        self._answer = loop.create_future()
        for piece in pieces:
            self._transport.write(piece)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received.clear()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n") + 4
        if head == 3:
            return
        length = _LENGTH.search(self._received, 0, head)
        if length is None:
            self.close()
            self._settle(BadAnswer("an answer without Content-Length"))
            return
        end = head + int(length[1])
        if len(self._received) < end:
            return
        response = Response(int(self._received[_STATUS]), bytes(self._received[head:end]))
        if _LAST.search(self._received, 0, head):
            self.close()
        self._received.clear()
        self._settle(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settle(BadAnswer(f"the connection broke off ({exc or 'closed by the server'})"))

    def _settle(self, result: Response | Exception) -> None:
        if self._answer is None or self._answer.done():
            return
        if isinstance(result, Response):
            self._answer.set_result(result)
        else:
            self._answer.set_exception(result)
