"""One turn: start a subject, put load on it, read its counters at both ends, end it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import msgspec
from redis import Redis

from bench.clients.order import Mark, Order, Report
from bench.clients.shapes import Shape
from bench.programs import REPOSITORY
from bench.reporting.accounting import Cost, Counters, cost, read
from bench.subjects import Serving, Subject

LOG_LINES = 15


class Turn(msgspec.Struct, frozen=True):
    """What one turn of a subject brought."""

    report: Report
    cost: Cost


class TurnFailed(Exception):
    """A turn without a result; the message says why, and ends with the subject's last words."""


def take_turn(
    subject: Subject,
    folder: Path,
    *,
    clients: int,
    warm_up: float,
    seconds: float,
    patience: float = 60.0,
    rate: float | None = None,
    settle: float = 2.0,
    shape: Shape = "client",
) -> Turn:
    """Measure a subject once, as in `Order`. `folder` is made anew for its files. Raises `TurnFailed`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with subject.serve(folder) as serving, _redis_of(serving) as redis:
        order = Order(
            serving.url, subject.dialect, clients, warm_up, seconds, patience, rate, settle, shape
        )
        marks: dict[str, Counters] = {}
        for message in put_load(order, folder):
            if isinstance(message, Mark):
                marks[message.moment] = read(serving, redis)
            else:
                spent = cost(marks["begins"], marks["ends"], message.answers)
                return Turn(message, spent)
    raise TurnFailed(f"{subject.name}: no report\n{last_words(folder)}")


def _redis_of(serving: Serving) -> "AbstractContextManager[Redis | None]":
    return nullcontext() if serving.redis_url is None else Redis.from_url(serving.redis_url)


def put_load(order: Order, folder: Path) -> Iterator[Mark | Report]:
    """What the load generator says, while it works."""
    with _load_generator() as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.close()
        decode = msgspec.json.Decoder(Mark | Report).decode
        for line in process.stdout:
            yield decode(line)
        if process.wait() != 0:
            raise TurnFailed(f"the load generator failed\n{last_words(folder)}")


@contextmanager
def _load_generator() -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.clients.load"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C is this process' business; it ends the load generator.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def last_words(folder: Path) -> str:
    """The ends of the subject's logs."""
    parts = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        parts.append(f"--- {log}\n" + "\n".join(lines))
    return "\n".join(parts)
