"""What a client and a subject say to each other about one job, and which answers count."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.clients.connection import BadAnswer, Connection, Response
from bench.clients.order import Dialect
from bench.clients.shapes import Shape, fresh_headers, writes

SHOWN = 200
"""Characters of a wrong answer that are printed, once for each reason."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Fault(Exception):
    """An answer that does not count. `reason` is what it is counted under, `seen` what came."""

    def __init__(self, reason: str, seen: str = "") -> None:
        super().__init__(f"{reason}: {seen[:SHOWN]}" if seen else reason)
        self.reason = reason


class Conversation:
    """All jobs of one order in one dialect. `requests` counts HTTP requests, polls included."""

    def __init__(self, url: str, dialect: Dialect, shape: Shape) -> None:
        self._dialect = dialect
        self._shape = shape
        self._fresh = fresh_headers(shape)
        self._host, self._port = _address(url)
        self._ids: set[str] = set()
        self.requests = 0

    def connect(self) -> Connection:
        """A connection for one job at a time."""
        return Connection(self._host, self._port)

    async def hold(self, connection: Connection, prompt: str) -> None:
        """One job, from its prompt to its right answer. Raises `Fault`."""
        dialect = self._dialect
        asked = {"prompt": prompt} if dialect.batch is None else {dialect.batch: [prompt]}
        body = _encode({**dialect.fields, **asked})
        head = self._head("POST", dialect.path, {**self._fresh(), **_content(body)})
        document = await self._exchange(connection, *writes(self._shape, head, body))
        said = _at(document, dialect.answer)
        if said is None and dialect.polling is not None:
            polling = dialect.polling
            path = polling.path.format(id=_at(document, polling.job_id))
            look = self._head("GET", path, {})
            while said is None:
                await asyncio.sleep(polling.every)
                said = _at(await self._exchange(connection, look), dialect.answer)
        if dialect.ids:
            self._take_id(said)
        elif said != prompt:
            raise Fault("wrong answer", f"{said!r} for {prompt!r}")

    def _take_id(self, said: object) -> None:
        if not isinstance(said, str) or not said or said in self._ids:
            raise Fault("no new id", repr(said))
        self._ids.add(said)

    async def _exchange(self, connection: Connection, *pieces: bytes) -> Any:
        self.requests += 1
        try:
            response = await connection.exchange(*pieces)
        except (BadAnswer, OSError) as error:
            raise Fault("connection failed", str(error)) from error
        return _document(response)

    def _head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        named = {**self._dialect.headers, **headers}
        lines += [f"{name}: {value}" for name, value in named.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def _content(body: bytes) -> dict[str, str]:
    return {"Content-Type": "application/json", "Content-Length": str(len(body))}


def _document(response: Response) -> Any:
    if response.status >= 400:
        raise Fault(f"HTTP {response.status}", response.body.decode("utf-8", "replace"))
    try:
        return _decode(response.body)
    except msgspec.DecodeError as error:
        raise Fault("not JSON", response.body.decode("utf-8", "replace")) from error


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at a path of member names and places in lists, None where nothing does."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"a URL with host and port is needed, got {url!r}")
    return parts.hostname, parts.port
