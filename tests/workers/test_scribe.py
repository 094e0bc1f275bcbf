"""What the scribe writes together, and what it waits for."""

import threading
from collections.abc import Iterator

import pytest

from shared.errors import StoreUnavailable
from shared.records import Append, Claim, Finish, Write
from shared.states import JobState
from tests.conftest import eventually
from workers.host.messages import PieceOut
from workers.scribe import Attempt, Scribe


class Store:
    """Takes writes while `open`; each call of the scribe is one element of `calls`."""

    def __init__(self) -> None:
        self.calls: list[list[Write]] = []
        self.open = threading.Event()
        self.open.set()

    def write(self, writes: list[Write]) -> list[int]:
        if not self.open.wait(10):
            raise StoreUnavailable("closed")
        self.calls.append(writes)
        return [1] * len(writes)


@pytest.fixture
def kept() -> Store:
    return Store()


@pytest.fixture
def scribe(kept: Store) -> Iterator[Scribe]:
    made = Scribe(kept.write, lambda _answers: None)
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


def test_what_a_step_brings_leaves_in_one_write(kept: Store, scribe: Scribe) -> None:
    both = [attempt(1), attempt(2)]
    said = [(one, PieceOut(one.ticket, f"said {n}", (n,))) for n, one in enumerate(both)]
    scribe.step(said, [(one, finish(one)) for one in both])
    assert scribe.flush(5)
    [writes] = kept.calls
    assert [type(write) for write in writes] == [Append, Append, Finish, Finish]
    assert [write.id for write in writes] == 2 * [one.claim.id for one in both]


def test_text_that_gathers_during_a_write_is_one_event(kept: Store, scribe: Scribe) -> None:
    kept.open.clear()
    one = attempt(1)
    for word in ("a", "b", "c", "d"):
        scribe.step([(one, PieceOut(one.ticket, word, (ord(word),)))], [])
        eventually(lambda: scribe._writing, 5)
    kept.open.set()
    assert scribe.flush(5)
    said = [write for writes in kept.calls for write in writes if isinstance(write, Append)]
    assert [write.seq for write in said] == [1, 2]
    assert said[1].data == b'{"text":"bcd","index":1}' and said[1].tokens == "98,99,100"


def test_pieces_without_text_stay_in_their_order(kept: Store, scribe: Scribe) -> None:
    one = attempt(1)
    said = [PieceOut(one.ticket, "a", (1,)), PieceOut(one.ticket, output=b"[2]")]
    scribe.step([(one, piece) for piece in said], [(one, finish(one))])
    assert scribe.flush(5)
    kinds = [write.kind for write in kept.calls[0] if isinstance(write, Append)]
    assert kinds == ["token", "output"]
