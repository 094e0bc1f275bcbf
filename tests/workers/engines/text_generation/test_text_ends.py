"""The two ends of a text: its first space, its last character, stop strings and special tokens."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.engine_driver import drive, resumed
from tests.tiny_models import (
    CHAT_TEMPLATE,
    END,
    byte_level_tokenizer,
    save_scripted,
    sentencepiece_tokenizer,
    text_spec,
)
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration


def copied(tokenizer: PreTrainedTokenizerFast, **tokens: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)


def marked_tokenizer() -> PreTrainedTokenizerFast:
    """With two special tokens beside its end, and an added one that is not special."""
    tokenizer = copied(byte_level_tokenizer(), eos_token=END)
    tokenizer.add_tokens(
        [AddedToken("<|call|>", special=True), AddedToken("<|stop|>", special=True)]
    )
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    return tokenizer


def loaded(path: Path) -> TextGeneration:
    engine = TextGeneration(text_spec(path))
    engine.load()
    return engine


def says(engine: TextGeneration, content: Any, **params: Any) -> tuple[str, str]:
    """What the engine says, and why it ended; that every attempt that goes on says the same is checked."""
    work = Work("x", content, {"max_new_tokens": 16} | params, seed=0)
    ran = drive(engine, [work])
    output = ran.finished("x").output
    assert ran.streamed("x") == output["text"]
    pieces = ran.pieces.get("x", [])
    for cut in range(len(pieces) + 1):
        again = drive(engine, [resumed(work, pieces[:cut])])
        assert again.finished("x").output == output
        streamed = "".join(piece.text for piece in pieces[:cut]) + again.streamed("x")
        assert streamed == output["text"]
    return output["text"], output["finish_reason"]


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    """Of Llama 2's kind: it says "The quick brown fox" from "The" on."""
    tokenizer = copied(
        sentencepiece_tokenizer(), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    ids = tokenizer("The quick brown fox", add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == len(ids)
    folder = save_scripted(tmp_path_factory.mktemp("spaced"), tokenizer, [*ids, 2])
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return loaded(folder)


def test_prompt_and_completion_are_the_text_that_the_tokenizer_makes_of_both(
    spaced: TextGeneration,
) -> None:
    assert says(spaced, "The") == (" quick brown fox", "stop")
    assert says(spaced, "The quick brown") == (" fox", "stop")
    assert says(spaced, "The", stop=[" fox"]) == (" quick brown", "stop")
    assert says(spaced, "The", skip_special_tokens=False) == (" quick brown fox", "stop")


def test_an_answer_in_a_chat_begins_without_a_space(spaced: TextGeneration) -> None:
    chat = {"messages": [{"role": "user", "content": "The"}]}

    assert says(spaced, chat) == ("quick brown fox", "stop")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("The", " quick brown fox"),
        ({"messages": [{"role": "user", "content": "The"}]}, "quick brown fox"),
    ],
)
def test_logprobs_spell_the_text(spaced: TextGeneration, content: Any, text: str) -> None:
    work = Work("x", content, {"max_new_tokens": 16, "logprobs": True, "top_logprobs": 1}, 0)

    entries = drive(spaced, [work]).finished("x").output["logprobs"]

    assert "".join(entry["token"] for entry in entries) == text
    assert [entry["top"][0]["token"] for entry in entries] == [e["token"] for e in entries]


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize("stop", [[], ["never"]])
def test_no_text_ends_in_a_part_of_a_character(tmp_path: Path, kind: str, stop: list[str]) -> None:
    tokenizer = {
        "byte-level": copied(byte_level_tokenizer(), eos_token=END),
        "sentencepiece": copied(
            sentencepiece_tokenizer(), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ),
    }[kind]
    ids = tokenizer("xé🐍" if kind == "sentencepiece" else "x é🐍", add_special_tokens=False)[
        "input_ids"
    ]
    assert len(set(ids)) == len(ids)
    engine = loaded(save_scripted(tmp_path, tokenizer, [*ids, tokenizer.eos_token_id]))
    prompt = "x"
    given = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    whole = tokenizer.decode(ids)[1:]

    texts = [says(engine, prompt, max_new_tokens=n, stop=stop)[0] for n in range(1, len(ids))]

    assert not any("\ufffd" in text for text in texts)
    assert all(whole.startswith(text) for text in texts)
    assert texts[len(ids) - given - 1] == whole
    assert len(set(texts)) == len(whole) + (kind == "sentencepiece")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    """It says "a<|call|>b<think>c<|stop|>d" and ends, from "a" on."""
    tokenizer = marked_tokenizer()
    names = ["a", "<|call|>", "b", "<think>", "c", "<|stop|>", "d", END]
    ids = [tokenizer.convert_tokens_to_ids(name) for name in names]
    return loaded(save_scripted(tmp_path_factory.mktemp("marked"), tokenizer, ids))


@pytest.mark.parametrize(
    ("stop", "shown", "spelled"),
    [
        ([], "b<think>cd", "<|call|>b<think>c<|stop|>d"),
        (["<|stop|>"], "b<think>c", "<|call|>b<think>c"),
        (["c<|stop|>"], "b<think>", "<|call|>b<think>"),
        (["<|stop|>d"], "b<think>c", "<|call|>b<think>c"),
        (["<think>"], "b", "<|call|>b"),
        (["<|call|>"], "", ""),
        (["|>b<th"], "b<think>cd", "<|call"),
        ([END], "b<think>cd", "<|call|>b<think>c<|stop|>d"),
        (["d" + END], "b<think>c", "<|call|>b<think>c<|stop|>"),
        (["<|never|>", "cd"], "b<think>", "<|call|>b<think>c<|stop|>d"),
        (["q", "<|stop|>", ">c"], "b<think", "<|call|>b<think"),
        (["call"], "b<think>cd", "<|"),
        (["b<think>c<|stop|>d", "<|call|>b<think>c<|stop|>e"], "", "<|call|>"),
    ],
)
def test_stop_strings_of_special_and_other_tokens(
    marked: TextGeneration, stop: list[str], shown: str, spelled: str
) -> None:
    assert says(marked, "a", stop=stop) == (shown, "stop")
    assert says(marked, "a", stop=stop, skip_special_tokens=False) == (spelled, "stop")


def test_the_token_that_ends_a_text_is_not_shown(marked: TextGeneration) -> None:
    stopping = marked_tokenizer().convert_tokens_to_ids("<|stop|>")

    text, reason = says(marked, "a", skip_special_tokens=False, stop_token_ids=[stopping])

    assert (text, reason) == ("<|call|>b<think>c", "stop")


def test_a_text_that_ends_at_its_length_shows_special_tokens_where_they_are_wanted(
    marked: TextGeneration,
) -> None:
    assert says(marked, "a", max_new_tokens=1) == ("", "length")
    assert says(marked, "a", max_new_tokens=1, skip_special_tokens=False) == ("<|call|>", "length")


def test_an_answer_of_a_chat_shows_special_tokens_too(tmp_path: Path) -> None:
    tokenizer = marked_tokenizer()
    ids = [tokenizer.convert_tokens_to_ids(name) for name in (":", "<|call|>", "b", END)]
    folder = save_scripted(tmp_path, tokenizer, ids)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    engine = loaded(folder)
    chat = {"messages": [{"role": "user", "content": "a"}]}

    assert says(engine, chat) == ("b", "stop")
    assert says(engine, chat, skip_special_tokens=False) == ("<|call|>b", "stop")
