"""The load generator counts what a server really answered: the server keeps its own account."""

import asyncio
import subprocess
import sys

import msgspec
import pytest

from bench.clients.conversation import Fault
from bench.clients.load import Load
from bench.clients.order import Dialect, Mark, Order, Polling, Report
from tests.bench.echo_server import EchoServer, serving
from tests.ports import free_port

ECHO = Dialect(path="/infer", answer=("output", "text"), fields={"model": "echo"})
POLLED = Dialect(
    path="/jobs",
    answer=("output", "text"),
    polling=Polling(job_id=("id",), path="/result/{id}", every=0.001),
)

LISTED = Dialect(path="/infer", answer=(0,), batch="prompts")
SUBMITTED = Dialect(path="/jobs", answer=("id",), ids=True)


def order(url: str, dialect: Dialect = ECHO, patience: float = 60.0) -> Order:
    return Order(url, dialect, clients=4, warm_up=0.05, seconds=0.2, patience=patience, settle=0)


def carry_out(what: Order) -> tuple[Report, list[str], list[str]]:
    """The report, the marks, and what was complained about."""
    marks: list[str] = []
    complaints: list[str] = []
    load = Load(what, lambda mark: marks.append(mark.moment), complaints.append)
    return asyncio.run(load.run()), marks, complaints


def run(server: EchoServer, dialect: Dialect = ECHO) -> tuple[Report, list[str]]:
    report, _, complaints = carry_out(order(server.url, dialect))
    return report, complaints


def test_right_answers_are_counted_and_every_prompt_is_sent_once() -> None:
    prompts: list[str] = []

    def right(_: int, prompt: str) -> str:
        prompts.append(prompt)
        return "right"

    with serving(right) as server:
        report, complaints = run(server)

    assert report.right == server.said["right"] > 0
    assert report.requests == server.requests
    assert report.errors == {}
    assert complaints == []
    assert len(set(prompts)) == len(prompts)


def test_a_subject_that_takes_batches_is_sent_a_list_of_one() -> None:
    with serving(lambda number, _: "nothing" if number == 3 else "right") as server:
        report, complaints = run(server, LISTED)

    assert report.right == server.said["right"] > 0
    assert report.errors == {"wrong answer": 1}
    assert complaints


def test_the_rate_is_of_the_measured_time_alone() -> None:
    with serving(lambda *_: "right") as server:
        report, _ = run(server)

    assert report.answers <= report.right
    assert report.rate <= report.answers / 0.2
    if report.answers:
        assert 0 < report.latency.p50 <= report.latency.p95 <= report.latency.p99


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("other", "wrong answer"),
        ("nothing", "wrong answer"),
        ("garbage", "not JSON"),
        ("refuse", "HTTP 500"),
        ("cut", "connection failed"),
    ],
)
def test_wrong_answers_are_errors_and_the_client_goes_on(behaviour: str, reason: str) -> None:
    with serving(lambda number, _: behaviour if number in (2, 3, 7) else "right") as server:
        report, complaints = run(server)

    assert report.errors == {reason: server.said[behaviour]}
    assert report.wrong == server.said[behaviour] >= 2
    assert report.right == server.said["right"]
    assert len(complaints) == 1
    assert complaints[0].startswith(reason)


def test_polling_asks_until_the_result_is_there() -> None:
    with serving(lambda *_: "later") as server:
        report, _ = run(server, POLLED)

    assert report.right == server.said["later"] > 0
    assert report.errors == {}
    assert set(server.looks.values()) == {3}
    assert report.requests == server.requests == 4 * report.right


def test_polling_takes_an_answer_that_comes_at_once() -> None:
    with serving(lambda *_: "right") as server:
        report, _ = run(server, POLLED)

    assert report.right == report.requests == server.said["right"] > 0


def test_an_answer_that_never_comes_is_an_error() -> None:
    polled_for_ever = msgspec.structs.replace(
        POLLED, polling=Polling(job_id=("id",), path="/nowhere/{id}", every=0.01)
    )
    with serving(lambda *_: "later") as server:
        server.look = lambda prompt: False  # type: ignore[method-assign]
        report, _, _ = carry_out(order(server.url, polled_for_ever, patience=1.0))

    assert report.errors == {"no answer in time": 4}
    assert report.right == report.answers == 0


def test_a_submit_counts_with_an_id_that_no_other_had() -> None:
    with serving(lambda *_: "later") as server:
        report, complaints = run(server, SUBMITTED)

    assert report.right == report.requests == server.said["later"] > 0
    assert complaints == []


def test_a_submit_that_is_answered_with_an_old_id_or_none_is_an_error() -> None:
    echoed_id = msgspec.structs.replace(SUBMITTED, answer=("output", "text"))
    with serving(lambda *_: "other") as server:
        report, complaints = run(server, echoed_id)

    assert report.right == 1
    assert report.errors == {"no new id": server.said["other"] - 1}
    assert "somebody else's prompt" in complaints[0]


def test_nobody_there_is_a_fault() -> None:
    with pytest.raises(Fault, match="connection failed"):
        carry_out(order(f"http://127.0.0.1:{free_port()}", patience=0.3))


def test_the_process_takes_an_order_and_says_marks_and_a_report() -> None:
    with serving(lambda *_: "right") as server:
        ended = subprocess.run(
            [sys.executable, "-m", "bench.clients.load"],
            input=msgspec.json.encode(order(server.url)) + b"\n",
            capture_output=True,
            check=True,
        )

    begins, ends, report = (
        msgspec.json.decode(line, type=Mark | Report) for line in ended.stdout.splitlines()
    )
    assert (begins, ends) == (Mark("begins"), Mark("ends"))
    assert isinstance(report, Report)
    assert report.right == server.said["right"]
    assert ended.stderr == b""


def test_the_process_fails_when_nobody_answers() -> None:
    what = order(f"http://127.0.0.1:{free_port()}", patience=0.3)
    ended = subprocess.run(
        [sys.executable, "-m", "bench.clients.load"],
        input=msgspec.json.encode(what) + b"\n",
        capture_output=True,
    )

    assert ended.returncode == 1
    assert b"gave up on" in ended.stderr
