from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from workers.engines.text_generation.speculation.ngrams import NGrams


def test_a_guess_is_what_followed_the_last_occurrence() -> None:
    text = [1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 1, 2, 3]

    assert NGrams(3).guess(text, 2) == (6, 7)
    assert NGrams(3).guess(text, 5) == (6, 7, 1, 2, 3)


def test_a_text_that_repeats_itself_is_continued_beyond_its_end() -> None:
    assert NGrams(2).guess([8, 1, 2, 3, 1, 2], 8) == (3, 1, 2, 3, 1, 2, 3, 1)
    assert NGrams(2).guess([7, 7, 7], 3) == (7, 7, 7)


def test_nothing_is_guessed_of_what_was_not_there_before() -> None:
    assert NGrams(3).guess([1, 2, 3, 4, 5], 4) == ()
    assert NGrams(3).guess([1, 2, 3], 4) == ()
    assert NGrams(3).guess([], 4) == ()
    assert NGrams(1).guess([1, 1], 0) == ()


@settings(deadline=None, max_examples=examples(100))
@given(
    size=st.integers(1, 4),
    text=st.lists(st.integers(0, 2), max_size=40),
    count=st.integers(1, 6),
)
def test_an_index_that_grows_with_its_text_guesses_as_one_made_at_once(
    size: int, text: list[int], count: int
) -> None:
    growing = NGrams(size)
    for length in range(len(text) + 1):
        tokens = text[:length]
        found = growing.guess(tokens, count)
        assert found == NGrams(size).guess(tokens, count)
        ends = [n for n in range(size, length) if tokens[n - size : n] == tokens[length - size :]]
        wanted = list(tokens)
        for _ in range(count if ends else 0):
            wanted.append(wanted[len(wanted) - (length - ends[-1])])
        assert found == tuple(wanted[length:])
    assert len(growing._after) <= len(text)
