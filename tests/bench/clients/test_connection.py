"""The HTTP client: answers in pieces, several on one connection, and what it does not take."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bench.clients.connection import BadAnswer, Connection, Response

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(serve: Serve, requests: int) -> tuple[list[Response], int]:
    """The responses to so many requests, and how many connections they took."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def scene() -> list[Response]:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        connection = Connection(*server.sockets[0].getsockname()[:2])
        try:
            return [await connection.exchange(b"GET / HTTP/1.1\r\n\r\n") for _ in range(requests)]
        finally:
            connection.close()
            server.close()

    return asyncio.run(scene()), connections


def test_an_answer_may_come_in_any_pieces() -> None:
    async def byte_by_byte(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 202 Accepted\r\ncontent-LENGTH: 5\r\n\r\nhello":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    assert talk(byte_by_byte, 3) == ([Response(202, b"hello")] * 3, 1)


def test_a_connection_that_the_server_closes_is_made_anew() -> None:
    async def last(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    assert talk(last, 3) == ([Response(200, b"ok")] * 3, 3)


def test_an_answer_without_a_length_is_refused() -> None:
    async def chunked(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        await writer.drain()

    with pytest.raises(BadAnswer, match="Content-Length"):
        talk(chunked, 1)


def test_a_connection_that_breaks_off_is_told() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        await writer.drain()
        writer.close()

    with pytest.raises(BadAnswer, match="broke off"):
        talk(half, 1)
