"""Breakers around a whole worker on a real store: what opens them, what waits, who tries, who goes on."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.domain.breaker import BreakerState
from shared.domain.models.catalog import Breaker, ModelSpec
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually
from tests.workers.bench import MODEL, Bench

CLOSED, OPEN, HALF_OPEN = BreakerState
LONG, SHORT = 600.0, 0.3


class Ward:
    """A worker whose engine's health is in a folder; see `tests.workers.ailing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench: Bench

    def open(
        self, store: JobStore, timeout: float, *, threshold: int = 3, capacity: int = 1
    ) -> Bench:
        spec = ModelSpec(
            name=MODEL,
            engine="tests.workers.ailing:Ailing",
            breaker=Breaker(failure_threshold=threshold, timeout_sec=timeout),
            options={"folder": str(self.folder), "capacity": capacity},
        )
        self.bench = Bench(store, spec=spec)
        # Others are tried before one is tried again.
        self.bench.runtime.executor._draw = random.random
        return self.bench

    def be(self, word: str) -> None:
        (self.folder / word).touch()

    def heal(self, word: str = "ill") -> None:
        (self.folder / word).unlink()

    @property
    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path)
    yield ward
    ward.bench.stop()


def state(store: JobStore) -> BreakerState:
    return store.status(MODEL).breaker.state


def test_it_opens_and_jobs_wait_uncharged_with_their_deadline_running(
    ward: Ward, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.be("ill")
    bench = ward.open(store, LONG)
    monkeypatch.setattr("workers.execution.retries.BACKOFF_BASE", LONG)
    monkeypatch.setattr("workers.execution.retries.BACKOFF_CAP", LONG)
    bench.runtime.executor._draw = lambda: 1.0  # no job's retry comes before another's first try
    ids = [bench.submit(f"job{number}") for number in range(6)]
    eventually(lambda: state(store) is OPEN)
    assert ward.runs == ["job0 broke", "job1 broke", "job2 broke"]

    late = bench.submit("late", expires_in=0.3)
    gone = bench.submit("gone")
    store.cancel(gone)

    assert bench.ended(late).status is JobState.EXPIRED
    assert bench.ended(gone).status is JobState.CANCELED
    fields = [store.get(job_id).fields for job_id in ids]
    assert {field["state"] for field in fields} == {"queued"}
    assert [field["attempt"] for field in fields] == ["1", "1", "1", "0", "0", "0"]
    assert [field["failures"] for field in fields] == ["1", "1", "1", "0", "0", "0"]
    assert len(ward.runs) == 3


def test_after_the_cool_down_one_probe_runs_and_its_success_lets_all_in(
    ward: Ward, store: JobStore
) -> None:
    ward.be("ill")
    bench = ward.open(store, SHORT, capacity=8)
    ward.be("hold")
    ids = [bench.submit(f"job{number}") for number in range(4)]
    eventually(lambda: bench.runtime.executor.active == 4)
    ward.heal("hold")
    eventually(lambda: bench.diary.breakers.count(("model", "open")) == 1)
    ward.heal()

    assert {bench.ended(job_id).status for job_id in ids} == {JobState.SUCCEEDED}
    model = [new for scope, new in bench.diary.breakers if scope == "model"]
    assert model[-2:] == ["half_open", "closed"] and model.count("half_open") == model.count("open")
    assert state(store) is CLOSED


def test_a_failed_probe_reopens_for_longer(ward: Ward, store: JobStore) -> None:
    ward.be("ill")
    bench = ward.open(store, 1.0)
    for number in range(5):
        bench.submit(f"job{number}")

    def open_for_longer() -> bool:
        breaker = store.status(MODEL).breaker
        return breaker.state is OPEN and breaker.wait > 1000

    eventually(open_for_longer)
    opened = store.status(MODEL).breaker.opened
    assert opened >= 2
    assert len(ward.runs) <= 3 + opened, "three inputs to open it, and then a probe each time"


def test_failures_of_jobs_in_hand_when_it_opens_are_not_charged(
    ward: Ward, store: JobStore
) -> None:
    ward.be("ill")
    ward.be("hold")
    bench = ward.open(store, LONG, capacity=8)
    ids = [bench.submit(f"job{number}") for number in range(8)]
    eventually(lambda: bench.runtime.executor.active == 8)
    ward.heal("hold")
    eventually(lambda: bench.runtime.executor.active == 0)
    assert bench.runtime.executor.completer.flush(5)
    charged = sorted(store.get(job_id).fields["failures"] for job_id in ids)
    assert charged == ["0"] * 5 + ["1"] * 3


def test_a_reset_closes_the_workers_own_breaker_too(ward: Ward, store: JobStore) -> None:
    ward.be("ill")
    bench = ward.open(store, LONG)
    ids = [bench.submit(f"job{number}") for number in range(4)]
    eventually(lambda: state(store) is OPEN)
    ward.heal()
    assert bench.runtime.executor.breaker.state is OPEN
    store.reset_breaker(MODEL)
    assert {bench.ended(job_id).status for job_id in ids} == {JobState.SUCCEEDED}
    assert bench.runtime.executor.breaker.state is CLOSED


def test_a_model_that_cannot_be_loaded_opens_it(ward: Ward, store: JobStore) -> None:
    bench = ward.open(store, LONG, threshold=2)
    ward.be("unloadable")
    bench.runtime.executor.engine.kill("test")
    eventually(lambda: state(store) is OPEN)
    assert store.status(MODEL).breaker.failures >= 2


def test_a_host_that_dies_counts_once_for_all_that_it_held(ward: Ward, store: JobStore) -> None:
    ward.be("hold")
    bench = ward.open(store, LONG, capacity=8)
    ids = [bench.submit(f"job{number}") for number in range(6)]
    eventually(lambda: bench.runtime.executor.active == 6)
    bench.runtime.executor.engine.kill("test")
    ward.heal("hold")
    assert {bench.ended(job_id).status for job_id in ids} == {JobState.SUCCEEDED}
    breaker = store.status(MODEL).breaker
    assert (breaker.failures, breaker.opened) == (1, 0)
    assert bench.runtime.executor.breaker.report()["failures"] == 1


def test_with_redis_away_the_workers_own_breaker_carries_on(
    ward: Ward, own_redis: RedisServer
) -> None:
    redis = connect(own_redis.url, 1.0)
    store = JobStore(redis, "own", retention=60, lease=5.0)
    ward.be("hold")
    bench = ward.open(store, SHORT, capacity=8)
    ids = [bench.submit(f"job{number}") for number in range(5)]
    eventually(lambda: bench.runtime.executor.active == 5)
    breaker = bench.runtime.executor.breaker

    own_redis.await_written()
    own_redis.stop()
    ward.be("ill")
    ward.heal("hold")
    eventually(lambda: breaker.report()["opened"] == 1, what="it opens without Redis")
    eventually(lambda: breaker.report()["failures"] == 5, what="all that were in hand have failed")
    ward.heal()
    own_redis.start()

    assert {bench.ended(job_id).status for job_id in ids} == {JobState.SUCCEEDED}
    assert breaker.state is CLOSED
    assert ("worker", "half_open") in bench.diary.breakers
    redis.close()


def test_nobody_asks_all_the_time_while_it_is_open(ward: Ward, store: JobStore) -> None:
    ward.be("ill")
    bench = ward.open(store, LONG, threshold=1)
    bench.submit("one")
    eventually(lambda: state(store) is OPEN)
    bench.runtime.executor.breaker._own.reset(0)
    bench.runtime.executor.breaker._reported = CLOSED
    claims = 0
    claim = store.claim

    def counted(*args: object, **options: object) -> object:
        nonlocal claims
        claims += 1
        return claim(*args, **options)  # type: ignore[arg-type]

    store.claim = counted  # type: ignore[assignment,method-assign]
    bench.ring()
    eventually(lambda: claims >= 3, what="the drain looks again by itself")
    assert claims < 20


def faults(store: JobStore, *contents: str, threshold: int = 3) -> tuple[BreakerState, list[str]]:
    """The breaker's state after these jobs ran one after the other on one worker, and their error codes."""
    spec = ModelSpec(
        name=MODEL,
        engine="tests.workers.faulty:Faulty",
        breaker=Breaker(failure_threshold=threshold, timeout_sec=LONG),
    )
    bench = Bench(store, spec=spec)
    ends = [bench.ended(bench.submit(content)) for content in contents]
    found = state(store)
    bench.stop()
    return found, [end.error.code if end.error is not None else "" for end in ends]


BAD = {
    "raise on admission": "poison_input",
    "raise": "engine_error",
    "break": "engine_error",
    "object": "engine_error",
}


@pytest.mark.parametrize("bad", BAD)
def test_two_bad_inputs_do_not_close_a_model_to_everybody(store: JobStore, bad: str) -> None:
    found, codes = faults(store, bad, bad, "fine again", threshold=2)
    assert found is CLOSED and codes == [BAD[bad]] * 2 + [""]


def test_two_bad_inputs_after_good_ones_do_not_either(store: JobStore) -> None:
    jobs = [content for bad in BAD for content in ("fine", bad, bad, "fine again")]
    found, codes = faults(store, *jobs, threshold=2)
    assert found is CLOSED and [code for code in codes if code] == [
        code for code in BAD.values() for _ in range(2)
    ]


def test_whatever_fails_refusal_never_counts(store: JobStore) -> None:
    found, codes = faults(store, *["raise on admission"] * 4, threshold=1)
    assert found is CLOSED and codes == ["poison_input"] * 4


def test_a_job_that_kills_its_host_again_and_again_counts_once(store: JobStore) -> None:
    found, codes = faults(store, "segfault", "fine", threshold=2)
    assert found is CLOSED and codes == ["worker_crashed", ""]
    assert store.status(MODEL).breaker.failures == 1
