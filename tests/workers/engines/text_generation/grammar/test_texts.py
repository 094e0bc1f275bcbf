"""Texts that follow a grammar, as the engine makes them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import Limits
from tests.conftest import by_turns
from tests.engine_driver import Ran, drive, message_of, resumed
from tests.tiny_models import (
    CHAT_TEMPLATE,
    LLAMA,
    WAYS,
    byte_level_tokenizer,
    save_causal,
    sentencepiece_tokenizer,
    text_spec,
)
from workers.engines.base import Failed, Work
from workers.engines.text_generation.engine import TextGeneration

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["fox", "dog", "café 🎉"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "kind", "legs", "tags"],
    "additionalProperties": False,
}
GRAMMARS = {
    "json_schema": {"json_schema": SCHEMA},
    "regex": {"regex": r"[a-z]{2,5}-\d+(é|ü){1,3}"},
    "choices": {"choices": ["a long one", "a longer one", "naïve 🎉"]},
    "lark": {"lark": 'start: word (", " word)*\nword: /[a-z]{1,3}/\n'},
}


ENGINES = ["bytes", "pieces", "padded", "static"]
"""By their tokenizers, and one by the way in which it batches."""


def holds(kind: str, text: str) -> bool:
    if kind == "json_schema":
        jsonschema.validate(json.loads(text), SCHEMA)
        return True
    if kind == "choices":
        return text in GRAMMARS["choices"]["choices"]
    pattern = {"regex": GRAMMARS["regex"].get("regex"), "lark": "[a-z]{1,3}(, [a-z]{1,3})*"}[kind]
    return re.fullmatch(str(pattern), text) is not None


def work(name: str, grammar: dict[str, Any] | None, seed: int = 1, **params: Any) -> Work:
    asked = {"max_new_tokens": 64, "temperature": 1.0} | params
    return Work(name, "The fox: ", asked | {"grammar": grammar}, seed=seed)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    pieces = request.param == "pieces"
    tokenizer = sentencepiece_tokenizer() if pieces else byte_level_tokenizer()
    size = len(tokenizer) + (60 if request.param == "padded" else 0)
    way = "static" if request.param == "static" else "packed"
    config, sizes = WAYS[way]
    save_causal(folder, config, tokenizer=tokenizer, **sizes | {"vocab_size": size})
    made = TextGeneration(text_spec(folder))
    assert made.load().details["batching"] == way
    return made


@pytest.mark.explores
@pytest.mark.parametrize(("kind", "engine"), by_turns(GRAMMARS, ENGINES), indirect=["engine"])
def test_a_text_follows_its_grammar(engine: TextGeneration, kind: str) -> None:
    works = [work(f"{kind}-{seed}", GRAMMARS[kind], seed) for seed in range(4)]

    ran = drive(engine, works)

    outputs = [ran.finished(one.id).output for one in works]
    ended = [output for output in outputs if output["finish_reason"] == "stop"]
    assert all(holds(kind, output["text"]) for output in ended)
    assert ended
    assert {output["finish_reason"] for output in outputs} <= {"stop", "length"}


def test_a_resumed_text_goes_on_as_it_would_have(engine: TextGeneration) -> None:
    asked = work("json", GRAMMARS["json_schema"], 7)
    [whole] = [drive(engine, [asked])]
    said = whole.pieces["json"]

    for cut in sorted({1, len(said) // 2, len(said) - 1, len(said)}):
        again = drive(engine, [resumed(asked, said[:cut])])

        assert again.text("json") == whole.text("json")
        assert again.finished("json").output == whole.finished("json").output


def test_texts_beside_a_held_one_are_what_they_are_alone(engine: TextGeneration) -> None:
    plain = work("plain", None, 3, temperature=0.0)
    alone = drive(engine, [plain]).text("plain")

    together = drive(engine, [work("json", GRAMMARS["json_schema"]), plain])

    assert together.text("plain") == alone
    assert together.text("json") == drive(engine, [work("json", GRAMMARS["json_schema"])]).text(
        "json"
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    folder = save_causal(tmp_path_factory.mktemp("packed"), **LLAMA)
    made = TextGeneration(text_spec(folder))
    made.load()
    return made


def only(ran: Ran) -> dict[str, Any]:
    [name] = ran.outcomes
    output: dict[str, Any] = ran.finished(name).output
    return output


PARAMS: Iterable[dict[str, Any]] = (
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.8, "presence_penalty": 1.5},
    {"temperature": 2.0, "top_k": 3},
    {"temperature": 1.5, "top_p": 0.3, "min_p": 0.05},
    {"min_tokens": 40, "max_new_tokens": 50},
    {"ignore_eos": True},
    {"logit_bias": {"70": 100.0, "71": -100.0}, "temperature": 0.0},
)


@pytest.mark.parametrize("params", PARAMS)
def test_a_grammar_holds_whatever_else_chooses_tokens(
    packed: TextGeneration, params: dict[str, Any]
) -> None:
    output = only(drive(packed, [work("a", GRAMMARS["choices"], **params)]))

    assert output["finish_reason"] == "stop"
    assert holds("choices", output["text"])


def test_a_bad_word_leaves_a_grammar_its_other_ways(packed: TextGeneration) -> None:
    only_fox = {"choices": ["fox", "dog"]}
    for seed in range(4):
        output = only(drive(packed, [work("a", only_fox, seed, bad_words=["d", "do", "dog"])]))
        assert output == {"text": "fox", "finish_reason": "stop"}


def test_each_text_of_a_prompt_follows_the_grammar_and_resumes_alone(
    packed: TextGeneration,
) -> None:
    asked = work("a", GRAMMARS["json_schema"], n=3, max_new_tokens=48)

    whole = drive(packed, [asked])

    choices = only(whole)["choices"]
    assert len(choices) == 3
    for choice in choices:
        assert choice["finish_reason"] == "length" or holds("json_schema", choice["text"])
    again = drive(packed, [resumed(asked, whole.pieces["a"][: len(whole.pieces["a"]) // 2])])
    assert only(again)["choices"] == choices


def test_log_probabilities_are_the_models_own(packed: TextGeneration) -> None:
    asked = work("a", {"choices": ["fox", "dog"]}, logprobs=True, top_logprobs=3)

    whole = drive(packed, [asked])

    entries = only(whole)["logprobs"]
    assert [row for piece in whole.pieces["a"] for row in piece.logprobs or ()] == entries
    assert "".join(entry["token"] for entry in entries) == only(whole)["text"]
    assert any(entry["token_id"] not in [t["token_id"] for t in entry["top"]] for entry in entries)
    ran = drive(packed, [resumed(asked, whole.pieces["a"][:1])])
    again = only(ran)
    assert [e["token_id"] for e in again["logprobs"]] == [e["token_id"] for e in entries]
    rest = [row for piece in ran.pieces["a"] for row in piece.logprobs or ()]
    assert rest == again["logprobs"][len(whole.pieces["a"][0].token_ids) :]


def test_a_stop_string_ends_a_held_text(packed: TextGeneration) -> None:
    output = only(drive(packed, [work("a", {"regex": "abcdef"}, stop=["de"])]))

    assert output == {"text": "abc", "finish_reason": "stop"}


def test_a_stop_token_ends_only_what_is_complete(packed: TextGeneration) -> None:
    [token] = byte_level_tokenizer()("d")["input_ids"]

    output = only(
        drive(packed, [work("a", {"regex": "a{3}b*"}, stop_token_ids=[token], temperature=5.0)])
    )

    assert output["finish_reason"] == "stop"
    assert re.fullmatch("a{3}b*", output["text"])


def test_a_length_cuts_a_held_text(packed: TextGeneration) -> None:
    output = only(drive(packed, [work("a", {"regex": "x{40,}"}, max_new_tokens=8)]))

    assert output["finish_reason"] == "length"
    assert re.fullmatch("x{1,40}", output["text"])


def test_a_grammar_without_a_way_on_ends_the_text(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    folder = save_causal(tmp_path, **LLAMA)
    settings = json.loads((folder / "generation_config.json").read_text())
    names = tokenizer.get_vocab()
    settings["suppress_tokens"] = [names[name] for name in names if set(name) & set("qz")]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    engine = TextGeneration(text_spec(folder))
    engine.load()

    output = only(drive(engine, [work("a", {"regex": "ab[qz]"})]))

    assert output == {"text": "ab", "finish_reason": "grammar"}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {
                "type": "object",
                "properties": {"at": {"enum": ["fox", "dog"]}},
                "required": ["at"],
                "additionalProperties": False,
            },
        },
    }
]


CHAT = {
    "messages": [{"role": "user", "content": "What is it?"}],
    "tools": TOOLS,
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
ANSWER = (
    r"<think>\n[a-z ]{2,6}\n</think>\n\n([A-Z][a-z]{2,4}\. ?){1,2}"
    r'(<tool_call>\n\{"name": "(look|leave)", "arguments": \{"at": "[a-zé🎉]{1,4}"\}\}\n</tool_call>\n?){1,2}'
)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    """A model whose template shows tools, and whose tokenizer has special tokens for the tags of calls."""
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = "{% for t in tools %}{{ t }}{% endfor %}" + CHAT_TEMPLATE
    folder = tmp_path_factory.mktemp("chatting")
    save_causal(folder, tokenizer=tokenizer, **LLAMA | {"max_position_embeddings": 768})
    made = TextGeneration(
        text_spec(folder, limits=Limits(max_prompt_tokens=384, max_new_tokens=256))
    )
    made.load()
    return made


def test_a_chat_that_must_call_a_tool_does_so_whatever_dies(chatting: TextGeneration) -> None:
    asked = Work("a", CHAT, {"max_new_tokens": 128, "temperature": 1.0}, seed=5)

    whole = drive(chatting, [asked])

    output = only(whole)
    assert output["finish_reason"] == "stop"
    [call] = output["message"]["tool_calls"]
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"])["at"] in ("fox", "dog")
    assert whole.streamed("a") == output["text"]
    assert message_of(whole.pieces["a"]) == output["message"]
    assert not any(piece.finish_reason for piece in whole.pieces["a"][:-1])
    said = whole.pieces["a"]
    for cut in (1, len(said) // 2, len(said)):
        assert only(drive(chatting, [resumed(asked, said[:cut])])) == output
    free = only(drive(chatting, [replace(asked, content=CHAT | {"tool_choice": "auto"})]))
    assert free["message"] == {"role": "assistant", "content": free["text"]}


def test_each_part_of_each_text_adds_up_wherever_an_attempt_has_died(
    chatting: TextGeneration,
) -> None:
    params = {"max_new_tokens": 220, "temperature": 1.0, "grammar": {"regex": ANSWER}, "n": 2}
    asked = Work("a", CHAT | {"tool_choice": "auto"}, params, seed=3)

    whole = drive(chatting, [asked])

    said, choices = whole.pieces["a"], only(whole)["choices"]
    assert len({choice["text"] for choice in choices}) == 2
    for choice in choices:
        message = choice["message"]
        assert message_of(said, choice["index"]) == message
        assert f"<think>\n{message['reasoning_content']}\n</think>" in choice["text"]
        assert "</think>" not in message["content"]
        for call in message.get("tool_calls", ()):
            assert call["function"]["name"] == "look"
            assert call["function"]["arguments"] in choice["text"]
    assert any("tool_calls" in choice["message"] for choice in choices)
    for cut in range(0, len(said) + 1, 41):
        again = drive(chatting, [resumed(asked, said[:cut])])
        assert only(again)["choices"] == choices
        for choice in choices:
            pieces = [*said[:cut], *again.pieces.get("a", ())]
            assert message_of(pieces, choice["index"]) == choice["message"]


def test_text_that_is_held_back_comes_once_though_its_end_was_told_already(
    chatting: TextGeneration,
) -> None:
    """The attempt dies between its last piece and its end."""
    params = {"max_new_tokens": 32, "grammar": {"regex": "Hm +<tool"}}
    asked = Work("a", CHAT | {"tool_choice": "auto"}, params, seed=3)
    whole = drive(chatting, [asked])
    said = whole.pieces["a"]

    again = drive(chatting, [resumed(asked, said)])

    assert said[-1].text == "" and said[-1].parts
    assert said[-1].finish_reason == "stop"
    assert "a" not in again.pieces
    assert only(again) == only(whole)
    assert message_of(said) == only(whole)["message"]


def test_a_grammar_that_cannot_be_enforced_is_refused_alone(packed: TextGeneration) -> None:
    ran = drive(packed, [work("bad", {"json_schema": {"not": {}}}), work("good", None)])

    refused = ran.outcomes["bad"]
    assert isinstance(refused, Failed)
    assert refused.code == "invalid_grammar"
    assert "not" in refused.message
    assert ran.text("good")


def test_a_known_grammar_is_compiled_once(packed: TextGeneration) -> None:
    grammar = {"regex": "[a-f]{4}"}
    drive(packed, [work("a", grammar)])

    assert packed._grammars.knows(grammar)
    packed.admit(work("b", grammar))
    assert "b" in packed._sequences
    packed.cancel("b")
    with pytest.raises(InputRefused):
        packed._grammars.compile({"regex": "(?=a)"})
