"""Asks many questions from a few clients, a process of its own: `python -m bench.models.asking`.

It takes an `Errand` on stdin. While it asks it does no more than note when an answer is complete; what it
says is looked at afterwards.
"""

import asyncio
import re
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.engines.reader import unchunked

KNOCK_SECONDS = 0.2
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)
_LAST = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


class Errand(msgspec.Struct, frozen=True):
    """`clients` POST `bodies` to `path`, each its next one when the last is answered.

    The first body is sent until it is answered with 200, for `patience` seconds, before all else.
    """

    url: str
    path: str
    headers: dict[str, str]
    clients: int
    bodies: list[Any]
    patience: float = 120.0


class Answered(msgspec.Struct, frozen=True):
    """All answers in the order of their bodies: the content, its status, and the seconds that each took.

    `seconds` is from the first request to the last answer.
    """

    contents: list[bytes]
    statuses: list[int]
    took: list[float]
    seconds: float


class Exchange(asyncio.Protocol):
    """A keep-alive connection: one request at a time, the whole answer as it came."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._end: int | None = None
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes) -> "asyncio.Future[bytes]":
        """The future answer: head and body. It gets a `ConnectionError` when the server hangs up."""
        assert self._transport is not None
        self._received.clear()
        self._end = None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end is None:
            head = self._received.find(b"\r\n\r\n") + 4
            if head == 3:
                return
            length = _LENGTH.search(self._received, 0, head)
            # -1: chunked, which ends with a chunk of no length.
            self._end = head + int(length[1]) if length is not None else -1
        whole = (
            self._received.endswith(_LAST_CHUNK)
            if self._end < 0
            else len(self._received) >= self._end
        )
        if whole and self._answer is not None and not self._answer.done():
            if _LAST.search(self._received):
                self.close()
            self._answer.set_result(bytes(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server hung up ({exc})"))


class Client:
    """Connects when it must."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._exchange = Exchange()

    async def ask(self, body: Any) -> tuple[int, bytes]:
        """Status and content. Raises `OSError`."""
        address = urlsplit(self._errand.url)
        assert address.hostname is not None and address.port is not None
        if not self._exchange.open:
            loop = asyncio.get_running_loop()
            _, self._exchange = await loop.create_connection(
                Exchange, address.hostname, address.port
            )
        content = msgspec.json.encode(body)
        lines = [f"POST {self._errand.path} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in self._errand.headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        return _split(await self._exchange.send("\r\n".join(lines).encode() + content))

    def close(self) -> None:
        self._exchange.close()


def _split(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, unchunked(bytearray(body)) if _CHUNKED.search(head + b"\r\n") else body


async def ask_all(errand: Errand) -> Answered:
    """Carry the errand out. Raises `TimeoutError` when nobody answers the first body, and `OSError`."""
    await _knock(errand)
    answers: list[tuple[int, bytes, float]] = [(0, b"", 0.0)] * len(errand.bodies)
    numbers = iter(range(len(errand.bodies)))

    async def work() -> None:
        client = Client(errand)
        for number in numbers:
            began = time.perf_counter()
            status, content = await client.ask(errand.bodies[number])
            answers[number] = (status, content, time.perf_counter() - began)
        client.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(errand.clients)))
    seconds = time.perf_counter() - began
    statuses, contents, took = (list(column) for column in zip(*answers, strict=True))
    return Answered(contents, statuses, took, seconds)


async def _knock(errand: Errand) -> None:
    client = Client(errand)
    async with asyncio.timeout(errand.patience):
        while True:
            try:
                if (await client.ask(errand.bodies[0]))[0] == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(KNOCK_SECONDS)


def main() -> int:
    """1 when the errand could not be carried out."""
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    try:
        answered = asyncio.run(ask_all(errand))
    except (TimeoutError, OSError) as error:
        print(f"asking {errand.url}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(answered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
