"""Contests of models: nobody wins by doing less, and no answer is taken for another one."""

import asyncio

import msgspec
import pytest

from bench.models.asking import Answered, Errand, ask_all
from bench.models.contests import embedding, generation, openai_embeddings
from bench.models.report import render
from bench.models.result import Entry, Outcome, Result, Turn
from bench.reporting.figures import Spread
from bench.reporting.machine import Machine

FRAMES = (
    b'id: 1-1\nevent: token\ndata: {"text":"a b","index":0}\n\n',
    b'id: 1-2\nevent: done\ndata: {"usage":{"completion_tokens":2}}\n\n',
)


def outcome(alike: int) -> Outcome:
    ours = Entry("ours", "s", [Turn(300.0, 0.1, 0.2), Turn(320.0, 0.1, 0.2)], 100, 100)
    slow = Entry("slow", "s", [Turn(90.0, 0.3, 0.5), Turn(90.0, 0.3, 0.5)], 100, 100)
    peer = Entry("peer", "s", [Turn(100.0, 0.2, 0.4), Turn(80.0, 0.2, 0.5)], alike, 100, 2.8)
    fast = Entry("fast", "s", [Turn(100.0, 0.2, 0.4), Turn(100.0, 0.2, 0.8)], alike, 100)
    return Outcome("generation", "G", "tokens", 3.0, 0.5, 0.95, [ours, slow, peer, fast])


def test_ours_is_held_against_the_fastest_peer() -> None:
    found = outcome(100)
    assert found.best.name == "fast"
    assert found.rate_ratio == Spread(3.1, 3.0, 3.2)
    assert found.p95_ratio.low == pytest.approx(0.25)


@pytest.mark.parametrize(("alike", "wrong"), [(95, False), (94, True)])
def test_a_peer_whose_answers_are_others_makes_the_contest_wrong(alike: int, wrong: bool) -> None:
    assert outcome(alike).wrong is wrong
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {}, "abc", 0.1)
    rendered = render(Result("2026-01-02", True, machine, [outcome(alike)]))
    assert f"{alike} of 100" in rendered
    assert "3.44 ×, goal ≥ 2.8" in rendered


def test_streams_are_read_to_texts_and_tokens() -> None:
    contest = generation(1)
    ours, theirs = contest.sides
    assert ours.bodies[0]["prompt"] == theirs.bodies[0]["prompt"]
    assert ours.bodies[0]["params"]["max_new_tokens"] == theirs.bodies[0]["max_new_tokens"]
    assert ours.read(Answered([b"".join(FRAMES)], [200], [1.0], 1.0)) == (["a b"], 2)
    texts, tokens = theirs.read(Answered([b'{"token": 70}\n{"token": 71}\n'], [200], [1.0], 1.0))
    assert tokens == 2 and len(texts) == 1 and texts[0]


def test_vectors_must_be_as_many_and_close() -> None:
    contest = embedding(1, 2, 1, (8,))
    ours, theirs, infinity = contest.sides
    assert ours.bodies[0]["input"] == infinity.bodies[0]["input"]
    assert (
        ours.bodies[0]["input"] == theirs.bodies[0]["input"] and len(theirs.bodies[0]["input"]) == 2
    )
    mine = msgspec.json.encode({"output": {"embeddings": [[1.0, 0.0], [0.0, 1.0]]}})
    [vectors], texts = ours.read(Answered([mine], [200], [1.0], 1.0))
    assert texts == 2
    rows = [{"embedding": [1.0, 0.0]}, {"embedding": [0.0, 1.0]}]
    said = msgspec.json.encode({"data": rows})
    assert infinity.read(Answered([said], [200], [1.0], 1.0)) == ([vectors], 2)
    assert contest.alike(vectors, [[1.0, 0.001], [0.0, 2.0]])
    assert not contest.alike(vectors, [[1.0, 0.1], [0.0, 1.0]])
    assert not contest.alike(vectors, vectors[:1])


def test_answers_are_kept_in_order_however_they_are_framed() -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*FRAMES, b""))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                number = int(await reader.readexactly(1))
                last = b"Connection: close\r\n" if number == 3 else b""
                writer.write(
                    b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n" % last + chunks
                    if number % 2
                    else b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n<%d>" % number
                )
                if number == 3:
                    break
        except asyncio.IncompleteReadError:
            pass
        await writer.drain()
        writer.close()

    async def run() -> Answered:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await ask_all(Errand(url, "/", {}, 1, [0, 1, 2, 3, 4]))

    answered = asyncio.run(run())
    streamed = b"".join(FRAMES)
    assert answered.contents == [b"<0>", streamed, b"<2>", streamed, b"<4>"]
    assert answered.statuses == [200] * 5 and all(took > 0 for took in answered.took)


def test_vectors_in_base64_are_the_same_as_floats() -> None:
    packed, floats, theirs = openai_embeddings(1, 2, 1).sides
    asked = [side.bodies[0] for side in (packed, floats, theirs)]
    assert [body["encoding_format"] for body in asked] == ["base64", "float", "base64"]
    assert len({tuple(body["input"]) for body in asked}) == 1

    def answer(*vectors: object) -> Answered:
        data = [{"embedding": vector} for vector in vectors]
        return Answered([msgspec.json.encode({"data": data})], [200], [1.0], 1.0)

    # Little-endian float32: 1.0, 0.0.
    told = packed.read(answer("AACAPwAAAAA=")), floats.read(answer([1.0, 0.0]))
    assert told[0] == told[1] == ([[[1.0, 0.0]]], 1)
