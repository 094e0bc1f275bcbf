"""Reads many streams at once, a process of its own: `python -m bench.engines.reader`, an `Errand` on stdin.

While streams run, it does no more than note what arrived when; it is all parsed afterwards, so that the
reader's own work delays no arrival.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

KNOCK_SECONDS = 0.1
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


class Errand(msgspec.Struct, frozen=True):
    """`streams` readers; each POSTs the next body to `path` once its last stream has ended.

    `knock` is a body that is sent until it is answered rightly, for `patience` seconds, before all else.
    """

    url: str
    path: str
    headers: dict[str, str]
    streams: int
    knock: Any
    bodies: list[Any]
    patience: float = 60.0


class Token(msgspec.Struct, frozen=True, array_like=True):
    """A `token` event: its text, and when the last byte of its frame arrived (`time.time`)."""

    arrived: float
    text: str


class Told(msgspec.Struct, frozen=True):
    """One stream: its tokens and the job that came with its end; None when it broke off."""

    tokens: list[Token]
    job: Any


class Heard(msgspec.Struct, frozen=True):
    """All streams in the order of their bodies, and the seconds from the first request to the last end."""

    told: list[Told]
    seconds: float


class Recorder(asyncio.Protocol):
    """Notes every piece of an answer with its arrival, until the server closes the connection."""

    def __init__(self) -> None:
        self.received: list[tuple[float, bytes]] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received.append((time.time(), data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.closed.done():
            self.closed.set_result(None)


async def read_streams(errand: Errand) -> Heard:
    """Carry the errand out. Raises `TimeoutError` when nobody answers the knock."""
    await _knock(errand)
    records: list[list[tuple[float, bytes]]] = [[] for _ in errand.bodies]
    numbers = iter(range(len(errand.bodies)))

    async def client() -> None:
        for number in numbers:
            records[number] = await _record(errand, errand.bodies[number])

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(errand.streams)))
    seconds = time.perf_counter() - began
    return Heard([parse(record) for record in records], seconds)


async def _knock(errand: Errand) -> None:
    async with asyncio.timeout(errand.patience):
        while True:
            try:
                if parse(await _record(errand, errand.knock)).job is not None:
                    return
            except OSError:
                pass
            await asyncio.sleep(KNOCK_SECONDS)


async def _record(errand: Errand, body: Any) -> list[tuple[float, bytes]]:
    address = urlsplit(errand.url)
    loop = asyncio.get_running_loop()
    assert address.hostname is not None and address.port is not None
    transport, recorder = await loop.create_connection(Recorder, address.hostname, address.port)
    try:
        content = msgspec.json.encode(body)
        lines = [f"POST {errand.path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in errand.headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        await recorder.closed
    finally:
        transport.close()
    return recorder.received


def parse(received: Iterable[tuple[float, bytes]]) -> Told:
    """An answer as it arrived to its tokens and its job. An answer that is no stream has neither."""
    tokens: list[Token] = []
    job = None
    for arrived, frame in frames(received):
        fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
        if fields.get(b"event") == b"token":
            tokens.append(Token(arrived, msgspec.json.decode(fields[b"data"])["text"]))
        elif fields.get(b"event") == b"done":
            job = msgspec.json.decode(fields[b"data"])
    return Told(tokens, job)


def frames(received: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The frames of a chunked answer with status 200, each with the arrival of its last byte."""
    raw = bytearray()
    body = bytearray()
    head_read = False
    for arrived, data in received:
        raw += data
        if not head_read:
            head, ends, rest = bytes(raw).partition(b"\r\n\r\n")
            if not ends:
                continue
            status = _STATUS.match(head)
            if status is None or status[1] != b"200":
                return
            head_read = True
            raw = bytearray(rest)
        body += unchunked(raw)
        *complete, rest = bytes(body).split(b"\n\n")
        body = bytearray(rest)
        for frame in complete:
            yield arrived, frame


def unchunked(raw: bytearray) -> bytes:
    """Take all complete HTTP chunks off the front."""
    taken = bytearray()
    while (line := raw.find(b"\r\n")) >= 0:
        size = int(raw[:line].split(b";")[0], 16)
        if size == 0 or len(raw) < line + 2 + size + 2:
            break
        taken += raw[line + 2 : line + 2 + size]
        del raw[: line + 2 + size + 2]
    return bytes(taken)


def main() -> int:
    """Read the errand, write what was heard; 1 when nobody answers."""
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    try:
        heard = asyncio.run(read_streams(errand))
    except TimeoutError:
        print(f"reader: no stream from {errand.url} in time", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(heard))
    return 0


if __name__ == "__main__":
    sys.exit(main())
