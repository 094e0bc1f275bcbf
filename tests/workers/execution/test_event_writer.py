"""What the scribe writes together, and what it waits for."""

import threading
from collections.abc import Iterator

import pytest

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Append, Claim, Finish, Write
from shared.domain.states import JobState
from tests.conftest import eventually
from workers.execution.event_writer import Attempt, EventWriter
from workers.host.messages import PieceOut


class Store:
    """Takes writes while `open`, and refuses them while `away`; each call that it answered is one element
    of `calls`, and the threads that called are `callers`.
    """

    def __init__(self) -> None:
        self.calls: list[list[Write]] = []
        self.callers: list[str] = []
        self.away = False
        self.open = threading.Event()
        self.open.set()

    def write(self, writes: list[Write]) -> list[int]:
        self.callers.append(threading.current_thread().name)
        if not self.open.wait(10) or self.away:
            raise StoreUnavailable("closed")
        self.calls.append(writes)
        return [1] * len(writes)


@pytest.fixture
def kept() -> Store:
    return Store()


@pytest.fixture
def scribe(kept: Store) -> Iterator[EventWriter]:
    made = EventWriter(kept.write, lambda _answers: None)
    made.start()
    yield made
    kept.open.set()
    made.stop()


def attempt(number: int) -> Attempt:
    job = f"job_{number:026d}"
    claim = Claim(
        id=job,
        attempt=1,
        tenant="t",
        request=b"{}",
        deadline=60,
        created_ms=0,
        claimed_ms=0,
        failures=0,
        crashes=0,
        traceparent="",
        request_id="",
    )
    return Attempt(claim, f"{job}/1", 0.0)


def finish(one: Attempt) -> Finish:
    return Finish(one.claim.id, 1, JobState.SUCCEEDED, b"{}")


def test_what_a_step_brings_leaves_in_one_write(kept: Store, scribe: EventWriter) -> None:
    both = [attempt(1), attempt(2)]
    said = [(one, PieceOut(one.ticket, f"said {n}", (n,))) for n, one in enumerate(both)]
    scribe.step(said, [(one, finish(one)) for one in both])
    assert scribe.flush(5)
    [writes] = kept.calls
    assert [type(write) for write in writes] == [Append, Append, Finish, Finish]
    assert [write.id for write in writes] == 2 * [one.claim.id for one in both]


def test_who_brings_a_step_writes_it(kept: Store, scribe: EventWriter) -> None:
    one = attempt(1)
    scribe.step([(one, PieceOut(one.ticket, "a", (1,)))], [])
    scribe.step([], [(one, finish(one))])
    assert [len(writes) for writes in kept.calls] == [1, 1]
    assert set(kept.callers) == {threading.current_thread().name}


def test_an_end_that_no_step_brought_is_written_by_the_scribe(
    kept: Store, scribe: EventWriter
) -> None:
    one = attempt(1)
    scribe.end(one, finish(one))
    assert scribe.flush(5)
    assert kept.callers == ["scribe"]


def test_what_redis_does_not_answer_holds_up_one_step_once(
    kept: Store, scribe: EventWriter
) -> None:
    kept.away = True
    one, two = attempt(1), attempt(2)
    scribe.step([(one, PieceOut(one.ticket, "a", (1,)))], [(one, finish(one))])
    mine = threading.current_thread().name
    assert kept.callers.count(mine) == 1
    scribe.step([(two, PieceOut(two.ticket, "b", (2,)))], [(two, finish(two))])
    eventually(lambda: kept.callers.count("scribe") > 1)
    assert kept.callers.count(mine) == 1 and not kept.calls
    kept.away = False
    assert scribe.flush(5)
    assert [[write.id for write in writes] for writes in kept.calls] == [
        2 * [one.claim.id],
        2 * [two.claim.id],
    ]
    three = attempt(3)
    scribe.step([], [(three, finish(three))])
    assert kept.callers[-1] == mine


def test_nobody_waits_for_a_write_that_another_thread_has_begun(
    kept: Store, scribe: EventWriter
) -> None:
    kept.open.clear()
    one, two = attempt(1), attempt(2)
    first = threading.Thread(target=scribe.step, args=([], [(one, finish(one))]))
    first.start()
    eventually(lambda: kept.callers)
    scribe.end(two, finish(two))
    assert not kept.calls and not scribe.flush(0)
    kept.open.set()
    assert scribe.flush(5)
    first.join(5)
    assert [[write.id for write in writes] for writes in kept.calls] == [
        [one.claim.id],
        [two.claim.id],
    ]
    assert kept.callers[1] == "scribe"


def test_text_that_gathers_during_a_write_is_one_event(kept: Store, scribe: EventWriter) -> None:
    kept.open.clear()
    one, two = attempt(1), attempt(2)
    scribe.end(two, finish(two))
    eventually(lambda: scribe._writing)
    for word in ("a", "b", "c", "d"):
        scribe.step([(one, PieceOut(one.ticket, word, (ord(word),)))], [])
    kept.open.set()
    assert scribe.flush(5)
    said = [write for writes in kept.calls for write in writes if isinstance(write, Append)]
    assert [write.seq for write in said] == [1]
    assert said[0].data == b'{"text":"abcd","index":0}' and said[0].tokens == "97,98,99,100"


def test_pieces_without_text_stay_in_their_order(kept: Store, scribe: EventWriter) -> None:
    one = attempt(1)
    said = [PieceOut(one.ticket, "a", (1,)), PieceOut(one.ticket, output=b"[2]")]
    scribe.step([(one, piece) for piece in said], [(one, finish(one))])
    assert scribe.flush(5)
    kinds = [write.kind for write in kept.calls[0] if isinstance(write, Append)]
    assert kinds == ["token", "output"]
