"""A base and its adapters in one engine host: each entry has its own queue, breaker and blame."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from shared.domain.breaker import BreakerState
from shared.domain.models.catalog import Breaker, Limits, ModelSpec
from shared.domain.records import NewJob, new_job_id
from shared.domain.schemas import Job
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.conftest import PATIENCE, eventually
from workers.engine_host.events import EngineState
from workers.engine_host.shared_host import SharedHost
from workers.queue.rescuer import Rescuer
from workers.runtime import Runtime, stop_all

BASE, FRENCH, GERMAN = "base", "french", "german"


class Family:
    """One worker of a base and its adapters, without Celery."""

    def __init__(self, store: JobStore, own: ModelSpec, *names: str) -> None:
        self.store = store
        self.host = SharedHost(own)
        self.threads: list[threading.Thread] = []
        self.runtimes: dict[str, Runtime] = {}
        for name in (own.name, *names):
            self.runtimes[name] = runtime = Runtime(
                store,
                own.model_copy(update={"name": name}),
                f"w-{name}",
                lambda name=name: self.ring(name),
                drain_time=0.5,
                idle_seconds=0.2,
                host=self.host,
            )
            runtime.doorbells.stop()
        self.rescuer = Rescuer(store, self.ring, interval=0.05)
        for runtime in self.runtimes.values():
            runtime.start()
        self.rescuer.start()
        eventually(lambda: self.runtimes[own.name].executor.ready, 60, "the engine is ready")

    def ring(self, model: str) -> None:
        thread = threading.Thread(target=self.runtimes[model].drain)
        self.threads.append(thread)
        thread.start()

    def submit(self, model: str, content: Any, **params: Any) -> str:
        request = msgspec.json.encode({"content": content, "params": params, "seed": 3})
        job = NewJob(new_job_id(), model, "t", request)
        if self.store.create(job, max_queued=1000).ring:
            self.ring(model)
        return job.id

    def ended(self, job_id: str) -> Job:
        eventually(lambda: self.store.get(job_id).terminal, PATIENCE, f"{job_id} ends")
        return self.store.get(job_id).job()

    def text(self, job_id: str) -> str:
        output = self.ended(job_id).output
        assert isinstance(output, dict), output
        return str(output["text"])

    def breaker(self, model: str) -> BreakerState:
        return self.store.status(model).breaker.state

    def stop(self) -> None:
        self.rescuer.stop()
        stop_all(list(self.runtimes.values()))
        for thread in self.threads:
            thread.join(timeout=5)
            assert not thread.is_alive()


@pytest.fixture
def start(store: JobStore) -> Iterator[Callable[..., Family]]:
    families: list[Family] = []

    def make(own: ModelSpec, *names: str) -> Family:
        families.append(Family(store, own, *names))
        return families[-1]

    yield make
    for family in families:
        family.stop()


def faulty(**options: Any) -> ModelSpec:
    return ModelSpec(
        name=BASE,
        engine="tests.workers.faulty:Faulty",
        limits=Limits(step_timeout=5, run_timeout=60),
        breaker=Breaker(failure_threshold=2),
        options={"continues": True, **options},
    )


def test_entries_share_a_host_and_each_hears_its_own(start: Callable[..., Family]) -> None:
    family = start(faulty(), FRENCH, GERMAN)

    said = {name: family.text(family.submit(name, "adapter")) for name in (FRENCH, BASE, GERMAN)}
    long = [family.submit(name, "slow 20") for name in (BASE, FRENCH) for _ in range(6)]

    assert said == {BASE: "", FRENCH: FRENCH, GERMAN: GERMAN}
    assert {family.text(job_id) for job_id in long} == {"abcdefghijklmnopqrst"}
    assert len({runtime.executor.engine.pid for runtime in family.runtimes.values()}) == 1
    for name, details in ((BASE, {"way": "slowly"}), (FRENCH, {"way": "slowly", "rank": 4})):
        info = family.runtimes[name].executor.engine.info
        assert info is not None and info.details == details
    assert [runtime.executor.active for runtime in family.runtimes.values()] == [0, 0, 0]
    assert not family.host.held_by_others(family.runtimes[BASE].executor.engine)


def test_who_comes_to_a_full_host_is_let_in_for_an_even_share(start: Callable[..., Family]) -> None:
    family = start(faulty(), FRENCH)
    busy = [family.submit(BASE, "slow 400") for _ in range(20)]
    base = family.runtimes[BASE].executor
    eventually(lambda: base.active == 8, what="the base's jobs fill the host")

    assert family.text(family.submit(FRENCH, "adapter")) == FRENCH

    assert not all(family.store.get(job_id).terminal for job_id in busy)
    assert base.active <= 8
    for job_id in busy:
        family.store.cancel(job_id)


def test_a_killed_host_costs_no_entry_a_job_or_its_breaker(start: Callable[..., Family]) -> None:
    family = start(faulty(), FRENCH, GERMAN)
    jobs = [family.submit(name, "slow 60") for name in (BASE, FRENCH) for _ in range(3)]
    active = [family.runtimes[name].executor for name in (BASE, FRENCH)]
    eventually(lambda: all(e.active == 3 for e in active), what="all run")

    family.host.client.kill("test")

    assert {len(family.text(job_id)) for job_id in jobs} == {60}
    assert family.host.client.restarts == 1
    assert all(family.breaker(name) is BreakerState.CLOSED for name in family.runtimes)


def test_only_the_entry_of_a_job_that_kills_the_host_answers_for_it(
    start: Callable[..., Family],
) -> None:
    family = start(faulty(), FRENCH)
    poison = family.submit(FRENCH, "exit on admission")
    good = [family.submit(BASE, "slow 30") for _ in range(4)]

    assert family.ended(poison).status is JobState.FAILED
    for job_id in good:
        job = family.ended(job_id)
        assert job.status is JobState.SUCCEEDED
        assert family.store.get(job_id).fields.get("crashes", "0") == "0"
    assert family.breaker(BASE) is BreakerState.CLOSED


def test_suspects_of_one_entry_run_without_jobs_of_another(start: Callable[..., Family]) -> None:
    family = start(faulty(), FRENCH)
    jobs = [family.submit(name, "slow 100") for name in (BASE, FRENCH) for _ in range(2)]
    executors = [family.runtimes[name].executor for name in (BASE, FRENCH)]
    eventually(lambda: all(e.active == 2 for e in executors), what="all run")
    alone: list[bool] = []
    took = family.host.client.send

    def watch(commands: Any) -> bool:
        owners = set(family.host._owners.values())
        alone.append(len(owners) <= 1)
        return took(commands)

    family.host.client.kill("test")
    family.host.client.send = watch  # type: ignore[method-assign]

    assert {len(family.text(job_id)) for job_id in jobs} == {100}
    assert alone and all(alone)


def test_an_adapter_that_is_refused_fails_alone(start: Callable[..., Family]) -> None:
    family = start(faulty(refused={GERMAN: "models.german.adapter: no"}), FRENCH, GERMAN)

    states = {name: one.executor.engine.state for name, one in family.runtimes.items()}
    assert states == {
        BASE: EngineState.READY,
        FRENCH: EngineState.READY,
        GERMAN: EngineState.FAILED,
    }
    german = family.runtimes[GERMAN].executor
    assert german.engine.detail == "models.german.adapter: no"
    assert not german.ready and german.room() == 0
    assert family.text(family.submit(FRENCH, "adapter")) == FRENCH
