"""Clients under test: they submit, read with cuts, cancel, and never take a broken connection for an end.

Every submit carries an Idempotency-Key and is tried again until it is answered; every reader comes
back with its last id. What they see goes into a `History`.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from client.sse import Parser
from shared.domain.states import TERMINAL
from tests.chaos.history import Accepted, Final, History, Refused, Seen
from tests.chaos.wire import Answer, Broken, Wire
from tests.integration.stack import TOKEN

TRANSIENT = frozenset({429, 500, 502, 503, 504})
TOO_LATE = "deadline_unreachable"
"""A refusal for good: trying again only makes it later."""
PAUSE = (0.1, 0.4)
HOLD = 20
SILENCE = 45.0
"""Seconds without a byte after which a reader takes its connection for dead."""
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "naps", ""]


@dataclass(frozen=True, slots=True)
class Mix:
    """What clients do. Ranges are drawn from evenly; shares are of all jobs.

    `readers` follow the events and cut their connection up to `cuts` times; `cancels` change their
    mind; `hasty` jobs expire after a second. `rest` is what a client does between two jobs, `patience` how
    long it waits for a job's end, both in seconds. `keyed`: submits carry an Idempotency-Key.
    """

    jobs: int
    concurrency: int = 48
    words: tuple[int, int] = (4, 30)
    step_ms: tuple[float, float] = (2.0, 30.0)
    readers: float = 0.3
    cuts: int = 3
    cancels: float = 0.02
    hasty: float = 0.02
    rest: tuple[float, float] = (0.0, 0.0)
    keyed: bool = True
    patience: float = 120.0
    model: str = "echo"


class Unanswered(Exception):
    """The API took no job for as long as a client is patient: the campaign cannot go on."""


class TooLate(Exception):
    """The API refused a job that could not meet its deadline; nothing was accepted."""


class Load:
    """One crowd of clients. `run` returns when every job has ended, well or not, or patience has."""

    def __init__(self, url: str, history: History, mix: Mix, seed: int) -> None:
        self._history = history
        self._mix = mix
        self._draw = random.Random(seed)
        self._name = f"{seed}-{self._draw.getrandbits(32):08x}"
        self._numbers = iter(range(10**9))
        self._wire = Wire(url, TOKEN)
        self.accepted = 0
        self.cuts = 0
        self._statuses: Counter[int] = Counter()

    async def __aenter__(self) -> "Load":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._wire.close()

    async def run(self, until: asyncio.Event | None = None) -> None:
        """Submit all jobs of the mix, and go on until `until` is set where it is given."""
        async with asyncio.TaskGroup() as crowd:
            for _ in range(self._mix.concurrency):
                crowd.create_task(self._client(until))

    async def visit(
        self, body: Mapping[str, Any], key: str, *, streams: bool = True
    ) -> Final | None:
        """One job from submit to its end; what it is asked to do besides is drawn.

        None where the API would not take it: the queue is too long for its deadline.
        """
        mix, draw = self._mix, self._draw
        try:
            job = await self.submit(body, key, streams=streams)
        except TooLate:
            return None
        role = draw.random()
        if role < mix.readers:
            cuts = [draw.randrange(1, 600) for _ in range(draw.randint(0, mix.cuts))]
            await self.read(job, f"reader-{key}", cuts)
        elif role < mix.readers + mix.cancels:
            await asyncio.sleep(draw.uniform(0, 1))
            await self._call("POST", f"/v1/jobs/{job}/cancel")
        return await self.end(job)

    async def submit(self, body: Mapping[str, Any], key: str, *, streams: bool = True) -> str:
        """The id of the job that was made, after as many tries as it takes. Raises `TooLate`."""
        sent = key if self._mix.keyed else ""
        answer = await self._call("POST", "/v1/jobs", body, key=sent)
        if answer is not None and answer.code == TOO_LATE:
            raise TooLate
        if answer is None or not answer.ok:
            raise Unanswered(f"submit: {answer.body if answer else 'no answer'!r}")
        job: str = answer.json()["id"]
        expected = body.get("prompt")
        self._history.add(Accepted(time.time(), job, key, expected, streams))
        self.accepted += 1
        return job

    async def end(self, job: str) -> Final:
        """The job's last word: its end, or what it was when patience ended."""
        deadline = time.monotonic() + self._mix.patience
        while True:
            answer = await self._call("GET", f"/v1/jobs/{job}", params={"wait": HOLD})
            final = Final(time.time(), job, "missing")
            if answer is not None and answer.ok:
                final = _final(answer.json())
            over = answer is None or answer.status == 404
            if over or final.status in TERMINAL or time.monotonic() > deadline:
                self._history.add(final)
                return final

    async def read(self, job: str, reader: str, cuts: list[int]) -> None:
        """Follow a job to its `done`, cutting the connection after each of `cuts` bytes."""
        last, connection = "", 0
        deadline = time.monotonic() + self._mix.patience
        while time.monotonic() < deadline:
            cut = cuts[connection] if connection < len(cuts) else 10**9
            connection += 1
            # Heartbeats keep a connection alive for as long as the job has no end: patience ends it.
            with suppress(Broken, TimeoutError):
                async with asyncio.timeout(deadline - time.monotonic()):
                    last, ended = await self._connection(job, reader, connection, last, cut)
                if ended:
                    return
            await self._pause()

    async def _connection(
        self, job: str, reader: str, connection: int, last: str, cut: int
    ) -> tuple[str, bool]:
        headers = {"Last-Event-ID": last} if last else {}
        parser, size = Parser(last), 0
        url = f"/v1/jobs/{job}/events"
        async with self._wire.stream(url, headers, SILENCE) as (answer, chunks):
            if answer.status != 200:
                if answer.status not in (204, *TRANSIENT):
                    self._refused("events", answer)
                return last, answer.status not in TRANSIENT
            try:
                async for chunk in chunks:
                    for event in parser.feed(chunk[: cut - size]):
                        last = event.id
                        self._history.add(_seen(job, reader, connection, event))
                        if event.event == "done":
                            return last, True
                    size += len(chunk)
                    if size >= cut:
                        self.cuts += 1
                        break
            except Broken:
                pass
        return last, False

    async def _client(self, until: asyncio.Event | None) -> None:
        while True:
            if self.accepted >= self._mix.jobs and (until is None or until.is_set()):
                return
            await self.visit(self._body(), f"{self._name}-{next(self._numbers)}")
            if self._mix.rest[1] > 0:
                await asyncio.sleep(self._draw.uniform(*self._mix.rest))

    def _body(self) -> dict[str, Any]:
        mix, draw = self._mix, self._draw
        words = draw.choices(WORDS, k=draw.randint(*mix.words))
        body: dict[str, Any] = {"model": mix.model, "prompt": " ".join(words)}
        if mix.step_ms[1] > 0:
            body["params"] = {"step_ms": round(draw.uniform(*mix.step_ms), 1)}
        if draw.random() < mix.hasty:
            body["expires_in"] = 1.0
        return body

    async def _call(
        self, method: str, path: str, body: Any = None, key: str = "", **options: Any
    ) -> Answer | None:
        """The answer, None where none came within patience."""
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + self._mix.patience
        while time.monotonic() < deadline:
            try:
                answer = await self._wire.call(method, path, body, headers=headers, **options)
            except Broken:
                pass
            else:
                if answer.ok:
                    return answer
                self._refused(path if "job_" not in path else "job", answer)
                if answer.status not in TRANSIENT or answer.code == TOO_LATE:
                    return answer
            await self._pause()
        return None

    async def _pause(self) -> None:
        await asyncio.sleep(random.uniform(*PAUSE))

    def refusals(self, status: int) -> int:
        """How many answers with this status there have been."""
        return self._statuses[status]

    def _refused(self, what: str, answer: Answer) -> None:
        self._statuses[answer.status] += 1
        self._history.add(Refused(time.time(), what, answer.status, answer.code))


def _seen(job: str, reader: str, connection: int, event: Any) -> Seen:
    data = json.loads(event.data)
    text = data.get("text", "") if event.event == "token" else ""
    if event.event == "done":
        text = data["status"]
    parts = data.get("parts") or []
    return Seen(time.time(), job, reader, connection, event.id, event.event, text, parts)


def _final(document: Mapping[str, Any]) -> Final:
    output, error = document.get("output"), document.get("error") or {}
    return Final(
        at=time.time(),
        job=document["id"],
        status=document["status"],
        text=output.get("text") if isinstance(output, dict) else None,
        attempt=document["attempt"],
        code=error.get("code", ""),
        created=_moment(document["created_at"]),
        started=_moment(document["started_at"]),
        finished=_moment(document["finished_at"]),
        message=output.get("message") if isinstance(output, dict) else None,
    )


def _moment(value: str | None) -> float:
    return datetime.fromisoformat(value).timestamp() if value else 0.0
