"""The rescuer: what it finds, what it rings, and that a backlog costs it nothing."""

from shared.domain.records import NewJob, new_job_id
from shared.store.jobs import JobStore
from tests.conftest import eventually
from workers.queue.rescuer import Rescuer


def submit(store: JobStore, model: str = "m") -> str:
    job_id = new_job_id()
    store.create(NewJob(job_id, model, "t", b"{}"), max_queued=10**6)
    return job_id


def test_a_lost_doorbell_is_rung_again(store: JobStore) -> None:
    rings: list[str] = []
    rescuer = Rescuer(store, rings.append)
    submit(store)
    assert rescuer.tick()["m"].ring is False, "the first ring is still on its way"
    store.redis.delete(store.keys("bell", "m"))
    rescuer.tick()
    assert rings == ["m"]


def test_every_model_that_has_had_jobs_is_looked_after(store: JobStore) -> None:
    submit(store, "a")
    submit(store, "b")
    assert set(Rescuer(store, lambda _: None).tick()) == {"a", "b"}


def test_only_one_of_several_works(store: JobStore) -> None:
    submit(store)
    first, second = Rescuer(store, lambda _: None), Rescuer(store, lambda _: None)
    assert first.tick() and not second.tick()


def test_the_timer_lives_through_faults(store: JobStore) -> None:
    calls: list[str] = []

    def broken(model: str) -> None:
        calls.append(model)
        raise RuntimeError("no broker")

    rescuer = Rescuer(store, broken, interval=0.01)
    rescuer.start()
    submit(store)
    for _ in range(2):
        store.redis.delete(store.keys("bell", "m"))
        seen = len(calls)
        eventually(lambda seen=seen: len(calls) > seen)
    rescuer.stop()


def commands(store: JobStore) -> int:
    stats = store.redis.info("commandstats")
    return sum(int(row["calls"]) for name, row in stats.items() if name != "cmdstat_info")


def test_a_backlog_costs_the_rescuer_nothing(store: JobStore) -> None:
    rescuer = Rescuer(store, lambda _: None)

    def cost() -> int:
        rescuer.tick()
        before = commands(store)
        rescuer.tick()
        return commands(store) - before

    submit(store)
    small = cost()
    for _ in range(3000):
        submit(store)
    assert cost() <= small + 2


def test_a_job_that_cannot_be_rescued_holds_up_no_other_model(store: JobStore) -> None:
    jobs = {model: submit(store, model) for model in "mn"}
    for model, job_id in jobs.items():
        store.claim(model, 1, "w")
        store.redis.zadd(store.keys("leases", model), {job_id: 1})
    log = store.keys("log", jobs["m"])
    store.redis.delete(log)
    store.redis.set(log, "no stream", ex=60)
    found = Rescuer(store, lambda _: None).tick()
    assert "m" not in found and found["n"].requeued == 1
