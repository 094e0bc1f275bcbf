import asyncio
import json

import msgspec
import pytest

from bench.clock_engine import Clock
from bench.engines import build_turn
from bench.engines.driving import drive
from bench.engines.generating import Answered
from bench.engines.plan import QUICK
from bench.engines.reader import Errand, Token, Told, parse, read_streams
from bench.engines.report import render
from bench.engines.result import Alike, Part, Ratio, Result, Series, common, same
from bench.engines.streaming import delays
from bench.engines.workload import Demand, batches, demands, sentences, useful_tokens
from bench.reporting.figures import Spread
from bench.reporting.machine import Machine
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import Work


def chunked(*frames: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'id: 1-1\nevent: token\ndata: {"text":"a b","index":0}\n\n'
DONE = b'id: 1-2\nevent: done\ndata: {"status":"succeeded"}\n\n'


def result(*alike: Alike) -> Result:
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {"torch": "2.13.0"}, "abc", 0.1)
    part = Part(
        "generation",
        "A Llama",
        [Series("ours", "useful tokens/s", [300.0, 320.0])],
        [Ratio("tokens/s / static", "≥ 3.5", common([300.0, 320.0], [100.0, 80.0]))],
        list(alike),
        ["one thread"],
    )
    return Result("2026-01-02", True, QUICK, machine, [part])


def test_only_tokens_that_somebody_wants_count() -> None:
    asked = [Demand((2, 3), 10), Demand((2,), 30)]

    answered = Answered([[7] * 10, [7] * 30], ended=[2.0, 4.0], seconds=4.0)

    assert useful_tokens(asked) == 40
    assert answered.rate(asked) == 10.0
    assert answered.mean_completion == 3.0


def test_demands_keep_their_bounds_and_are_the_same_in_every_run() -> None:
    asked = demands(64)

    assert asked == demands(64)
    assert all(16 <= len(d.prompt) <= 256 and 8 <= d.wanted <= 256 for d in asked)
    assert max(d.wanted for d in demands(64, most=20)) == 20
    assert sentences(5) == sentences(5)


def test_batches_are_cut_in_order_and_the_last_one_is_smaller() -> None:
    assert [list(batch) for batch in batches([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_a_ratio_is_over_the_rounds_that_both_were_measured_in() -> None:
    assert common([300.0, 900.0], [100.0]) == Spread(3.0, 3.0, 3.0)
    assert common([300.0, 320.0], [100.0, 80.0]) == Spread(310 / 90, 3.0, 4.0)
    assert same([[1, 2], [3]], [[1, 2], [4]]) == 1


def test_a_report_says_ratio_goal_and_sameness() -> None:
    written = result(Alike("in a batch and alone", 63, 64))

    text = render(written)

    assert "| tokens/s / static" in text
    assert "3.44" in text
    assert "≥ 3.5" in text
    assert "310.0 (300.0 - 320.0)" in text
    assert "in a batch and alone: **63 of 64**" in text
    assert written.wrong
    assert not result(Alike("padded", 60, 64, wanted=False)).wrong
    assert msgspec.json.decode(msgspec.json.encode(written), type=Result) == written
    assert written.stem == "2026-01-02-engines-quick"
    alone = msgspec.structs.replace(written, only="grammar")
    assert alone.stem == "2026-01-02-engines-quick-grammar"


def test_a_turn_finds_modules_where_the_build_has_them() -> None:
    assert build_turn.first_of(("bench.engines.gone", "json")) is json
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        build_turn.first_of(("gone.away", "nowhere"))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_read_whatever_pieces_it_comes_in(size: int) -> None:
    raw = HEAD + chunked(b"retry: 1000\n\n", TOKEN, TOKEN + DONE, b"")
    received = [(float(at), raw[at : at + size]) for at in range(0, len(raw), size)]

    told = parse(received)

    assert [token.text for token in told.tokens] == ["a b", "a b"]
    assert told.job == {"status": "succeeded"}


def test_a_token_has_arrived_when_its_frame_is_complete() -> None:
    raw = HEAD + chunked(TOKEN)

    told = parse([(1.0, raw[:-20]), (2.0, raw[-20:])])

    assert told == Told([Token(2.0, "a b")], None)


def test_a_refusal_has_no_tokens() -> None:
    assert parse([(1.0, b"HTTP/1.1 503 Away\r\n\r\n" + chunked(DONE))]) == Told([], None)


def test_delays_are_counted_while_all_streams_run() -> None:
    first = Told([Token(1.0, "990000 "), Token(2.0, "1995000 "), Token(3.0, "2990000 ")], {})
    second = Told([Token(2.0, "1980000 1990000 "), Token(2.5, "2490000 ")], {})

    assert delays([first, second]) == pytest.approx([5.0, 20.0, 10.0, 10.0])


def test_streams_are_read_side_by_side_in_the_order_of_their_bodies() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /stream HTTP/1.1\r\n")
        assert b"Authorization: Bearer key\r\n" in head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.write(HEAD + chunked(b'event: token\ndata: {"text":%b}\n\n' % body, DONE, b""))
        writer.close()

    async def read() -> list[str]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            errand = Errand(
                f"http://{host}:{port}",
                "/stream",
                {"Authorization": "Bearer key"},
                streams=2,
                knock="knock",
                bodies=["one", "two", "three"],
            )
            heard = await read_streams(errand)
        return [told.tokens[0].text for told in heard.told]

    assert asyncio.run(read()) == ["one", "two", "three"]


def test_the_clock_engine_tells_the_time_to_all_its_jobs() -> None:
    clock = Clock(ModelSpec(name="clock", engine="bench.clock_engine:Clock", step_ms=1))
    works = [Work(str(n), "now", {"tokens": n}, seed=0) for n in (1, 2, 3)]

    driven = drive(clock, works, clock.load().capacity)

    assert {job: len(tokens) for job, tokens in driven.tokens.items()} == {"1": 1, "2": 2, "3": 3}
    assert driven.outputs["3"] == {"said": 3}
    assert set(driven.ended) == {"1", "2", "3"}
