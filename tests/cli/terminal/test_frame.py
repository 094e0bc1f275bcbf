"""Frames of `truthgpt top`, drawn from recorded answers of a server."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from cli.terminal.frame import Look, duration, frame, rate
from cli.terminal.pace import Pace

BREAKER = {"state": "closed", "retry_after_ms": 0}
STATS = {
    "models": [
        {
            "model": "demo-llama",
            "ended": {"succeeded": 118, "failed": 2},
            "latency_ms": {"p50": 411.6, "p95": 882.3, "p99": 1174.3},
            "oldest_ms": 10_400,
            "drained_in_ms": 190_000,
        },
        {
            "model": "echo",
            "ended": {},
            "latency_ms": {"p50": None, "p95": None, "p99": None},
            "oldest_ms": None,
            "drained_in_ms": None,
        },
    ],
    "webhooks": {"waiting": 3, "oldest_ms": 65_000, "given_up": 1},
    "dead_letters": 2,
    "cache": {"hits": 5, "misses": 7},
    "limits": [],
}


def worker(pid: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"demo-llama-host-{pid}",
        "host": "host",
        "pid": pid,
        "state": "busy",
        "detail": "loaded in 1.0 s",
        "active": 5,
        "capacity": 40,
        "engine": {"device": "cuda:0"},
        "restarts": 0,
        "memory_bytes": 512 * 2**20,
        "breaker": BREAKER,
        **more,
    }


def model(name: str, *workers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "state": "busy" if workers else "offline",
        "workers": list(workers),
        "queue_depth": 0,
        "running": 0,
        "breaker": BREAKER,
        **more,
    }


OPEN = {"state": "open", "retry_after_ms": 41_200}
MODELS = [
    model("demo-llama", worker(11), worker(12, restarts=3), queue_depth=279, running=4),
    model("echo", breaker=OPEN),
]
PACES = {"demo-llama": Pace(1.44, 86.9, 8.0), "echo": Pace(0.0, 0.0, 8.0)}
LOOK = Look(MODELS, STATS, PACES)


def drawn(look: Look | None, width: int = 120, height: int = 40, **more: Any) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=width, height=height, force_terminal=True, no_color=True)
    console.print(frame(look, url="http://here", width=width, height=height, **more))
    return [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", output.getvalue()).splitlines()]


def cells(lines: list[str], first: str) -> list[str]:
    [line] = [line for line in lines if line.startswith(first)]
    return re.split(r" {2,}", line)


def test_a_model_is_one_line() -> None:
    lines = drawn(LOOK, width=140)
    assert lines[0] == "truthgpt top  http://here  paces of the last 8 s"
    # fmt: off
    assert cells(lines, "demo-llama") == [
        "demo-llama", "busy", "279", "10 s", "3 min", "4", "1.4", "86.9", "412 ms", "882 ms", "2",
        "closed",
    ]
    # fmt: on
    assert cells(lines, "echo  ") == ["echo", "offline", "0", "0", "0", "0", "0", "open 41 s"]


def test_a_worker_is_one_line() -> None:
    assert cells(drawn(LOOK), "host:12") == [
        *("host:12", "demo-llama", "busy", "█░░░░░░░ 5/40", "cuda:0", "512 MiB", "3", "closed")
    ]


def test_what_was_left_over_is_told() -> None:
    [line] = [line for line in drawn(LOOK) if line.startswith("dead letters")]
    assert line == (
        "dead letters 2   webhooks waiting 3, oldest 65 s, given up 1   cache 5 hits, 7 misses"
    )


def test_the_sick_come_first_and_say_why() -> None:
    sick = worker(99, state="failed", detail="CUDA is gone", active=0)
    lines = drawn(Look([model("demo-llama", worker(11), sick)], STATS, PACES))
    shown = [line for line in lines if line.startswith("host:")]
    assert [line.split()[0] for line in shown] == ["host:99", "host:11"]
    assert "failed CUDA is gone" in shown[0] and "loaded" not in shown[1]


LONG = Look(
    [
        model(
            "a-model-with-a-name-of-forty-characters-x",
            worker(
                1234567,
                host="truthgpt-worker-5f6d7c9b8-x2x9k",
                state="failed",
                detail="CUDA error: device-side assert triggered while loading",
                breaker=OPEN,
            ),
            queue_depth=123_456,
            running=400,
            breaker=OPEN,
        )
    ],
    STATS,
    {"a-model-with-a-name-of-forty-characters-x": Pace(1444.4, 123_456.9, 8.0)},
)


@pytest.mark.parametrize(
    ("width", "figures"),
    [(60, ["1444"]), (70, ["400", "1444"]), (80, ["400", "1444", "123457"])],
)
def test_a_narrow_terminal_loses_whole_columns_and_no_figure(
    width: int, figures: list[str]
) -> None:
    lines = drawn(LONG, width=width)
    assert max(map(len, lines)) <= width
    [of_model] = [line for line in lines if line.startswith("a-model")]
    assert re.split(r" {2,}", of_model)[2:] == ["123456", *figures, "open 41 s"]
    [of_worker] = [line for line in lines if line.startswith("…")]
    shown = re.split(r" {2,}", of_worker)
    assert shown[0].endswith("9k:1234567"[-10:]) and shown[3:5] == ["█░░░░░░░ 5/40", "0"]
    assert all(line.count("…") <= 3 for line in lines)


@pytest.mark.parametrize("width", [60, 70, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(LOOK, width=width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for heading in ("Waiting", "Oldest", "Jobs/s", "Restarts"):
        assert heading in text
    assert ("p50" in text) == (width > 120) and ("p95" in text) == (width >= 100)


def test_no_frame_is_higher_than_the_terminal() -> None:
    look = Look([model("demo-llama", *(worker(pid) for pid in range(10, 60)))], STATS, PACES)
    lines = drawn(look, height=24)
    assert len(lines) <= 24
    shown = sum(line.startswith("host:") for line in lines)
    assert lines[-1] == f"… and {50 - shown} more workers"


def test_trouble_stands_above_what_was_seen_last() -> None:
    assert drawn(LOOK, trouble="cannot reach http://here")[1] == "cannot reach http://here"
    assert len(drawn(LOOK, trouble="x")) == len(drawn(LOOK)) + 1
    assert drawn(None, trouble="cannot reach") == ["truthgpt top  http://here", "cannot reach"]
    assert drawn(None) == ["truthgpt top  http://here", "asking …"]


def test_where_no_worker_lives_it_is_said() -> None:
    assert drawn(Look([model("echo")], STATS))[-1] == "no worker lives"


def test_what_a_server_says_is_no_markup() -> None:
    named = model("[red]m[/red]", worker(1, state="failed", detail="[bold]\x1b[2Jgone"))
    text = "\n".join(drawn(Look([named], STATS)))
    assert "[red]m[/red]" in text and "[bold]" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(None, ""), (850, "850 ms"), (1_000, "1 s"), (65_000, "65 s"), (190_000, "3 min")],
)
def test_durations(milliseconds: float | None, said: str) -> None:
    assert duration(milliseconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (0.0, "0"), (0.054, "0.05"), (1.44, "1.4"), (86.9, "86.9"), (12_345.6, "12346")],
)
def test_rates(value: float | None, said: str) -> None:
    assert rate(value) == said
