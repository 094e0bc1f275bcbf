"""Contests of models: nobody wins by doing less, and no answer is taken for another one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from bench.models.asking import Answered, Errand, ask_all
from bench.models.contests import Contest, Side, embedding, generation, openai_embeddings
from bench.models.match import Failed, play
from bench.models.report import render
from bench.models.result import Entry, Outcome, Result, Turn, p95_ratio, rate_ratio
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


def rendering(found: Outcome) -> str:
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {}, "abc", 0.1)
    return render(Result("2026-01-02", True, machine, [found]))


class Echo:
    """A subject that answers "yes" so many times, and then with 504."""

    def __init__(self, name: str, answers: int) -> None:
        self.name, self.settings, self.path = name, "s", "/"
        self.headers: dict[str, str] = {}
        self._left = answers

    @contextmanager
    def serve(self, _folder: Path) -> Iterator[str]:
        subject = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                subject._left -= 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200 if subject._left >= 0 else 504)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"yes")

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def contest(*subjects: Echo) -> Contest:
    def read(answered: Answered) -> tuple[list[bytes], int]:
        return answered.contents, len(answered.contents)

    sides = [Side(subject, [1, 2], read) for subject in subjects]
    return Contest("c", "C", "texts", 1, 1.0, 0.0, 1.0, bytes.__eq__, sides)


def test_a_peer_that_does_not_answer_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    found = play(contest(Echo("ours", 9), Echo("broken", 2), Echo("peer", 9)), 1, tmp_path)

    assert [len(entry.turns) for entry in found.entries] == [1, 0, 1]
    assert found.best is not None
    assert found.best.name == "peer"
    assert not found.wrong
    rendered = rendering(found)
    assert "did not answer: 1 answers of 504" in rendered


def test_nothing_is_compared_where_this_project_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="ours did not answer: 1 answers of 504"):
        play(contest(Echo("ours", 2), Echo("peer", 9)), 1, tmp_path)


def test_a_contest_without_a_peer_that_answered_says_so() -> None:
    ours = Entry("ours", "s", [Turn(300.0, 0.1, 0.2)], 2, 2)
    peer = Entry("peer", "s", [], 0, 0, 2.8, "hung up")

    rendered = rendering(Outcome("c", "C", "texts", 3.0, 0.5, 0.95, [ours, peer]))

    assert "No peer has answered" in rendered
    assert "did not answer: hung up" in rendered


def test_ours_is_held_against_the_fastest_peer() -> None:
    found = outcome(100)
    assert found.best is not None
    assert found.best.name == "fast"
    assert rate_ratio(found.entries[0], found.best) == Spread(3.1, 3.0, 3.2)
    assert p95_ratio(found.entries[0], found.best).low == pytest.approx(0.25)


@pytest.mark.parametrize(("alike", "wrong"), [(95, False), (94, True)])
def test_a_peer_whose_answers_are_others_makes_the_contest_wrong(alike: int, wrong: bool) -> None:
    assert outcome(alike).wrong is wrong
    rendered = rendering(outcome(alike))
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
