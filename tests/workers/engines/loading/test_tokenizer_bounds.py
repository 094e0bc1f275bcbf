"""A bound on a text's length never refuses what could fit, whatever the tokenizer makes of it."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.conftest import examples
from tests.tiny_models import (
    CHAT_TEMPLATE,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    wordpiece_tokenizer,
)
from workers.engines.loading.tokenizer_bounds import SHRINK, prompt_bounds, rendered_roles

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def built(
    model: Any, normalizer: Any = None, pre: Any = None, added: list[AddedToken] | None = None
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(added or [])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_level(
    normalizer: Any = None, added: list[AddedToken] | None = None, **bpe: Any
) -> PreTrainedTokenizerFast:
    vocabulary = {letter: n for n, letter in enumerate(LETTERS)} | {"ab": 256, "abab": 257}
    model = models.BPE(vocabulary, [("a", "b"), ("ab", "ab")], **bpe)
    return built(model, normalizer, pre_tokenizers.ByteLevel(add_prefix_space=False), added)


def words(model: Any, pre: Any, normalizer: Any = None) -> PreTrainedTokenizerFast:
    return built(model, normalizer, pre)


WORDS = {"[UNK]": 0, "a": 1, "##a": 2, "b": 3}
UNIGRAM = [("<unk>", 0.0), ("▁", -1.0), ("a", -2.0)]


def bounds(tokenizer: PreTrainedTokenizerFast, tokens: int = 8) -> tuple[int | None, int | None]:
    found = prompt_bounds(tokenizer, tokens)
    return found.bytes, found.words


def test_a_byte_level_vocabulary_bounds_bytes() -> None:
    assert bounds(byte_level()) == (8 * 4, None)
    assert bounds(byte_level(added=[AddedToken("<|a long one|>", special=True)])) == (8 * 14, None)
    assert bounds(byte_level(normalizers.NFC())) == (8 * 4 * SHRINK["NFC"], None)
    assert bounds(byte_level_tokenizer())[0] is not None
    # "▁" and "T" and so on; no token is longer than one character that is unknown.
    assert bounds(sentencepiece_tokenizer())[0] is not None


@pytest.mark.parametrize(
    "tokenizer",
    [
        byte_level(normalizers.StripAccents()),
        byte_level(normalizers.Strip()),
        byte_level(normalizers.Replace("aa", "a")),
        byte_level(normalizers.BertNormalizer()),
        byte_level(normalizers.Sequence([normalizers.NFC(), normalizers.Nmt()])),
        byte_level(added=[AddedToken("<mask>", lstrip=True)]),
        byte_level(added=[AddedToken("<|user|>", rstrip=True)]),
        built(models.BPE({"a": 0}, []), pre=pre_tokenizers.ByteLevel()),
        built(models.BPE({"a": 0, "?": 1}, [], unk_token="?", fuse_unk=True)),
        built(
            models.BPE({"a": 0, "?": 1}, [], unk_token="?"),
            pre=pre_tokenizers.Split(" ", "removed"),
        ),
        built(models.BPE({"a": 0, "?": 1}, [], unk_token="?"), pre=pre_tokenizers.Whitespace()),
        built(models.Unigram(UNIGRAM, unk_id=0)),
        words(models.WordLevel(WORDS, unk_token="[UNK]"), pre_tokenizers.Whitespace()),
        wordpiece_tokenizer(),
    ],
)
def test_where_text_may_vanish_in_one_token_no_bytes_are_too_many(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert bounds(tokenizer)[0] is None


def test_single_unknown_characters_are_tokens_of_their_own() -> None:
    tokenizer = built(models.BPE({"a": 0, "?": 1}, [], unk_token="?"))

    assert bounds(tokenizer) == (8 * 4, None)
    assert len(tokenizer("🎉" * 8)["input_ids"]) == 8


@pytest.mark.parametrize(
    ("tokenizer", "counted"),
    [
        (wordpiece_tokenizer(), True),
        (words(models.WordLevel(WORDS, unk_token="[UNK]"), pre_tokenizers.Whitespace()), True),
        (words(models.Unigram(UNIGRAM, unk_id=0), pre_tokenizers.Metaspace()), True),
        (words(models.Unigram(UNIGRAM, unk_id=0), pre_tokenizers.Metaspace(split=False)), False),
        (words(models.WordPiece(WORDS, unk_token="[UNK]"), pre_tokenizers.Digits()), False),
        (
            words(
                models.WordPiece(WORDS, unk_token="[UNK]"),
                pre_tokenizers.Whitespace(),
                normalizers.Replace(" ", ""),
            ),
            False,
        ),
        (byte_level(), False),
    ],
)
def test_words_are_counted_where_each_is_a_token_at_least(
    tokenizer: PreTrainedTokenizerFast, counted: bool
) -> None:
    assert bounds(tokenizer)[1] == (8 if counted else None)


BOUNDED = [
    byte_level(),
    byte_level(normalizers.NFC()),
    byte_level(normalizers.NFKC()),
    byte_level(normalizers.Lowercase(), [AddedToken("<a>", special=True)]),
    sentencepiece_tokenizer(),
    wordpiece_tokenizer(),
    words(models.Unigram(UNIGRAM, unk_id=0), pre_tokenizers.Metaspace()),
    words(
        models.WordPiece(WORDS, unk_token="[UNK]"),
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
    ),
]
ODD = "ab <>\u212a\ufb03\u0301\u0308\u0390\x00\x1c\u200b\u00a0\u3000é🎉𝐀"


@settings(deadline=None, max_examples=examples(300))
@given(st.sampled_from(range(len(BOUNDED))), st.text(ODD, max_size=80) | st.text(max_size=40))
def test_nothing_that_fits_is_refused(which: int, text: str) -> None:
    tokenizer = BOUNDED[which]
    count = len(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert prompt_bounds(tokenizer, max(1, count)).check([text]) is None


def test_composing_characters_shrinks_no_text_below_a_quarter() -> None:
    longest: dict[str, int] = {}
    characters = [chr(c) for c in range(0x30000) if not 0xD800 <= c < 0xE000]
    for character in characters:
        parts = unicodedata.normalize("NFKD", character)
        if len(parts) == 1:
            longest[parts] = max(longest.get(parts, 0), len(character.encode()))

    for character in characters:
        parts = unicodedata.normalize("NFKD", character)
        if unicodedata.normalize("NFKC", character) == character:
            made_of = sum(max(longest.get(p, 0), len(p.encode())) for p in parts)
            assert made_of <= SHRINK["NFKC"] * len(character.encode())


CHATS = {
    CHAT_TEMPLATE: ("user", "assistant", "system"),
    "{% for m in messages %}{{ m.role }}:{{ m.content | trim }}{% endfor %}": (
        *("user", "assistant", "system"),
    ),
    "{% for m in messages[-2:] %}{{ m.content }}{% endfor %}": (),
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}": ("user", "system"),
    "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}": ("user", "assistant"),
    "{{ 1 / 0 }}": (),
}


@pytest.mark.parametrize("template", CHATS)
def test_only_messages_that_a_template_renders_whole_are_counted(template: str) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = template

    assert sorted(rendered_roles(tokenizer)) == sorted(CHATS[template])
