"""What each shape puts on the wire: read by a server that keeps every piece as it came."""

import asyncio
import json

import pytest

from bench.clients.conversation import Conversation
from bench.clients.order import Dialect
from bench.clients.shapes import SHAPES, Shape, writes

DIALECT = Dialect(path="/infer", answer=("text",), headers={"Authorization": "Bearer x"})
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"text":"one"}'


def heads(shape: Shape, requests: int = 3) -> list[dict[str, str]]:
    """The headers of so many requests of one conversation."""
    seen: list[dict[str, str]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(requests):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = (line.partition(": ") for line in head.split("\r\n")[1:-2])
            seen.append({name: value for name, _, value in lines})
            body = await reader.readexactly(int(seen[-1]["Content-Length"]))
            assert json.loads(body) == {"prompt": "one"}
            writer.write(ANSWER)
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        talk = Conversation(f"http://{host}:{port}", DIALECT, shape)
        connection = talk.connect()
        try:
            for _ in range(requests):
                await talk.hold(connection, "one")
        finally:
            connection.close()
            server.close()

    asyncio.run(scene())
    return seen


@pytest.mark.parametrize(
    ("shape", "header"), [("client", "Idempotency-Key"), ("traced", "traceparent")]
)
def test_each_request_has_a_header_of_its_own(shape: Shape, header: str) -> None:
    sent = heads(shape)

    assert len({head[header] for head in sent}) == len(sent) == 3
    assert {head["Authorization"] for head in sent} == {"Bearer x"}


def test_the_same_shape_repeats_one_head() -> None:
    first, *others = heads("same")

    assert others == [first, first]
    assert "Idempotency-Key" not in first


@pytest.mark.parametrize("shape", SHAPES)
def test_head_and_body_travel_apart_except_in_the_same_shape(shape: Shape) -> None:
    pieces = writes(shape, b"head", b"body")

    assert pieces == ((b"headbody",) if shape == "same" else (b"head", b"body"))
    assert b"".join(pieces) == b"headbody"
