"""What a request says of its prompt and its text: ids, parts of chats, ends, words, least lengths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.domain.errors import InputRefused
from tests.engine_driver import drive, resumed
from tests.tiny_models import (
    CHAT_TEMPLATE,
    LLAMA,
    byte_level_tokenizer,
    save_causal,
    save_scripted,
    text_spec,
)
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

END = byte_level_tokenizer().eos_token_id


def loaded(path: Path) -> TextGeneration:
    engine = TextGeneration(text_spec(path))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    path = save_causal(tmp_path_factory.mktemp("chats"), **LLAMA)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return loaded(path)


@pytest.fixture(scope="module")
def script() -> list[int]:
    """No token stands in it twice, and the end token in its middle."""
    ids = byte_level_tokenizer()("jumps over the lazy dog. Zwölf")["input_ids"]
    assert len(set(ids)) == len(ids)
    return [*ids[:6], END, *ids[6:]]


@pytest.fixture(scope="module")
def says(
    tmp_path_factory: pytest.TempPathFactory, script: list[int]
) -> Callable[..., dict[str, Any]]:
    """The output of a model that says the script, asked for it with these params."""
    engine = loaded(save_scripted(tmp_path_factory.mktemp("said"), byte_level_tokenizer(), script))
    most = len(script) - 1

    def say(**params: Any) -> dict[str, Any]:
        work = Work("x", [script[0]], {"max_new_tokens": most} | params, 0)
        whole = drive(engine, [work])
        pieces = whole.pieces.get("x", [])
        for cut in range(len(pieces) + 1):
            again = drive(engine, [resumed(work, pieces[:cut])])
            assert again.finished("x").output == whole.finished("x").output
        return dict(whole.finished("x").output)

    return say


def used(engine: TextGeneration, work: Work) -> tuple[Any, int, int]:
    """A job's output, and the tokens of its prompt and its text."""
    ended = drive(engine, [work]).finished(work.id)
    return ended.output, ended.usage["prompt_tokens"], ended.usage["completion_tokens"]


def decoded(ids: list[int], *, specials: bool = False) -> str:
    text: str = byte_level_tokenizer().decode(
        ids, skip_special_tokens=not specials, clean_up_tokenization_spaces=False
    )
    return text


def test_token_ids_are_a_prompt_as_its_text_is(engine: TextGeneration) -> None:
    text = "The quick brown fox"
    params = {"max_new_tokens": 12, "temperature": 0.8}
    ids = byte_level_tokenizer()(text)["input_ids"]

    ran = drive(engine, [Work("text", text, params, 3), Work("ids", ids, params, 3)])

    assert ran.finished("ids") == replace(ran.finished("text"), id="ids")


@pytest.mark.parametrize("content", [[400], [-1], [1.5], [True], ["1"], [], [1] * 97])
def test_ids_that_are_none_are_refused(engine: TextGeneration, content: Any) -> None:
    with pytest.raises(InputRefused):
        engine.admit(Work("x", content, {}, 0))
    assert engine.pending() == 0


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"logit_bias": {"400": 1.0}}, "logit_bias has tokens outside"),
        ({"stop_token_ids": [400]}, "stop_token_ids has tokens outside"),
        ({"min_tokens": 65}, "min_tokens is 65"),
        ({"min_tokens": 9, "max_new_tokens": 8}, "min_tokens is 9"),
    ],
)
def test_params_that_the_model_cannot_follow_are_refused(
    engine: TextGeneration, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputRefused, match=words):
        engine.admit(Work("x", "a", params, 0))
    assert engine.pending() == 0


def test_a_chat_in_parts_is_the_chat_in_texts(engine: TextGeneration) -> None:
    def chat(content: Any, **more: Any) -> Work:
        messages = [{"role": "developer", "content": content}, {"role": "user", "content": "a"}]
        return Work("x", {"messages": messages, **more}, {"max_new_tokens": 8}, 0)

    parts = [{"type": "text", "text": "be "}, {"type": "input_text", "text": "brief"}]
    assert used(engine, chat(parts)) == used(engine, chat("be brief"))
    with pytest.raises(InputRefused, match="shows no tools"):
        engine.admit(chat("be brief", tools=[{"type": "function", "function": {"name": "f"}}]))


def test_a_message_that_is_continued_is_one_text_with_what_follows(engine: TextGeneration) -> None:
    begun = "The quick brown"
    turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": begun}]
    params = {"max_new_tokens": 16}
    chat = {"messages": turns, "continue_final_message": True}

    text = f"user: Go on.\nassistant: {begun}"
    assert used(engine, Work("x", chat, params, 0)) == used(engine, Work("x", text, params, 0))


def test_the_end_token_ends_a_text_unless_it_is_ignored(
    says: Callable[..., dict[str, Any]], script: list[int]
) -> None:
    whole = decoded(script[1:])

    assert says() == {"text": decoded(script[1:6]), "finish_reason": "stop"}
    assert says(ignore_eos=True) == {"text": whole, "finish_reason": "length"}
    shown = decoded(script[1:], specials=True)
    assert says(ignore_eos=True, skip_special_tokens=False)["text"] == shown != whole
    ends = {"ignore_eos": True, "stop_token_ids": [script[9]]}
    assert says(**ends) == {"text": decoded(script[1:9]), "finish_reason": "stop"}


def test_a_least_length_keeps_end_tokens_and_stop_strings_away(
    says: Callable[..., dict[str, Any]], script: list[int]
) -> None:
    end = {"ignore_eos": True, "stop_token_ids": [script[4]]}
    word = decoded(script[3:4])

    assert says(stop=[word])["text"] == decoded(script[1:3])
    assert says(stop=[word], min_tokens=2)["text"] == decoded(script[1:3])
    assert says(stop=[word], min_tokens=3)["text"] == decoded(script[1:6])
    assert says(**end, min_tokens=3)["text"] == decoded(script[1:4])
    assert len(says(**end, min_tokens=4)["text"]) > len(decoded(script[1:4]))
    assert len(says(min_tokens=6)["text"]) > len(decoded(script[1:6]))


def test_words_that_are_forbidden_and_scores_that_are_raised_change_the_text(
    says: Callable[..., dict[str, Any]], script: list[int]
) -> None:
    word = decoded(script[3:4])
    assert word.strip() and word in says()["text"]
    assert word.strip() not in says(bad_words=[word.strip()])["text"]
    bias = {str(END): 100.0, str(script[1]): -100.0}
    assert says(logit_bias=bias) == {"text": "", "finish_reason": "stop"}
