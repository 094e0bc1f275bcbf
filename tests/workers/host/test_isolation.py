"""Poison in a batch: the culprit ends alone, the others never notice, a sick engine blames nobody."""

import math
import sys
from asyncio import CancelledError
from dataclasses import dataclass, field

import msgspec
import pytest

from shared.domain.errors import InputRefused
from tests.workers.host.fragile import LETTERS, Fragile, Ran, batch, drive, serve, work
from workers.engines.base import Failed, Step, Work
from workers.engines.faults import Unprepared
from workers.host.blame import EVIDENCE_SECONDS, Evidence
from workers.host.isolation import Isolation
from workers.host.search import FAN_OUT, PATIENCE, SICK_AFTER


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
