"""The bench of held streams: that it sees what went wrong, and what its reader and feeder do."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from bench.reporting.machine import Machine
from bench.sse.feeding import Feeder
from bench.sse.holding import measure
from bench.sse.reader import Errand, Heard, Opened, Readers
from bench.sse.report import render
from bench.sse.result import FULL, Held, Plan, Result
from shared.store.events import EventLog
from shared.store.jobs import JobStore

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPENING = b"retry: 1000\n\n"
TOKEN = b'id: 1-1\nevent: token\ndata: {"text":"17","index":0}\n\n'
DONE = b'id: 1-2\nevent: done\ndata: {"status":"succeeded"}\n\n'


def held(wrong: int) -> Held:
    return Held(3000, 30, 5.0, 51.6, 29.0, 29.4, 105.0, (8.0, 14.0, 17.0, 40.0), 0.0, 0, wrong)


def result(wrong: int) -> Result:
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {}, "abc", 0.1)
    return Result("2026-01-02", False, FULL, machine, [held(0), held(wrong)])


def test_a_stream_that_was_not_whole_makes_the_run_wrong() -> None:
    assert result(0).wrong == 0
    assert result(2).wrong == 2
    assert "3,000 streams of 30 jobs" in render(result(2)) and "29.4" in render(result(2))


def test_the_feeder_knows_what_stands_in_the_log(store: JobStore) -> None:
    feeder = Feeder(store, 3)
    feeder.feed(1)
    feeder.finish()
    log = EventLog(store.redis, store.keys)
    for claim in feeder.claims:
        events = log.read(claim.id)
        said = [
            msgspec.json.decode(event.data)["text"] for event in events if event.kind == "token"
        ]
        assert said == feeder.said[claim.id] and len(said) == 1
        assert events[-1].terminal


def test_a_refused_stream_is_asked_for_again_and_one_cut_off_is_told(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    answers = [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        HEAD + chunked(OPENING, TOKEN, DONE, b""),
        HEAD + chunked(OPENING, TOKEN),
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async def run() -> Heard:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await Readers(Errand(url, {}, ["/a", "/b"], 30)).hold()

    heard = asyncio.run(run())
    assert heard.texts == [["17"], ["17"]] and sorted(heard.ended) == [False, True]
    told = msgspec.json.decode(capfdbinary.readouterr().out, type=Opened | Heard)
    assert told == Opened(refused=1)


def chunked(*frames: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)


def test_a_small_run_holds_every_stream_and_loses_nothing(tmp_path: Path) -> None:
    found = measure(Plan(streams=6, beats=2, skipped=0), 3, tmp_path / "sse")
    assert (found.streams, found.jobs, found.wrong) == (6, 3, 0)
    assert found.empty_mb > 1 and 0 < found.delays_ms[0] <= found.delays_ms[3]
