"""What waits and since when, as the store tells it."""

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store.backlog import Backlog, Leftovers, read_backlogs, read_leftovers
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox, Recorded

HOOK = "completed https://api.example example.org:443 https://example.org/hook"


def create(store: JobStore, tenant: str = "t", age_ms: int = 0, **more: str) -> str:
    job_id = new_job_id()
    store.create(NewJob(job_id, "m", tenant, b"{}", **more), max_queued=1000)
    made = int(store.get(job_id).fields["created"])
    store.redis.hset(store.keys("job", job_id), "created", made - age_ms)
    return job_id


def test_where_nothing_waits_there_is_no_age(store: JobStore) -> None:
    assert read_backlogs(store, ["m", "other"]) == [Backlog(None, None)] * 2
    assert read_leftovers(store, "t") == Leftovers(0, None, 0, 0)


def test_the_oldest_of_all_lanes_counts(store: JobStore) -> None:
    create(store, "one", priority="low", age_ms=60_000)
    create(store, "two", priority="high", age_ms=2_000)
    create(store, "two", priority="high")

    before, other = read_backlogs(store, ["m", "other"])
    store.claim("m", 2, "w")
    [still] = read_backlogs(store, ["m"])
    store.claim("m", 1, "w")

    assert before.oldest is not None and 60_000 <= before.oldest < 120_000
    assert before.drained_in is None and other == Backlog(None, None)
    assert still.oldest is not None and still.oldest >= 60_000
    assert read_backlogs(store, ["m"]) == [Backlog(None, None)]


def test_the_time_to_drain_follows_the_pace_of_the_claims(store: JobStore) -> None:
    for _ in range(10):
        create(store)
    pace = {"drained": 40, "drain_ms": 20_000, "drain_from": 0}
    now = int(store.redis.time()[0]) * 1000
    store.redis.hset(store.keys("queue", "m"), mapping={**pace, "drain_seen": now})

    [told] = read_backlogs(store, ["m"])

    assert told.drained_in == 5_000, "ten jobs at two a second"


def test_what_was_given_up_is_counted_for_its_tenant(store: JobStore) -> None:
    failed, told = create(store), create(store, webhook=HOOK)
    store.claim("m", 2, "w")
    store.write(
        [Finish(failed, 1, JobState.FAILED, dead=True), Finish(told, 1, JobState.SUCCEEDED)]
    )
    left = read_leftovers(store, "t")
    assert (left.webhooks, left.undelivered, left.dead_letters) == (1, 0, 1)
    assert left.oldest_webhook is not None and 0 <= left.oldest_webhook < 60_000

    outbox = Outbox(store)
    [message] = outbox.claim(1, 30)
    assert outbox.record(message, Recorded("dead", fault="gone"))

    assert read_leftovers(store, "t") == Leftovers(0, None, 1, 1)
    assert read_leftovers(store, "another") == Leftovers(0, None, 0, 0)
