"""HTTP/1.1 as a crowd of clients needs it: cheap, and broken off wherever a test likes.

One process plays hundreds of clients on the same cores as the server, so a request must cost little.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

HEAD_LIMIT = 2**20


class Broken(Exception):
    """The connection ended, was refused, or stayed silent for too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """A problem document's code, '' where there is none."""
        with suppress(ValueError, AttributeError):
            return str(self.json().get("code", ""))
        return ""


@dataclass(frozen=True, slots=True)
class _Link:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.transport.abort()


class Wire:
    """One server, one token; connections are kept and used again."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._token = token
        self._idle: list[_Link] = []

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """One request and its answer. Raises `Broken`."""
        link: _Link | None = None
        target = f"{path}?{urlencode(params)}" if params else path
        try:
            async with asyncio.timeout(timeout):
                link = await self._link()
                await self._send(link, method, target, body, headers or {})
                status, head = await _head(link)
                answer = Answer(status, head, await _body(link, status, head))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            raise Broken(type(error).__name__) from error
        else:
            if head.get("connection") != "close":
                self._idle.append(link)
                link = None
            return answer
        finally:
            if link is not None:
                link.close()

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """A response whose body is read as it arrives; leaving the block hangs up.

        The answer's body is whole where the status is not 200. Raises `Broken`.
        """
        link: _Link | None = None
        try:
            async with asyncio.timeout(silence):
                link = await self._link(fresh=True)
                await self._send(link, "GET", path, None, headers)
                status, head = await _head(link)
                body = b"" if status == 200 else await _body(link, status, head)
            yield Answer(status, head, body), _chunks(link, silence)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Broken(type(error).__name__) from error
        finally:
            if link is not None:
                link.close()

    async def _link(self, *, fresh: bool = False) -> _Link:
        while self._idle and not fresh:
            link = self._idle.pop()
            if not link.reader.at_eof() and not link.writer.is_closing():
                return link
            link.close()
        return _Link(*await asyncio.open_connection(self._host, self._port, limit=HEAD_LIMIT))

    async def _send(
        self, link: _Link, method: str, target: str, body: Any, headers: Mapping[str, str]
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Authorization: Bearer {self._token}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if body is not None:
            lines += ["Content-Type: application/json"]
        if method != "GET":
            lines += [f"Content-Length: {len(data)}"]
        link.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await link.writer.drain()


async def _head(link: _Link) -> tuple[int, dict[str, str]]:
    raw = await link.reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _body(link: _Link, status: int, head: Mapping[str, str]) -> bytes:
    if status == 204:
        return b""
    if "content-length" in head:
        return await link.reader.readexactly(int(head["content-length"]))
    return b"".join([part async for part in _chunks(link, 30.0)])


async def _chunks(link: _Link, silence: float) -> AsyncIterator[bytes]:
    """A chunked body's bytes. Raises `Broken` where it ends without its last chunk."""
    reader = link.reader
    try:
        while True:
            async with asyncio.timeout(silence):
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                data = await reader.readexactly(size + 2)
            if size == 0:
                return
            yield data[:-2]
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        raise Broken(type(error).__name__) from error
