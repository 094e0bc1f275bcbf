"""What the event writer writes together, what it waits for, and what it says of it."""

import json
import threading
from collections.abc import Iterator, Sequence

import pytest

from shared.domain.errors import StoreUnavailable
from shared.domain.parts import Content
from shared.domain.records import Append, Claim, Finish, Write
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from tests.conftest import eventually
from workers.execution.attempt import Attempt
from workers.execution.event_writer import Answer, AttemptEnding, AttemptPiece, EventWriter
from workers.host_protocol.messages import PieceOut

DONE, FENCED = WriteResult.DONE, WriteResult.FENCED


class Store:
    """Takes writes while `open`, and refuses them while `away`; each call that it answered is one element
    of `calls`, and the threads that called are `callers`.
    """

    def __init__(self) -> None:
        self.calls: list[list[Write]] = []
        self.callers: list[str] = []
        self.away = False
        self.fenced: set[str] = set()
        self.open = threading.Event()
        self.open.set()

    def write(self, writes: list[Write]) -> list[WriteResult]:
        self.callers.append(threading.current_thread().name)
        if not self.open.wait(10) or self.away:
            raise StoreUnavailable("closed")
        self.calls.append(writes)
        return [FENCED if write.id in self.fenced else DONE for write in writes]


@pytest.fixture
def kept() -> Store:
    return Store()


class Scene:
    """A writer with a thread in its `turns`. `answers` are those of each write, whoever had it written."""

    def __init__(self, store: Store) -> None:
        self.writer = EventWriter(store.write)
        self.answers: list[Sequence[Answer]] = []
        self._thread = threading.Thread(target=self._run, name="turns")
        self._thread.start()

    def step(self, pieces: Sequence[AttemptPiece], ends: Sequence[AttemptEnding]) -> None:
        with self.writer.step(pieces, ends) as answers:
            self.answers.append(answers)

    def stop(self) -> None:
        self.writer.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        for answers in self.writer.turns():
            self.answers.append(answers)


@pytest.fixture
def scene(kept: Store) -> Iterator[Scene]:
    made = Scene(kept)
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
    return Attempt.of(claim)


def finish(one: Attempt) -> Finish:
    return Finish(one.claim.id, 1, JobState.SUCCEEDED, b"{}")


def test_what_a_step_brings_leaves_in_one_write(kept: Store, scene: Scene) -> None:
    both = [attempt(1), attempt(2)]
    said = [(one, PieceOut(one.ticket, f"said {n}", (n,))) for n, one in enumerate(both)]
    scene.step(said, [(one, finish(one)) for one in both])
    assert scene.writer.flush(5)
    [writes] = kept.calls
    assert [type(write) for write in writes] == [Append, Append, Finish, Finish]
    assert [write.id for write in writes] == 2 * [one.claim.id for one in both]


def test_pieces_of_a_chat_that_gather_are_one_event(kept: Store, scene: Scene) -> None:
    one = attempt(1)
    said = [
        PieceOut(one.ticket, "a", (1,), parts=(Content("a"),), logprobs=b'{"logprob":-1}'),
        PieceOut(one.ticket, "b", (2,), parts=(Content("b"),), logprobs=b'{"logprob":-2}'),
        PieceOut(one.ticket, "", (3,), parts=(), finish_reason="stop", logprobs=b""),
        PieceOut(one.ticket, "x", (4,), choice=1, parts=()),
    ]

    scene.step([(one, piece) for piece in said], [])

    [[first, second]] = kept.calls
    assert isinstance(first, Append) and isinstance(second, Append)
    assert json.loads(first.data) == {
        "text": "ab",
        "index": 0,
        "parts": [{"type": "content", "text": "ab"}],
        "logprobs": [{"logprob": -1}, {"logprob": -2}],
        "finish_reason": "stop",
    }
    assert json.loads(second.data) == {"text": "x", "index": 0, "choice": 1, "parts": []}
    assert (first.tokens, second.tokens) == ("1,2,3", "4")


def test_who_brings_a_step_writes_it(kept: Store, scene: Scene) -> None:
    one = attempt(1)
    scene.step([(one, PieceOut(one.ticket, "a", (1,)))], [])
    scene.step([], [(one, finish(one))])
    assert [len(writes) for writes in kept.calls] == [1, 1]
    assert set(kept.callers) == {threading.current_thread().name}


def test_an_end_that_no_step_brought_is_written_in_turns(kept: Store, scene: Scene) -> None:
    one = attempt(1)
    scene.writer.end(one, finish(one))
    assert scene.writer.flush(5)
    assert kept.callers == ["turns"]


def test_what_redis_does_not_answer_holds_up_one_step_once(kept: Store, scene: Scene) -> None:
    kept.away = True
    one, two = attempt(1), attempt(2)
    scene.step([(one, PieceOut(one.ticket, "a", (1,)))], [(one, finish(one))])
    mine = threading.current_thread().name
    assert kept.callers.count(mine) == 1
    scene.step([(two, PieceOut(two.ticket, "b", (2,)))], [(two, finish(two))])
    eventually(lambda: kept.callers.count("turns") > 1)
    assert kept.callers.count(mine) == 1 and not kept.calls
    kept.away = False
    assert scene.writer.flush(5)
    assert [[write.id for write in writes] for writes in kept.calls] == [
        2 * [one.claim.id],
        2 * [two.claim.id],
    ]
    three = attempt(3)
    scene.step([], [(three, finish(three))])
    assert kept.callers[-1] == mine


def test_nobody_waits_for_a_write_that_another_thread_has_begun(kept: Store, scene: Scene) -> None:
    kept.open.clear()
    one, two = attempt(1), attempt(2)
    first = threading.Thread(target=scene.step, args=([], [(one, finish(one))]))
    first.start()
    eventually(lambda: kept.callers)
    scene.writer.end(two, finish(two))
    assert not kept.calls and not scene.writer.flush(0)
    kept.open.set()
    assert scene.writer.flush(5)
    first.join(5)
    assert [[write.id for write in writes] for writes in kept.calls] == [
        [one.claim.id],
        [two.claim.id],
    ]
    assert kept.callers[1] == "turns"


def test_text_that_gathers_during_a_write_is_one_event(kept: Store, scene: Scene) -> None:
    kept.open.clear()
    one, two = attempt(1), attempt(2)
    scene.writer.end(two, finish(two))
    eventually(lambda: scene.writer._writing)
    for word in ("a", "b", "c", "d"):
        scene.step([(one, PieceOut(one.ticket, word, (ord(word),)))], [])
    kept.open.set()
    assert scene.writer.flush(5)
    said = [write for writes in kept.calls for write in writes if isinstance(write, Append)]
    assert [write.seq for write in said] == [1]
    assert said[0].data == b'{"text":"abcd","index":0}' and said[0].tokens == "97,98,99,100"


def test_each_text_of_a_job_has_events_of_its_own(kept: Store, scene: Scene) -> None:
    one = attempt(1)
    for words in ("abc", "de"):
        pieces = [
            PieceOut(one.ticket, word, (ord(word),), choice=choice)
            for choice, word in enumerate(words)
        ]
        scene.step([(one, piece) for piece in [*pieces, *pieces]], [])
    assert scene.writer.flush(5)
    said = [write for writes in kept.calls for write in writes if isinstance(write, Append)]
    assert [write.data for write in said] == [
        b'{"text":"aa","index":0}',
        b'{"text":"bb","index":0,"choice":1}',
        b'{"text":"cc","index":0,"choice":2}',
        b'{"text":"dd","index":2}',
        b'{"text":"ee","index":2,"choice":1}',
    ]
    assert [write.tokens for write in said][:2] == ["97,97", "98,98"]


def test_pieces_without_text_stay_in_their_order(kept: Store, scene: Scene) -> None:
    one = attempt(1)
    said = [PieceOut(one.ticket, "a", (1,)), PieceOut(one.ticket, output=b"[2]")]
    scene.step([(one, piece) for piece in said], [(one, finish(one))])
    assert scene.writer.flush(5)
    kinds = [write.kind for write in kept.calls[0] if isinstance(write, Append)]
    assert kinds == ["token", "output"]


def test_what_redis_says_is_a_value_for_who_had_it_written(kept: Store, scene: Scene) -> None:
    one, two = attempt(1), attempt(2)
    kept.fenced = {one.claim.id}
    pieces = [(at, PieceOut(at.ticket, "a", (1,))) for at in (one, two)]
    scene.step(pieces, [(two, finish(two))])
    assert scene.answers == [[(one, FENCED, False), (two, DONE, True)]], (
        "an event that was written says nothing"
    )


def test_nothing_is_written_before_the_answers_are_acted_on(kept: Store, scene: Scene) -> None:
    """What an attempt still has to say is dropped before anybody writes it, if its answer asks for that."""
    one, two = attempt(1), attempt(2)
    kept.fenced = {one.claim.id}
    with scene.writer.step([(one, PieceOut(one.ticket, "a", (1,)))], []) as answers:
        scene.writer.event(one, "reset", b"{}")
        scene.writer.end(two, finish(two))
        assert not scene.writer.flush(0)
        for answer in answers:
            scene.writer.drop(answer.attempt)
    assert scene.writer.flush(5)
    assert [[write.id for write in writes] for writes in kept.calls] == [
        [one.claim.id],
        [two.claim.id],
    ]
