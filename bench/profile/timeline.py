"""Where a lone client's time goes: `POST /v1/infer`, one at a time, beside what Redis saw and when."""

import http.client
import json
import statistics
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from bench.profile.scripts import names
from bench.reporting.figures import percentile

MARKS = ("sent", "create", "claim", "write", "told", "received")
LEGS = (
    "request parsed, authenticated, checked; create is at Redis",
    "created, the drain woken; claim is at Redis",
    "claimed, to the engine and back; the write is at Redis",
    "events and end written; the end is published",
    "API woken, answer built and sent; the client has it",
)


class Timeline(msgspec.Struct, frozen=True):
    """Milliseconds: p50 and p99 of the whole, the median of each leg between two of `MARKS`."""

    requests: int
    p50: float
    p99: float
    legs: list[float]


class _Monitor:
    """The commands that Redis carries out, with their times, from MONITOR."""

    def __init__(self, redis: "Redis") -> None:
        self.seen: list[tuple[float, str]] = []
        self._names = names()
        self._redis = redis
        self._over = False
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def __enter__(self) -> "_Monitor":
        self._thread.start()
        self._listening.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over = True
        self._redis.ping()
        self._thread.join(5)

    def _run(self) -> None:
        with suppress(RedisError), self._redis.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._listening.set()
            for entry in monitor.listen():
                if self._over:
                    return
                if mark := self._mark(entry):
                    self.seen.append((entry["time"], mark))

    def _mark(self, entry: Mapping[str, Any]) -> str | None:
        command, _, rest = entry["command"].partition(" ")
        if command.upper() == "EVALSHA":
            return self._names.get(rest.split(" ", 1)[0])
        if command.upper() == "PUBLISH" and ":ended:" in rest.split(" ", 1)[0]:
            return "told"
        return None


def measure(
    url: str, headers: Mapping[str, str], body: Mapping[str, str], redis: "Redis", requests: int
) -> Timeline:
    """Ask `requests` times. Raises `OSError`, and `ValueError` for an answer that is none."""
    times: list[tuple[float, float]] = []
    with _Monitor(redis) as monitor:
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        for number in range(requests):
            said = json.dumps({**body, "prompt": f"alone {number}"})
            began = time.time()
            connection.request(
                "POST", "/v1/infer", said, {**headers, "Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            document = answer.read()
            times.append((began, time.time()))
            if answer.status != 200:
                raise ValueError(f"{answer.status}: {document[:200]!r}")
        connection.close()
    return summarise(times, monitor.seen)


def summarise(times: Sequence[tuple[float, float]], seen: Sequence[tuple[float, str]]) -> Timeline:
    """Requests as (sent, received) and what Redis saw, both in seconds and in order of time.

    Raises `ValueError` where Redis saw all `MARKS` of none of them.
    """
    at = [moment for moment, _ in seen]
    rows = []
    for sent, received in times:
        mine = seen[bisect_left(at, sent) : bisect_left(at, received)]
        moments = [sent]
        for mark in MARKS[1:-1]:
            later = [moment for moment, name in mine if name == mark and moment >= moments[-1]]
            if not later:
                break
            moments.append(later[0])
        if len(moments) == len(MARKS) - 1:
            rows.append([*moments, received])
    if not rows:
        raise ValueError(f"of {len(times)} requests none was seen at each of {MARKS[1:-1]}")
    legs = [
        statistics.median((row[n + 1] - row[n]) * 1000 for row in rows) for n in range(len(LEGS))
    ]
    whole = sorted((received - sent) * 1000 for sent, received in times)
    return Timeline(len(times), percentile(whole, 0.5), percentile(whole, 0.99), legs)
