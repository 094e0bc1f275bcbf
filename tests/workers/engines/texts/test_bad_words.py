"""Bad words as tokens: cut as at a text's start and inside it, with and without a space."""

import pytest

from tests.tiny_models import byte_level_tokenizer, sentencepiece_tokenizer
from workers.engines.texts.bad_words import BadWords, Encode


def encode(kind: str) -> Encode:
    made = {"bytes": byte_level_tokenizer, "pieces": sentencepiece_tokenizer}[kind]()

    def ids(text: str) -> list[int]:
        found: list[int] = made(text, add_special_tokens=False)["input_ids"]
        return found

    return ids


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("text", ["the lazy dog", "fox the", "quick fox brown", "foxes"])
@pytest.mark.parametrize("word", ["fox", "lazy", "the", "lazy dog"])
def test_a_text_cannot_be_written_token_by_token_with_a_bad_word_in_it(
    kind: str, text: str, word: str
) -> None:
    ids = encode(kind)
    words = BadWords.of([word], ids, "a")
    assert words is not None
    said = ids(text)

    stopped = any(said[n] in words.banned(said[:n]) for n in range(len(said)))

    cut = [ids(form) for form in (word, " " + word)]
    holds = any(said[n : n + len(one)] == one for one in cut for n in range(len(said)) if one)
    assert stopped >= holds
    assert not stopped or word in text


def test_a_longer_one_is_forbidden_at_its_last_token_only() -> None:
    words = BadWords.of(["ab"], lambda text: [ord(c) for c in text])
    assert words is not None
    assert words.banned([]) == words.banned([ord("b")]) == words.banned([ord("x")]) == []
    assert set(words.banned([ord("x"), ord("a")])) == {ord("b")}
    assert BadWords.of([], lambda text: [1]) is None
