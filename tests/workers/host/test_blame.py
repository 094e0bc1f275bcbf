"""Whose fault is a failure: what speaks for an engine, and what against it."""

import msgspec

from workers.engines.base import Failed
from workers.host.blame import EVIDENCE_SECONDS, Evidence
from workers.host.search import SICK_AFTER

PLAIN = Failed("j", "engine_error", "odd")
SHAPED = Failed("j", "engine_error", "odd", shaped=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def asked(content: object, seed: int = 1) -> bytes:
    return msgspec.json.encode({"content": content, "params": {}, "seed": seed})


def doubts(evidence: Evidence, fault: Failed, inputs: list[object]) -> list[str]:
    return [evidence.doubt(fault, asked(one, seed)) for seed, one in enumerate(inputs)]


def test_while_nothing_has_gone_well_each_input_speaks_against_the_engine_once() -> None:
    assert doubts(Evidence(), PLAIN, list("abaac")) == [
        *("new", "new", "known", "known", "new"),
    ]


def test_a_good_step_shortly_before_vouches_for_the_engine_but_not_for_ever() -> None:
    evidence = Evidence(Clock())
    evidence.well()
    few = SICK_AFTER - 1
    assert doubts(evidence, PLAIN, list(range(few + 2))) == [""] * few + ["new", "new"]


def test_however_many_inputs_of_a_wrong_shape_say_nothing_after_a_good_step() -> None:
    clock = Clock()
    evidence = Evidence(clock)
    evidence.well()
    assert not any(doubts(evidence, SHAPED, list(range(50))))
    clock.now += EVIDENCE_SECONDS + 1
    assert doubts(evidence, SHAPED, ["late", "later"]) == ["", ""], "they are one tenant's"
    assert evidence.doubt(SHAPED, asked("another's"), "another tenant") == "new"


def test_of_an_engine_that_has_never_done_well_every_input_speaks() -> None:
    assert doubts(Evidence(), SHAPED, ["a", "b"]) == ["new", "new"]


def test_every_good_step_begins_anew() -> None:
    evidence = Evidence(Clock())
    assert doubts(evidence, PLAIN, ["a"]) == ["new"]
    for _ in range(5):
        evidence.well()
        assert doubts(evidence, PLAIN, ["a"]) == [""]
