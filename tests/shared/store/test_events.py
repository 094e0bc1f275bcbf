"""Following a job: replay then live, in order, once each, whatever happens to the channel."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InvalidRequest, StoreUnavailable
from shared.domain.records import Append, Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.events import BUFFER, START, TURN, Event, EventHub, EventId, Follower, follow_all
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually

MODEL = "m"


@pytest.fixture
def hub(store: JobStore) -> Iterator[EventHub]:
    hub = EventHub(store.redis, store.keys)
    hub.start()
    yield hub
    hub.stop()
    assert len(hub) == 0


def running(store: JobStore) -> str:
    job_id = new_job_id()
    store.create(NewJob(job_id, MODEL, "t", b"{}"), max_queued=1000)
    assert [claim.id for claim in store.claim(MODEL, 1, "w").claims] == [job_id]
    return job_id


def say(store: JobStore, job_id: str, seq: int) -> None:
    data = b'{"text":"%d ","index":%d}' % (seq, seq)
    assert store.write([Append(job_id, 1, seq, "token", data)]) == [1]


def end(store: JobStore, job_id: str) -> None:
    assert store.write([Finish(job_id, 1, JobState.SUCCEEDED, b"1")]) == [1]


def names(events: list[Event]) -> list[str]:
    return [str(event.id) for event in events]


@given(st.integers(0, 999_999_999), st.integers(0, 999_999_999))
def test_event_ids_read_back(attempt: int, seq: int) -> None:
    identity = EventId(attempt, seq)
    assert EventId.parse(str(identity)) == identity
    assert EventId(attempt, seq) < EventId(attempt + 1, 0)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "a-b", "1-2\n", "٣-1", "9" * 20])
def test_other_cursors_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        EventId.parse(text)


def test_a_frame_is_one_sse_event() -> None:
    assert Event(EventId(1, 2), "token", b"{}").frame == b"id: 1-2\nevent: token\ndata: {}\n\n"


def test_a_late_reader_gets_everything_from_its_cursor(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    for seq in range(1, 4):
        say(store, job_id, seq)
    end(store, job_id)
    with hub.follow(job_id) as follower:
        assert names(list(follow_all(follower, 5))) == ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4"]
    with hub.follow(job_id, EventId(1, 2)) as follower:
        assert names(list(follow_all(follower, 5))) == ["1-3", "1-4"]


def test_many_readers_at_any_moment_get_the_same(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    seen: list[list[str]] = []

    def read() -> None:
        with hub.follow(job_id) as follower:
            seen.append(names(list(follow_all(follower, 10))))

    threads = []
    for seq in range(1, 300):
        say(store, job_id, seq)
        if seq % 30 == 0:
            threads.append(threading.Thread(target=read))
            threads[-1].start()
    end(store, job_id)
    for thread in threads:
        thread.join()
    expected = ["0-1", *(f"1-{seq}" for seq in range(301))]
    assert len(seen) == 9 and all(one == expected for one in seen)


def test_a_fresh_follower_needs_no_replay(store: JobStore, hub: EventHub) -> None:
    job_id = new_job_id()
    with hub.follow(job_id, fresh=True) as follower:
        store.create(NewJob(job_id, MODEL, "t", b"{}"), max_queued=10)
        store.cancel(job_id)
        assert names(list(follow_all(follower, 5))) == ["0-1", "0-2"]


def test_a_reader_that_lags_reads_the_log(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    with hub.follow(job_id) as follower:
        assert follower.next(5) is not None
        for seq in range(1, 2 * BUFFER + 10):
            say(store, job_id, seq)
        end(store, job_id)
        rest = list(follow_all(follower, 5))
        assert names(rest) == [f"1-{seq}" for seq in range(2 * BUFFER + 11)]
        assert len(follower._live) <= BUFFER


def say_unheard_and_heard(store: JobStore, hub: EventHub, job_id: str) -> None:
    """Two events, the first of which never comes by the channel."""
    deliver = hub._deliver
    dropped = threading.Event()
    hub._deliver = lambda *_: dropped.set()  # type: ignore[method-assign]
    say(store, job_id, 1)
    assert dropped.wait(10)
    hub._deliver = deliver  # type: ignore[method-assign]
    say(store, job_id, 2)


def test_a_dropped_message_is_read_from_the_log(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    with hub.follow(job_id, EventId(1, 0)) as follower:
        assert follower.next(0.05) is None
        say_unheard_and_heard(store, hub, job_id)
        assert names([e for e in (follower.next(5), follower.next(5)) if e]) == ["1-1", "1-2"]


class Sleeper:
    """A reader that waits for one event, while others are diverted to `sink`."""

    def __init__(self, follower: Follower, sink: Callable[[Event], bool]) -> None:
        follower.divert(sink)
        self.got: Event | None = None
        self._follower = follower
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()
        eventually(lambda: follower._parked)

    def _sleep(self) -> None:
        self.got = self._follower.next(10)

    def woken(self) -> str:
        self._thread.join()
        assert self.got is not None
        return str(self.got.id)


def test_what_comes_while_a_reader_sleeps_is_diverted_up_to_the_end(
    store: JobStore, hub: EventHub
) -> None:
    job_id = running(store)
    diverted: list[Event] = []
    with hub.follow(job_id, EventId(1, 0)) as follower:
        reader = Sleeper(follower, lambda event: not diverted.append(event))
        for seq in (1, 2):
            say(store, job_id, seq)
        eventually(lambda: len(diverted) == 2)
        assert reader.got is None
        end(store, job_id)
        assert reader.woken() == "1-3"
    assert names(diverted) == ["1-1", "1-2"]


def test_what_is_refused_comes_to_the_reader_in_order(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    diverted: list[Event] = []

    def full(event: Event) -> bool:
        diverted.append(event)
        say(store, job_id, 2)
        return False

    with hub.follow(job_id, EventId(1, 0)) as follower:
        reader = Sleeper(follower, full)
        say(store, job_id, 1)
        assert reader.woken() == "1-1"
        behind = follower.next(5)
        assert behind is not None and str(behind.id) == "1-2"
    assert names(diverted)[0] == "1-1"


def test_nothing_is_diverted_past_a_gap(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    with hub.follow(job_id, EventId(1, 0)) as follower:
        reader = Sleeper(follower, lambda _: pytest.fail("diverted"))
        say_unheard_and_heard(store, hub, job_id)
        assert reader.woken() == "1-1"
        behind = follower.next(5)
        assert behind is not None and str(behind.id) == "1-2"


def test_others_get_a_turn_among_many_readers(
    store: JobStore, hub: EventHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = running(store)
    with ExitStack() as readers:
        followers = [readers.enter_context(hub.follow(job_id)) for _ in range(3 * TURN)]
        assert all(follower.next(5) for follower in followers)
        turns: list[int] = []
        rest = time.sleep
        monkeypatch.setattr(
            "shared.store.events.hub.time.sleep",
            lambda seconds: rest(seconds) if seconds else turns.append(1),
        )
        say(store, job_id, 1)
        eventually(lambda: len(turns) == 3)


def test_a_lost_connection_shows_no_gap_and_no_repeat(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02):
            store.redis.client_kill_filter(_type="pubsub")

    killer = threading.Thread(target=kill)
    killer.start()
    seen: list[str] = []

    def read() -> None:
        with hub.follow(job_id) as follower:
            while True:
                try:
                    event = follower.next(1)
                except StoreUnavailable:
                    continue
                if event is not None:
                    seen.append(str(event.id))
                    if event.terminal:
                        return

    reader = threading.Thread(target=read)
    reader.start()
    for seq in range(1, 400):
        say(store, job_id, seq)
    end(store, job_id)
    stop.set()
    killer.join()
    reader.join(timeout=30)
    assert seen == ["0-1", *(f"1-{seq}" for seq in range(401))]


def test_while_redis_is_away_a_reader_waits_and_then_goes_on(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 0.5), "p", retention=60)
    hub = EventHub(store.redis, store.keys)
    hub.start()
    job_id = running(store)
    say(store, job_id, 1)
    with hub.follow(job_id) as follower:
        assert names([e for e in (follower.next(5), follower.next(5)) if e]) == ["0-1", "1-0"]
        own_redis.await_written()
        own_redis.stop()
        assert names([e for e in (follower.next(5), follower.next(0.5)) if e]) == ["1-1"]
        own_redis.start()
        eventually(lambda: store.get(job_id).state is JobState.RUNNING)
        end(store, job_id)
        rest: list[Event] = []

        def ended() -> bool:
            try:
                event = follower.next(1)
            except StoreUnavailable:
                return False
            rest.extend([event] if event else [])
            return bool(rest) and rest[-1].terminal

        eventually(ended)
        assert names(rest) == ["1-2"]
    hub.stop()


def test_followers_of_one_job_share_a_subscription(store: JobStore, hub: EventHub) -> None:
    job_id = running(store)
    followers = [hub.follow(job_id, START) for _ in range(10)]
    assert len(hub) == 1
    for follower in followers:
        follower.close()
    eventually(lambda: len(hub) == 0)


def test_who_waits_for_an_end_hears_all_that_was_said_of_it(store: JobStore, hub: EventHub) -> None:
    job_id, further = new_job_id(), {"route": '"fast"', "spans": '[{"ms":1}]'}
    with hub.expect(job_id) as waiter:
        store.create(
            NewJob(job_id, MODEL, "t", b"{}"), max_queued=10, reply_channel=hub.reply_channel
        )
        store.claim(MODEL, 1, "w")
        end = Finish(job_id, 1, JobState.SUCCEEDED, b'"a b"', b"", b'{"run_ms":1}', further=further)
        store.write([end])
        eventually(lambda: waiter.wait(5), what="the end")
        told = waiter.wait(0)

    read = store.get(job_id).fields
    assert told is not None
    assert told.fields.items() >= {"output": '"a b"', "usage": '{"run_ms":1}', **further}.items()
    assert read.items() >= told.fields.items() - {("error", ""), ("cached", "0")}


def test_who_waits_may_look_around_at_each_tick(store: JobStore, hub: EventHub) -> None:
    hub.start()
    with hub.expect(new_job_id()) as waiter:
        assert waiter.wait(60) is None
        assert waiter.wait(60) is None
        hub.stop()
        assert waiter.wait(60) is None
