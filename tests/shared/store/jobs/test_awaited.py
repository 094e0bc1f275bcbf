"""Jobs for whose end alone somebody waits run without a log; their events read as if there were one."""

from collections.abc import Callable, Iterator

import pytest

from shared.domain.events import EventId
from shared.domain.records import Append, Claim, Finish, Requeue
from shared.domain.states import JobState
from shared.store.events import CREATED, START, Completion, Event, EventHub, EventLog, follow_all
from shared.store.jobs import JobStore
from shared.store.lua_constants import REPLY_PREFIX
from tests.conftest import eventually
from tests.shared.store.jobs.jobs import MODEL, claim, short_leases, submit
from tests.shared.store.jobs.test_creations_in_one_call import creation, make

CHANNEL = f"{REPLY_PREFIX}api"
TOKEN = b'{"text":"one ","index":0}'
Course = Callable[[JobStore, str], object]


def awaited(store: JobStore, channel: str = CHANNEL) -> str:
    one = creation(reply_channel=channel)
    make(store, one)
    return one[0].id


def attempt_of(store: JobStore) -> Claim:
    [one] = claim(store)
    return one


def token(one: Claim, seq: int, kind: str = "token") -> Append:
    return Append(one.id, one.attempt, seq, kind, TOKEN, "1,2")


def done(one: Claim, state: JobState = JobState.SUCCEEDED) -> Finish:
    return Finish(one.id, one.attempt, state, b'{"text":"one "}')


def events(store: JobStore, job_id: str, after: EventId = START) -> list[tuple[str, ...]]:
    log = EventLog(store.redis, store.keys).read(job_id, after)
    return [(str(one.id), one.kind, one.data.decode()) for one in log]


def has_stream(store: JobStore, job_id: str) -> bool:
    return bool(store.redis.exists(store.keys("log", job_id)))


def runs(store: JobStore, job_id: str) -> None:
    attempt_of(store)


def ends_at_once(store: JobStore, job_id: str) -> None:
    store.write([done(attempt_of(store))])


def says_one_thing(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1), done(one)])


def brings_an_output(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1, "output"), done(one)])


def fails_behind_its_text(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1), done(one, JobState.FAILED)])


def says_two_things(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1), token(one, 2), done(one)])


def goes_on_saying(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1)])
    store.write([token(one, 1), token(one, 2)])
    store.write([done(one)])


def is_given_back(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.write([token(one, 1), Requeue(one.id, one.attempt, "broke")])
    says_one_thing(store, job_id)


def loses_its_worker(store: JobStore, job_id: str) -> None:
    assert claim(short_leases(store))
    eventually(lambda: store.rescue(MODEL).requeued == 1)
    says_one_thing(store, job_id)


def is_canceled_while_it_runs(store: JobStore, job_id: str) -> None:
    one = attempt_of(store)
    store.cancel(job_id)
    store.write([token(one, 1), done(one, JobState.CANCELED)])


def is_canceled_before(store: JobStore, job_id: str) -> None:
    store.cancel(job_id)


COURSES: list[Course] = [
    *(runs, ends_at_once, says_one_thing, brings_an_output, fails_behind_its_text, says_two_things),
    *(goes_on_saying, is_given_back, loses_its_worker, is_canceled_while_it_runs),
    is_canceled_before,
]


@pytest.mark.parametrize("course", COURSES)
def test_its_events_read_as_those_of_a_job_that_has_a_log(store: JobStore, course: Course) -> None:
    logged = submit(store).id
    course(store, logged)
    told = events(store, logged)
    quiet = awaited(store)
    course(store, quiet)
    assert events(store, quiet) == told
    assert store.get(quiet).head == told[-1][0] == store.get(logged).head
    for identity, *_ in told:
        cursor = EventId.parse(identity)
        assert events(store, quiet, cursor) == events(store, logged, cursor)
    assert EventLog(store.redis, store.keys).exists(quiet)


@pytest.mark.parametrize("course", COURSES)
def test_its_events_are_logged_once_somebody_has_asked(store: JobStore, course: Course) -> None:
    logged = submit(store).id
    course(store, logged)
    asked = awaited(store)
    store.log_events(asked)
    course(store, asked)
    assert events(store, asked) == events(store, logged)
    assert has_stream(store, asked)
    for key in store.redis.scan_iter(f"{store.keys.prefix}:*"):
        assert store.redis.ttl(key) > 0, key


@pytest.mark.parametrize("course", COURSES[1:5])
def test_a_job_that_says_one_thing_at_most_takes_no_log(store: JobStore, course: Course) -> None:
    quiet = awaited(store)
    course(store, quiet)
    assert not has_stream(store, quiet)
    held = store.held_bytes("t")
    logged = submit(store).id
    course(store, logged)
    assert store.held_bytes("t") - held > 4_000 + held, "and counts with that much less"


def test_what_it_said_in_a_call_that_did_not_end_it_is_kept(store: JobStore) -> None:
    awaited(store)
    one = attempt_of(store)
    store.write([token(one, 1)])
    said = store.streamed(one.id)
    assert (said.text, said.token_ids) == ("one ", (1, 2)), "the next attempt continues that"
    assert [kind for _, kind, _ in events(store, one.id)] == ["status", "status", "token"]


def test_its_events_are_published_once_somebody_has_asked(store: JobStore) -> None:
    job_id = awaited(store)
    channel = store.redis.pubsub()
    channel.subscribe(store.keys("events", job_id))
    messages: list[bytes] = []
    one = attempt_of(store)
    store.write([token(one, 1), token(one, 2)])
    store.log_events(job_id)
    store.write([token(one, 3), done(one)])
    eventually(lambda: _collect(channel, messages) == 2)
    assert [message.split(b" ")[:2] for message in messages] == [[b"1-3", b"1-2"], [b"1-4", b"1-3"]]


def test_jobs_of_processes_of_the_version_before_have_a_log(store: JobStore) -> None:
    job_id = awaited(store, "0123456789ab")
    says_one_thing(store, job_id)
    assert has_stream(store, job_id)


@pytest.fixture
def hub(store: JobStore) -> Iterator[EventHub]:
    hub = EventHub(store.redis, store.keys)
    hub.start()
    yield hub
    hub.stop()


def heard(hub: EventHub, job_id: str, act: Callable[[], object]) -> list[Event]:
    with hub.follow(job_id) as follower:
        first = follower.next(5.0)
        assert first is not None and first.id == CREATED.id
        act()
        return [first, *follow_all(follower, 5.0)]


def test_who_asks_while_it_waits_hears_all_of_it(store: JobStore, hub: EventHub) -> None:
    job_id = awaited(store)
    store.log_events(job_id)
    told = heard(hub, job_id, lambda: says_one_thing(store, job_id))
    assert [(str(one.id), one.kind) for one in told] == [e[:2] for e in events(store, job_id)]


def test_who_asks_while_it_runs_hears_all_of_it(store: JobStore, hub: EventHub) -> None:
    job_id = awaited(store)
    one = attempt_of(store)
    store.log_events(job_id)
    told = heard(hub, job_id, lambda: store.write([token(one, 1), done(one)]))
    assert [(str(one.id), one.kind) for one in told] == [e[:2] for e in events(store, job_id)]


def test_the_ends_of_a_write_reach_their_process_in_one_message(store: JobStore) -> None:
    channel = store.redis.pubsub()
    channel.subscribe(store.keys("ended", CHANNEL), store.keys("ended", "old"))
    ids = [awaited(store, home) for home in (CHANNEL, "old", CHANNEL, "old")]
    claims = claim(store, 4)
    store.write([done(one) for one in claims])
    messages: list[bytes] = []
    eventually(lambda: _collect(channel, messages) == 3)
    told = [[one.job_id for one in Completion.parse_all(message)] for message in messages]
    assert sorted(told) == sorted([[ids[0], ids[2]], [ids[1]], [ids[3]]])


def _collect(channel: object, messages: list[bytes]) -> int:
    message = channel.get_message(timeout=0.1)  # type: ignore[attr-defined]
    if message is not None and message["type"] == "message":
        messages.append(message["data"])
    return len(messages)
