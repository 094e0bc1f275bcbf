"""Poison in a batch: the culprit ends alone, the others never notice, a sick engine blames nobody."""

import math
import sys
import weakref
from asyncio import CancelledError
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InputRefused
from tests.conftest import examples
from workers.engines.base import Failed, Finished, Piece, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.faults import DeviceLost, Unprepared
from workers.host.blame import EVIDENCE_SECONDS, Evidence
from workers.host.isolation import Isolation
from workers.host.search import FAN_OUT, PATIENCE, SICK_AFTER, Search

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def work(job_id: str, content: object = "fine", length: int = 0) -> Work:
    return Work(job_id, content, {"length": length}, seed=1)


@dataclass
class Fragile:
    """Says `length` letters, one a step, then ends. A content of k raises at its k-th letter, from 0 on.

    `moods` raise (or not) before anything else, one a step; `width` jobs, the oldest, share a step.
    """

    continues: bool = True
    width: int = 10_000
    moods: list[BaseException | None] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    works: dict[str, Work] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    rows: int = 0
    """Jobs in all steps, those that failed included."""
    admitted: int = 0
    closed: bool = False

    def admit(self, work: Work) -> None:
        assert work.id not in self.works
        assert work.text == LETTERS[: len(work.token_ids)]
        assert self.continues or not work.text
        if self.closed:
            raise InputRefused("closed")
        self.admitted += 1
        self.works[work.id] = work
        self.said[work.id] = len(work.token_ids)

    def cancel(self, job_id: str) -> None:
        self.works.pop(job_id, None)

    def step(self) -> Step:
        batch = list(self.works.values())[: self.width]
        self.rows += len(batch)
        self.taken = [one.id for one in batch]
        if self.moods and (mood := self.moods.pop(0)) is not None:
            self.failures += 1
            raise mood
        if any(w.content == self.said[w.id] for w in batch):
            self.failures += 1
            raise RuntimeError("the step broke")
        step = Step(batch_size=len(batch))
        for one in batch:
            said = self.said[one.id]
            if said < one.params["length"]:
                step.pieces.append(Piece(one.id, LETTERS[said], (said,)))
                self.said[one.id] += 1
            else:
                output = {"text": LETTERS[:said]}
                step.outcomes.append(Finished(one.id, output))
                self.cancel(one.id)
        return step

    def pending(self) -> int:
        return len(self.works)

    def batch_delay(self) -> float:
        return 1.0


@dataclass
class Ran:
    outcomes: dict[str, Finished | Failed] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    steps: int = 0

    def take(self, step: Step) -> None:
        self.steps += 1
        for piece in step.pieces:
            assert piece.id not in self.outcomes
            self.texts[piece.id] = self.texts.get(piece.id, "") + piece.text
        for outcome in step.outcomes:
            assert outcome.id not in self.outcomes
            self.outcomes[outcome.id] = outcome

    def codes(self) -> dict[str, str]:
        return {o.id: o.code for o in self.outcomes.values() if isinstance(o, Failed)}

    def finished(self) -> set[str]:
        return {o.id for o in self.outcomes.values() if isinstance(o, Finished)}


def drive(isolation: Isolation, ran: Ran | None = None) -> Ran:
    ran = ran or Ran()
    while isolation.pending():
        assert ran.steps < 2000
        ran.take(isolation.step())
    return ran


def serve(engine: Fragile, works: list[Work]) -> Ran:
    isolation = Isolation(engine, continues=engine.continues)
    for one in works:
        isolation.admit(one)
    ran = drive(isolation)
    assert engine.works == {}
    return ran


def batch(size: int, poisoned: set[int], at: int = 0, length: int = 0) -> list[Work]:
    return [work(str(n), at if n in poisoned else "fine", length) for n in range(size)]


@pytest.mark.parametrize("culprit", [0, 13, 31])
def test_one_poison_among_31_others_ends_alone(culprit: int) -> None:
    engine = Fragile()
    ran = serve(engine, batch(32, {culprit}))

    assert ran.codes() == {str(culprit): "poison_input"}
    assert len(ran.finished()) == 31
    assert engine.failures <= 2 + math.log(32, FAN_OUT)
    assert ran.steps <= 12
    assert engine.rows - 32 <= 32 + 8 + 2 + 1, "rows that were computed for nothing"


def test_who_was_not_in_the_step_is_no_suspect() -> None:
    engine = Fragile(width=32)
    ran = serve(engine, batch(128, {13}))

    assert ran.codes() == {"13": "poison_input"} and len(ran.finished()) == 127
    assert engine.rows - 127 <= 32 + 8 + 2 + 1


def test_two_poisons_are_both_found() -> None:
    engine = Fragile()
    ran = serve(engine, batch(32, {3, 20}))

    assert ran.codes() == {"3": "poison_input", "20": "poison_input"}
    assert len(ran.finished()) == 30
    assert engine.failures <= 2 * (2 + math.log(32, FAN_OUT))


def test_when_every_job_fails_the_engine_is_to_blame() -> None:
    engine = Fragile()
    ran = serve(engine, batch(32, set(range(32))))

    assert set(ran.codes().values()) == {"engine_error"} and len(ran.codes()) == 32
    assert engine.failures <= 32 + SICK_AFTER * (2 + math.log(32, FAN_OUT))


def test_a_lone_job_that_fails_may_be_tried_again() -> None:
    assert serve(Fragile(), batch(1, {0})).codes() == {"0": "engine_error"}


def test_an_engine_that_falls_sick_during_the_search_blames_few() -> None:
    dead = [None] * 3 + [RuntimeError("device lost") for _ in range(500)]
    fault: list[BaseException | None] = [RuntimeError("first"), RuntimeError("second")]
    ran = serve(Fragile(moods=fault + dead), batch(32, {8}))

    assert set(ran.codes().values()) == {"engine_error"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyError("text"), "poison_input"), (RuntimeError("a pool is empty"), "engine_error")],
)
def test_a_lone_job_that_fails_shortly_after_others_went_well_is_judged_by_its_error(
    error: Exception, code: str
) -> None:
    clock = [0.0]
    evidence = Evidence(lambda: clock[0])
    evidence.well()
    isolation = Isolation(Fragile(moods=[error, error]), evidence, continues=True)
    isolation.admit(work("a"))
    assert drive(isolation).codes() == {"a": code}

    clock[0] += EVIDENCE_SECONDS + 1
    isolation = Isolation(Fragile(moods=[error, error]), evidence, continues=True)
    isolation.admit(work("a"))
    assert drive(isolation).codes() == {"a": "engine_error"}


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(
    ("error", "code"),
    [(Unprepared("KeyError"), "poison_input"), (InputRefused("not so"), "invalid_input")],
)
def test_what_comes_up_before_the_model_runs_is_the_inputs_fault_even_if_all_fail(
    error: Exception, code: str, size: int
) -> None:
    ran = serve(Fragile(moods=[error] * 50), batch(size, set()))

    assert set(ran.codes().values()) == {code} and len(ran.codes()) == size
    assert {end.message for end in ran.outcomes.values() if isinstance(end, Failed)} == {
        "not so" if code == "invalid_input" else "The model fails on this input: KeyError"
    }


def test_each_culprit_is_told_its_own_error() -> None:
    class Particular(Fragile):
        def step(self) -> Step:
            for one in self.works.values():
                if isinstance(one.content, list):
                    raise {"k": KeyError, "z": ZeroDivisionError}[one.content[0]]
            return super().step()

    ran = serve(Particular(), [*batch(6, set()), work("x", ["k"]), work("y", ["z"])])

    told = {end.id: end.message for end in ran.outcomes.values() if isinstance(end, Failed)}
    assert told == {
        "x": "The model fails on this input: KeyError",
        "y": "The model fails on this input: ZeroDivisionError",
    }


def test_every_admission_brings_content_of_its_own() -> None:
    class Changing(Fragile):
        def admit(self, work: Work) -> None:
            super().admit(work)
            seen.setdefault(work.id, []).append(work.content.pop("inputs", None))

    seen: dict[str, list[object]] = {}
    isolation = Isolation(Changing(moods=[RuntimeError("first")]), continues=True)
    for n in range(6):
        request = msgspec.json.encode(
            {"content": {"inputs": n}, "params": {"length": 0}, "seed": 1}
        )
        isolation.admit(Work.of(str(n), request))
    assert drive(isolation).finished() == {str(n) for n in range(6)}
    assert all(set(inputs) == {int(job)} for job, inputs in seen.items())
    assert max(map(len, seen.values())) > 1


@pytest.mark.parametrize(
    "error", [RuntimeError("once"), SystemExit(3), KeyboardInterrupt(), CancelledError()]
)
def test_a_passing_fault_passes(error: BaseException) -> None:
    engine = Fragile(moods=[None, error])
    ran = serve(engine, batch(8, set(), length=5))

    assert len(ran.finished()) == 8
    assert set(ran.texts.values()) == {"abcde"}
    assert engine.admitted == 8, "nobody had to leave"


@pytest.mark.parametrize(
    ("error", "leave"), [(ConnectionResetError("once"), False), (RuntimeError("once"), True)]
)
def test_a_fault_is_repeated_before_the_first_words_only_if_it_is_one_that_passes(
    error: Exception, leave: bool
) -> None:
    engine = Fragile(moods=[error])
    ran = serve(engine, batch(8, set(), length=5))

    assert len(ran.finished()) == 8
    assert (engine.admitted > 8) is leave


def test_a_lone_job_gets_a_second_try() -> None:
    assert serve(Fragile(moods=[RuntimeError("once")]), batch(1, set())).finished() == {"0"}


def test_what_a_system_exit_hits_is_isolated_too() -> None:
    class Exits(Fragile):
        def step(self) -> Step:
            if any(w.content == "exit" for w in self.works.values()):
                sys.exit(1)
            return super().step()

    ran = serve(Exits(), [*batch(5, set()), work("bad", "exit")])

    assert ran.codes() == {"bad": "poison_input"} and len(ran.finished()) == 5


@pytest.mark.parametrize("at", [1, 4, 9])
def test_streams_have_no_seam_when_a_job_fails_late(at: int) -> None:
    ran = serve(Fragile(), batch(16, {6}, at=at, length=10))

    assert ran.codes() == {"6": "poison_input"}
    assert ran.texts["6"] == LETTERS[:at]
    for job in ran.finished():
        assert ran.texts[job] == LETTERS[:10]
    assert len(ran.finished()) == 15


def test_the_newcomer_is_suspected_first() -> None:
    engine = Fragile()
    isolation = Isolation(engine, continues=True)
    for one in batch(31, set(), length=10):
        isolation.admit(one)
    ran = Ran()
    ran.take(isolation.step())
    isolation.admit(work("new", 0))
    drive(isolation, ran)

    assert ran.codes() == {"new": "poison_input"} and len(ran.finished()) == 31
    assert engine.failures == 3


def test_a_stream_that_cannot_be_continued_is_left_to_another_attempt() -> None:
    ran = serve(Fragile(continues=False), batch(4, {2}, at=2, length=6))

    assert set(ran.codes().values()) == {"engine_error"}
    assert len(ran.outcomes) == 4


def test_jobs_that_come_during_a_search_wait_and_then_run() -> None:
    engine = Fragile()
    isolation = Isolation(engine, continues=True)
    for one in batch(8, {5}):
        isolation.admit(one)
    assert isolation.batch_delay() == 1.0
    ran = Ran()
    ran.take(isolation.step())
    isolation.admit(work("late"))
    assert (isolation.pending(), isolation.batch_delay()) == (9, 0.0)
    drive(isolation, ran)

    assert ran.codes() == {"5": "poison_input"} and "late" in ran.finished()


@pytest.mark.parametrize("after", range(7))
def test_cancels_between_the_steps_of_a_search(after: int) -> None:
    engine = Fragile()
    isolation = Isolation(engine, continues=True)
    for one in batch(8, {1}, length=3):
        isolation.admit(one)
    ran = Ran()
    for _ in range(after):
        ran.take(isolation.step())
    for job in ("0", "1", "6"):
        isolation.cancel(job)
    drive(isolation, ran)

    assert ran.finished() >= {"2", "3", "4", "5", "7"}
    assert set(ran.codes()) <= {"1"}


def test_everybody_canceled_in_a_search_leaves_nothing() -> None:
    engine = Fragile()
    isolation = Isolation(engine, continues=True)
    for one in batch(4, {1}):
        isolation.admit(one)
    for _ in range(2):
        isolation.step()
    for n in range(4):
        isolation.cancel(str(n))

    assert isolation.pending() == 0 and engine.works == {}
    isolation.admit(work("next"))
    assert drive(isolation).finished() == {"next"}


def test_a_refusal_on_the_way_back_ends_the_job_with_its_own_code() -> None:
    engine = Fragile()
    isolation = Isolation(engine, continues=True)
    for one in batch(4, {0}):
        isolation.admit(one)
    ran = Ran()
    ran.take(isolation.step())
    engine.closed = True
    drive(isolation, ran)

    assert "invalid_input" in ran.codes().values()
    assert len(ran.outcomes) == 4


def test_a_job_that_no_step_reaches_does_not_hold_up_the_search() -> None:
    search = Search(["a", "b"])
    for _ in range(PATIENCE):
        assert search.trial == ["a"]
        search.ran((), (), healthy=False)
    assert search.trial == ["b"]


@settings(deadline=None, max_examples=examples(150))
@given(
    st.integers(2, 24).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=n - 1))
    ),
    st.integers(1, 24),
    st.integers(0, 3),
)
def test_exactly_the_poisoned_are_blamed(case: tuple[int, set[int]], width: int, at: int) -> None:
    size, poisoned = case
    ran = serve(Fragile(width=width), batch(size, poisoned, at=at, length=at))

    assert set(ran.codes()) == {str(n) for n in poisoned}
    assert len(ran.finished()) == size - len(poisoned)
    for job in ran.finished():
        assert ran.texts.get(job, "") == LETTERS[:at]
    if len(poisoned) < SICK_AFTER and at == 0 and width >= size:
        assert set(ran.codes().values()) <= {"poison_input"}


@settings(deadline=None, max_examples=examples(200))
@given(
    st.integers(2, 64).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))
    )
)
def test_a_search_finds_every_culprit_in_few_trials(case: tuple[int, set[int]]) -> None:
    size, culprits = case
    jobs = [str(n) for n in range(size)]
    bad = {str(n) for n in culprits}
    search, well, trials = Search(jobs), set[str](), 0
    while not search.over:
        trials += 1
        trial = list(search.trial)
        if bad & set(trial):
            search.failed()
        else:
            assert not well & set(trial)
            well |= set(trial)
            search.ran(trial, trial, healthy=True)

    assert {*search.poison, *search.unlucky} == bad
    assert well == set(jobs) - bad
    assert trials <= 3 * size
    # Down to one of n: each trial takes a quarter, or leaves three.
    assert trials <= len(bad) * (math.log(size, 4 / 3) + 2) + 1


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(2, 40), st.data())
def test_jobs_that_fail_only_together_are_not_to_blame(size: int, data: st.DataObject) -> None:
    one, other = data.draw(
        st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True), label="pair"
    )

    class Couple(Fragile):
        def step(self) -> Step:
            if {str(one), str(other)} <= self.works.keys():
                raise RuntimeError("these two together")
            return super().step()

    ran = serve(Couple(), batch(size, set()))

    assert ran.finished() == {str(n) for n in range(size)}


def test_a_search_among_one_is_over_at_once() -> None:
    assert Search(["a"]).unlucky == ["a"]


class Cramped(Fragile):
    """A step may cost `memory` in all; a job costs its content. Counts what was taken per step."""

    def __init__(
        self, memory: float, *, bounded: bool, error: type[Exception] = MemoryError
    ) -> None:
        super().__init__()
        self.memory = memory
        self.error = error
        self.sizes: list[int] = []
        if bounded:
            self.budget = Budget(1000)

    def step(self) -> Step:
        batch: list[Work] = []
        spent = 0
        for one in self.works.values():
            if batch and hasattr(self, "budget") and spent + one.content > self.budget.now:
                break
            batch.append(one)
            spent += one.content
        if hasattr(self, "budget"):
            self.budget.spend(spent, batch[0].content)
        if spent > self.memory:
            self.failures += 1
            raise self.error("out of memory")
        self.sizes.append(len(batch))
        for one in batch:
            self.cancel(one.id)
        return Step([], [Finished(one.id, {}) for one in batch], len(batch))


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_memory_that_runs_out_is_nobody_s_fault(error: type[Exception]) -> None:
    engine = Cramped(10, bounded=True, error=error)
    ran = serve(engine, [work(str(n), 2) for n in range(32)])

    assert len(ran.finished()) == 32
    assert engine.failures == 3, "64, 32 and 16 did not fit"
    assert max(engine.sizes) == 4 and engine.admitted == 32


def test_what_fits_is_remembered() -> None:
    engine = Cramped(10, bounded=True)
    said: list[float] = []
    isolation = Isolation(engine, continues=True, remember=lambda budget: said.append(budget.now))
    for n in range(16):
        isolation.admit(work(str(n), 2))
    drive(isolation)

    assert said == [16, 8]
    for n in range(16):
        isolation.admit(work(str(n), 2))
    before = engine.failures
    drive(isolation)
    assert engine.failures == before


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("at", [0, 5, 15])
def test_a_job_that_does_not_fit_alone_ends_and_its_neighbours_go_on(
    at: int, bounded: bool
) -> None:
    engine = Cramped(40, bounded=bounded)
    ran = serve(engine, [work(str(n), 100 if n == at else 2) for n in range(16)])

    assert ran.codes() == {str(at): "out_of_memory"}
    assert len(ran.finished()) == 15


def test_a_lone_job_that_does_not_fit_says_so() -> None:
    ran = serve(Cramped(10, bounded=True), [work("a", 100)])

    assert ran.codes() == {"a": "out_of_memory"}


def test_a_poison_among_jobs_that_do_not_fit_together_is_told_from_them() -> None:
    class Both(Cramped):
        def step(self) -> Step:
            if any(one.id == "bad" for one in list(self.works.values())[:4]):
                raise ValueError("poison")
            return super().step()

    fine = [work(str(n), 2) for n in range(20)]
    ran = serve(Both(10, bounded=True), [*fine[:10], work("bad", 2), *fine[10:]])

    assert ran.codes() == {"bad": "poison_input"} and len(ran.finished()) == 20


def test_nothing_holds_the_tensors_of_a_failed_step() -> None:
    class Tensors:
        """Stands for what a step had allocated."""

    class Leaky(Cramped):
        def step(self) -> Step:
            tensors = Tensors()
            self.seen = weakref.ref(tensors)
            return super().step()

    engine = Leaky(10, bounded=True)
    isolation = Isolation(engine, continues=True)
    for n in range(16):
        isolation.admit(work(str(n), 2))
    isolation.step()

    assert engine.failures == 1 and engine.seen() is None
    drive(isolation)


@pytest.mark.parametrize("searching", [False, True])
def test_a_device_that_is_gone_ends_the_host(searching: bool) -> None:
    gone = RuntimeError("CUDA error: uncorrectable ECC error encountered")
    before: list[BaseException | None] = [ValueError("a"), ValueError("b")] if searching else []
    isolation = Isolation(Fragile(moods=[*before, gone]), continues=True)
    for one in batch(4, set()):
        isolation.admit(one)
    for _ in before:
        isolation.step()

    with pytest.raises(DeviceLost) as lost:
        isolation.step()
    assert not lost.value.blames


@dataclass
class Reads(Fragile):
    """Reads the inputs of jobs that it takes in again for `READING` steps before it runs them."""

    reading: dict[str, int] = field(default_factory=dict)

    def admit(self, work: Work) -> None:
        self.reading[work.id] = READING if work.id in self.said else 0
        super().admit(work)

    def step(self) -> Step:
        ready = {i: w for i, w in self.works.items() if self.reading[i] == 0}
        self.reading = {i: max(0, left - 1) for i, left in self.reading.items()}
        everybody, self.works = self.works, ready
        try:
            return super().step()
        finally:
            gone = set(self.taken) - set(self.works)
            self.works = {i: w for i, w in everybody.items() if i not in gone}

    def batch_delay(self) -> float:
        return 0.005


READING = PATIENCE + 6


def test_a_trial_waits_for_inputs_that_are_being_read() -> None:
    engine = Reads()
    isolation = Isolation(engine, continues=True)
    for one in (work("a", length=3), work("b", length=3), work("read", 0)):
        isolation.admit(one)
    ran, rested = Ran(), set[tuple[bool, bool]]()
    while isolation.pending():
        assert ran.steps < 9 * READING
        ran.take(isolation.step())
        rested.add((bool(engine.taken), isolation.batch_delay() > 0))

    assert ran.codes() == {"read": "poison_input"}
    assert ran.finished() == {"a", "b"}
    assert engine.failures == 2, "together, and alone"
    assert (False, True) in rested and (False, False) not in rested, "the loop does not spin"
