from tests.workers.engines.text_generation.speculation.conftest import FREE
from workers.engines.text_generation.speculation.costs import StepCosts
from workers.engines.text_generation.speculation.drafter import Drafter
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

DEAR = StepCosts({1: 1.0}, {2: 1.2, 16: 3.0})


def looping(new: int = 100, **fields: object) -> Sequence:
    """A text that decodes and has said the same three tokens over and over."""
    tokens = [1, 2, 3] * 6
    sequence = Sequence("a", tokens, 3, new, Sampling(seed=0))
    sequence.cached = len(tokens) - 1
    for name, value in fields.items():
        setattr(sequence, name, value)
    return sequence


def test_a_draft_ends_before_the_last_token_that_the_text_may_have() -> None:
    drafter = Drafter(FREE, 3, 15)

    for new, most in [(15, 0), (16, 0), (17, 1), (19, 3)]:
        assert len(drafter.draft(looping(new), 99, 1, mixed=False)) == most
    assert 3 < len(drafter.draft(looping(60), 99, 1, mixed=False)) <= 15
    assert drafter.draft(looping(), 2, 1, mixed=False) == (1, 2)


def test_only_texts_that_decode_and_may_be_drafted_are() -> None:
    drafter = Drafter(FREE, 3, 15)

    assert drafter.draft(looping(speculates=False), 9, 1, mixed=False) == ()
    assert drafter.draft(looping(cached=4), 9, 1, mixed=False) == ()
    assert drafter.draft(looping(ended="stop"), 9, 1, mixed=False) == ()
    assert drafter.draft(looping(), 0, 1, mixed=False) == ()
    assert len(drafter.draft(looping(), 9, 1, mixed=False)) > 0


def test_drafts_grow_while_they_are_right_and_cease_while_they_are_wrong() -> None:
    drafter, sequence = Drafter(DEAR, 3, 15), looping()

    def length() -> int:
        return len(drafter.draft(sequence, 99, 1, mixed=False))

    first = length()
    for _ in range(8):
        drafter.judge(sequence, 4, 4)
    assert length() > first > 0
    for _ in range(12):
        drafter.judge(sequence, 4, 0)
    assert length() == 0
    steps = 0
    while not length():
        drafter.judge(sequence, 0, 0)
        steps += 1
    assert 10 < steps < 300
    assert (sequence.drafted, sequence.accepted) == (80, 32)


def test_nothing_is_kept_of_a_text_that_is_gone() -> None:
    drafter, sequence = Drafter(FREE, 3, 15), looping()
    drafter.draft(sequence, 9, 1, mixed=False)

    drafter.forget(sequence)
    drafter.judge(sequence, 4, 4)

    assert len(drafter) == 0
