"""What Redis' main thread spends on each script call: real scripts on a real Redis, its own clock.

Processor time (`INFO cpu`, main thread) is read around many calls of one kind, so that neither the
network nor other processes of the machine are in it. What grows with the number of jobs or events in a
call is told from what does not by a straight line through calls of several sizes.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from redis import Redis

from api.state.limit_plan import Counted, Plan
from bench.simulation.costs import RedisCosts, main_thread_us
from shared.broker import make_celery
from shared.domain.quotas import Charge, ClientCharges
from shared.domain.records import Append, Claim, Finish, NewJob, Write, new_job_id
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.settings import load_settings
from shared.store.jobs import JobStore
from workers.operations.flower import FlowerEvents

MODEL, WORKER, HOME = "m", "w", "h"
REQUEST = msgspec.json.encode({"content": "x" * 100, "params": {"max_new_tokens": 64}, "seed": 1})
OUTPUT = msgspec.json.encode({"text": "x" * 200, "finish_reason": "length"})
USAGE = msgspec.json.encode({"completion_tokens": 64, "queue_ms": 10, "run_ms": 900, "attempts": 1})
REPORT = b'{"state":"busy","detail":"' + b"x" * 500 + b'"}'
TOKEN = b'{"text":" word","index":1}'
TOKENS = b'{"text":"' + b" word" * 16 + b'","index":1}'
JOBS, CALLS, LISTENERS, WORKERS = 320, 200, 100, 200
SIZES = (1, 8, 32)
ROUNDS = 3


class Calibration:
    """Measures on the Redis at `url`, which nothing else uses. All figures are microseconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._redis: Any = connect(url, 30.0)
        self._store = JobStore(self._redis, "sim", retention=3600)

    def run(self) -> RedisCosts:
        trip, create = _line(self._create)
        lives = [[self._life(size) for size in SIZES] for _ in range(ROUNDS)]
        claim, append, finish = (
            _fit([statistics.median(life[n][part] for life in lives) for n in range(len(SIZES))])
            for part in range(3)
        )
        many, heard, plain = (
            statistics.median(self._events(**kind) for _ in range(ROUNDS))
            for kind in ({"data": TOKENS, "tokens": 16}, {"listeners": 1}, {})
        )
        beat, beat_lease = _line(self._beat)
        rescue, rescue_all = self._rescue(), self._rescue(WORKERS)
        flush, flower_job = _line(self._flush)
        return RedisCosts(
            trip=trip,
            create=create,
            claim=claim[0],
            claim_job=claim[1],
            claim_nothing=statistics.median(self._claim_nothing() for _ in range(ROUNDS)),
            write=append[0],
            append=append[1],
            token=max(0.0, (many - plain) / 15),
            subscriber=max(0.0, heard - plain),
            finish=finish[1],
            subscribe=self._subscribe(),
            beat=beat,
            beat_lease=beat_lease,
            listener=max(0.0, (self._wake(LISTENERS) - self._wake(0)) / LISTENERS),
            rescue=rescue,
            rescue_worker=max(0.0, (rescue_all - rescue) / WORKERS),
            flush=flush,
            flower_job=flower_job,
        )

    def _spent(self, work: Callable[[], object]) -> float:
        """Main-thread time during `work`, less what reading the clock takes."""
        return self._between(work) - self._between(lambda: None)

    def _between(self, work: Callable[[], object]) -> float:
        before = main_thread_us(self._redis)
        work()
        return main_thread_us(self._redis) - before

    def _create(self, size: int) -> float:
        """One pipeline of `size` creates that charge their client, as the courier sends them."""
        recorder = Recorder(msgspec.msgpack.encode(["created", 0, 0, []]))
        store = JobStore(self._redis, "sim", retention=3600)
        store._pipeline = recorder  # type: ignore[assignment]
        policies = Plan(rpm=10**9).policies("POST /v1/infer", Counted.SUBMIT, None, None)
        charges = ClientCharges("client", tuple(Charge(policy, 1) for policy in policies))
        for _ in range(JOBS):
            store.create(_job(), max_queued=2**40, charges=charges)
        recorder.load(self._redis)
        spent = self._spent(lambda: recorder.play(self._redis, size))
        self._finish(self._claims(32), 32)
        return spent / (JOBS / size)

    def _life(self, size: int) -> tuple[float, float, float]:
        """A claim of `size` jobs, a write of an event each, a write of their ends."""
        with self._listening([self._store.keys("ended", HOME)], 1):
            self._fill()
            claims: list[Claim] = []
            claiming = self._spent(lambda: claims.extend(self._claims(size)))
            writes = _batches([_append(claim) for claim in claims], size)
            appending = self._spent(lambda: self._write(writes))
            finishing = self._spent(lambda: self._finish(claims, size))
        calls = JOBS / size
        return claiming / calls, appending / calls, finishing / calls

    def _events(self, data: bytes = TOKEN, tokens: int = 1, listeners: int = 0) -> float:
        """An event among 16 of a write, by its tokens and by who hears it."""
        self._fill()
        claims = self._claims(16)
        with self._listening([self._store.keys("events", c.id) for c in claims], listeners):
            writes = _batches([_append(claim, data, tokens) for claim in claims], 16)
            spent = self._spent(lambda: self._write(writes))
        self._finish(claims, 32)
        return spent / JOBS

    def _claim_nothing(self) -> float:
        return self._spent(lambda: [self._claim(32) for _ in range(CALLS)]) / CALLS

    def _beat(self, size: int) -> float:
        self._fill()
        held = [(claim.id, claim.attempt) for claim in self._claims(32)]
        spent = self._spent(
            lambda: [self._store.beat(MODEL, WORKER, REPORT, held[:size]) for _ in range(CALLS)]
        )
        self._store.write(
            [Finish(name, attempt, JobState.SUCCEEDED, OUTPUT) for name, attempt in held]
        )
        return spent / CALLS

    def _subscribe(self) -> float:
        """A job's channel taken and left."""
        with Redis.from_url(self._url) as client, client.pubsub() as pubsub:

            def work() -> None:
                for number in range(CALLS):
                    pubsub.subscribe(f"channel-{number}")
                    pubsub.unsubscribe(f"channel-{number}")
                for _ in range(2 * CALLS):
                    pubsub.get_message(timeout=5)

            return self._spent(work) / CALLS

    def _wake(self, listeners: int) -> float:
        wake = self._store.keys("wake", MODEL)
        with self._listening([wake], listeners):
            return (
                self._spent(lambda: [self._redis.publish(wake, "1") for _ in range(CALLS)]) / CALLS
            )

    def _rescue(self, workers: int = 0) -> float:
        for number in range(workers):
            self._store.beat(MODEL, f"w{number}", REPORT, [])
        spent = self._spent(lambda: [self._store.rescue(MODEL) for _ in range(CALLS)]) / CALLS
        for number in range(workers):
            self._store.beat(MODEL, f"w{number}", b"", [])
        return spent

    def _flush(self, size: int) -> float:
        """One message of Flower's events of `size` jobs, to a reader."""
        app = make_celery(load_settings(redis_url=self._url, key_prefix="sim"))
        with (
            self._listening(["sim:broker:/0.celeryev/task.multi"], 1),
            app.connection_for_write() as connection,
            app.events.Dispatcher(connection, WORKER, buffer_group=["task"]) as dispatcher,
        ):
            flower = FlowerEvents(MODEL, lambda: dispatcher)
            self._fill(size)
            claims = self._claims(size, size)

            def work() -> None:
                for _ in range(CALLS // 4):
                    for claim in claims:
                        flower.job_claimed(claim)
                        flower.job_ended(claim, "succeeded", 1.0, "")
                    flower._flush()

            spent = self._spent(work)
        self._finish(claims, size)
        app.close()
        return spent / (CALLS // 4)

    # -- parts of the above

    def _fill(self, jobs: int = JOBS) -> None:
        for _ in range(jobs):
            self._store.create(_job(), max_queued=2**40)

    def _claim(self, room: int) -> list[Claim]:
        return self._store.claim(MODEL, room, WORKER, drain="d").claims

    def _claims(self, size: int, jobs: int = JOBS) -> list[Claim]:
        return [claim for _ in range(jobs // size) for claim in self._claim(size)]

    def _write(self, writes: Sequence[Sequence[Write]]) -> None:
        for batch in writes:
            self._store.write(batch)

    def _finish(self, claims: Sequence[Claim], size: int) -> None:
        self._write(
            _batches(
                [Finish(c.id, c.attempt, JobState.SUCCEEDED, OUTPUT, usage=USAGE) for c in claims],
                size,
            )
        )

    @contextmanager
    def _listening(self, channels: Sequence[str], connections: int) -> Iterator[None]:
        """So many connections that have subscribed to these channels."""
        clients = [Redis.from_url(self._url) for _ in range(connections)]
        readers = [client.pubsub() for client in clients]  # type: ignore[no-untyped-call]
        try:
            for reader in readers:
                reader.subscribe(*channels)
                for _ in channels:
                    reader.get_message(timeout=5)
            yield
        finally:
            for reader, client in zip(readers, clients, strict=True):
                reader.close()
                client.close()


class Recorder:
    """Takes a courier's place: keeps the calls to play them later, and gives `reply` for each."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._calls: list[tuple[Any, tuple[Any, ...], tuple[str, ...]]] = []

    def call(self, script: Any, args: tuple[Any, ...], keys: tuple[str, ...] = ()) -> bytes:
        self._calls.append((script, args, keys))
        return self._reply

    def load(self, redis: Any) -> None:
        for text in {script.script for script, _, _ in self._calls}:
            redis.script_load(text)

    def play(self, redis: Any, size: int) -> None:
        """Send all calls, `size` a pipeline."""
        for batch in _batches(self._calls, size):
            pipe = redis.pipeline(transaction=False)
            for script, args, keys in batch:
                pipe.evalsha(script.sha, len(keys), *keys, *args)
            pipe.execute()


def _job() -> NewJob:
    return NewJob(new_job_id(), MODEL, "default", REQUEST, reply_channel=HOME)


def _append(claim: Claim, data: bytes = TOKEN, tokens: int = 1) -> Append:
    return Append(claim.id, claim.attempt, 1, "token", data, ",".join(["1234"] * tokens))


def _batches(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _line(cost: Callable[[int], float]) -> tuple[float, float]:
    return _fit([statistics.median(cost(size) for _ in range(ROUNDS)) for size in SIZES])


def _fit(costs: Sequence[float]) -> tuple[float, float]:
    """Fixed cost and cost a unit of calls of `SIZES`, the relative error least."""
    weights = [1 / cost**2 for cost in costs]
    whole = sum(weights)
    x = sum(w * size for w, size in zip(weights, SIZES, strict=True)) / whole
    y = sum(w * cost for w, cost in zip(weights, costs, strict=True)) / whole
    rows = list(zip(weights, SIZES, costs, strict=True))
    slope = sum(w * (s - x) * (c - y) for w, s, c in rows) / sum(
        w * (s - x) ** 2 for w, s, _ in rows
    )
    return max(0.0, y - slope * x), max(0.0, slope)
