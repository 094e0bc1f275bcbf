"""Holds many streams open at once, a process of its own: `python -m bench.sse.reader`, an `Errand` on stdin.

It says on stdout when all streams are open and, once all have ended, what came when.
"""

import asyncio
import sys
from urllib.parse import urlsplit

import msgspec

from bench.descriptors import allow_many
from bench.engines.reader import Recorder, parse

CONNECTING = 64
"""Streams that are being opened at once."""
OPENED = b"retry:"


class Errand(msgspec.Struct, frozen=True):
    """A GET of each path. `patience` is in seconds: the longest wait for all streams to open or to end."""

    url: str
    headers: dict[str, str]
    paths: list[str]
    patience: float


class Opened(msgspec.Struct, tag=True, frozen=True):
    """Every stream has said its first bytes."""


class Heard(msgspec.Struct, tag=True, frozen=True):
    """For each path its tokens' texts, when each arrived (`time.time`), and whether it came to its end."""

    texts: list[list[str]]
    arrivals: list[list[float]]
    ended: list[bool]


class Stream(Recorder):
    """A recorder that tells when the first bytes of the stream are there."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.opened.done() and OPENED in b"".join(piece for _, piece in self.received):
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened.done():
            said = b"".join(piece for _, piece in self.received)[:200]
            self.opened.set_exception(ConnectionError(f"no stream: {said!r}"))


async def hold(errand: Errand) -> Heard:
    """Open all streams, say so, read them to their ends. Raises `TimeoutError`, `OSError`."""
    streams: list[Stream] = []
    async with asyncio.timeout(errand.patience):
        for start in range(0, len(errand.paths), CONNECTING):
            some = errand.paths[start : start + CONNECTING]
            streams += await asyncio.gather(*(_open(errand, path) for path in some))
    tell(Opened())
    async with asyncio.timeout(errand.patience):
        await asyncio.gather(*(stream.closed for stream in streams))
    told = [parse(stream.received) for stream in streams]
    return Heard(
        texts=[[token.text for token in each.tokens] for each in told],
        arrivals=[[token.arrived for token in each.tokens] for each in told],
        ended=[each.job is not None for each in told],
    )


async def _open(errand: Errand, path: str) -> Stream:
    address = urlsplit(errand.url)
    loop = asyncio.get_running_loop()
    transport, stream = await loop.create_connection(Stream, address.hostname, address.port)
    lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in errand.headers.items()]
    transport.write("\r\n".join([*lines, "", ""]).encode())
    await stream.opened
    return stream


def tell(said: Opened | Heard) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """1 when the streams could not be opened or did not end."""
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    allow_many(len(errand.paths))
    try:
        tell(asyncio.run(hold(errand)))
    except (TimeoutError, OSError) as error:
        print(f"reader: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
