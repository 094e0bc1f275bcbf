"""Holds many streams open at once, a process of its own: `python -m bench.sse.reader`, an `Errand` on stdin.

It says on stdout when all streams are open and, once all have ended, what came when.
"""

import asyncio
import sys
from urllib.parse import urlsplit

import msgspec

from bench.engines.reader import Recorder, parse
from shared.descriptors import allow

CONNECTING = 16
"""Streams that are being opened at once."""
OTHER_FILES = 256
AGAIN_SECONDS = 0.5
"""Pause before one that was refused is asked for again."""
OPENED = b"retry:"


class Errand(msgspec.Struct, frozen=True):
    """A GET of each path. `patience` is in seconds: the longest wait for all streams to open or to end."""

    url: str
    headers: dict[str, str]
    paths: list[str]
    patience: float


class Opened(msgspec.Struct, tag=True, frozen=True):
    """Every stream has said its first bytes; `refused` were turned away before and asked again."""

    refused: int


class Heard(msgspec.Struct, tag=True, frozen=True):
    """For each path its tokens' texts, when each arrived (`time.time`), and whether it came to its end."""

    texts: list[list[str]]
    arrivals: list[list[float]]
    ended: list[bool]


class Stream(Recorder):
    """A recorder that tells whether the first bytes of a stream have come."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.opened.done() and OPENED in b"".join(piece for _, piece in self.received):
            self.opened.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened.done():
            self.opened.set_result(False)


class Readers:
    """All readers of an errand. `refused` counts the requests that were answered by no stream."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self.refused = 0

    async def hold(self) -> Heard:
        """Open all streams, say so, read them to their ends. Raises `TimeoutError`."""
        numbers = iter(range(len(self._errand.paths)))
        streams: dict[int, Stream] = {}

        async def open_some() -> None:
            for number in numbers:
                streams[number] = await self._open(self._errand.paths[number])

        async with asyncio.timeout(self._errand.patience):
            await asyncio.gather(*(open_some() for _ in range(CONNECTING)))
        tell(Opened(self.refused))
        async with asyncio.timeout(self._errand.patience):
            await asyncio.gather(*(stream.closed for stream in streams.values()))
        told = [parse(stream.received) for _, stream in sorted(streams.items())]
        return Heard(
            texts=[[token.text for token in each.tokens] for each in told],
            arrivals=[[token.arrived for token in each.tokens] for each in told],
            ended=[each.job is not None for each in told],
        )

    async def _open(self, path: str) -> Stream:
        address = urlsplit(self._errand.url)
        assert address.hostname is not None and address.port is not None
        loop = asyncio.get_running_loop()
        lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self._errand.headers.items()]
        while True:
            transport, stream = await loop.create_connection(Stream, address.hostname, address.port)
            transport.write("\r\n".join([*lines, "", ""]).encode())
            if await stream.opened:
                return stream
            self.refused += 1
            await asyncio.sleep(AGAIN_SECONDS)


def tell(said: Opened | Heard) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """1 when the streams could not be opened or did not end."""
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    allow(len(errand.paths) + OTHER_FILES)
    try:
        tell(asyncio.run(Readers(errand).hold()))
    except (TimeoutError, OSError) as error:
        print(f"reader: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
