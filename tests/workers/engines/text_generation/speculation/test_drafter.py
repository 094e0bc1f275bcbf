from tests.workers.engines.text_generation.speculation.conftest import FREE
from workers.engines.text_generation.chunk import Chunk
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


def draft(drafter: Drafter, sequence: Sequence, room: int = 99) -> tuple[int, ...]:
    """What is drafted where it is the only text, and the budget has `room`."""
    chunk = Chunk(sequence, 0, len(sequence.tokens) - 1, 1)
    [found] = drafter.extend([chunk], 1 + room)
    return found.draft


def test_a_draft_ends_before_the_last_token_that_the_text_may_have() -> None:
    drafter = Drafter(FREE, 3, 15)

    for new, most in [(15, 0), (16, 0), (17, 1), (19, 3)]:
        assert len(draft(drafter, looping(new), 99)) == most
    assert 3 < len(draft(drafter, looping(60), 99)) <= 15
    assert draft(drafter, looping(), 2) == (1, 2)


def test_only_texts_that_decode_and_may_be_drafted_are() -> None:
    drafter = Drafter(FREE, 3, 15)

    assert draft(drafter, looping(speculates=False), 9) == ()
    assert draft(drafter, looping(cached=4), 9) == ()
    assert draft(drafter, looping(ended="stop"), 9) == ()
    assert draft(drafter, looping(), 0) == ()
    assert len(draft(drafter, looping(), 9)) > 0


def test_drafts_grow_while_they_are_right_and_cease_while_they_are_wrong() -> None:
    drafter, sequence = Drafter(DEAR, 3, 15), looping()

    def length() -> int:
        return len(draft(drafter, sequence, 99))

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
    draft(drafter, sequence, 9)

    drafter.forget(sequence)
    drafter.judge(sequence, 4, 4)

    assert len(drafter) == 0
