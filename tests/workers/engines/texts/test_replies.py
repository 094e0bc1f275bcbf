import json
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from shared.grammars.calls import Form, calls_grammar
from shared.grammars.refusal import GrammarRefused
from tests.shared.grammars.walks import Unfinished, walk
from tests.tiny_models import byte_level_tokenizer
from workers.engines.base import Work
from workers.engines.loading.vocabulary import Vocabulary
from workers.engines.texts.replies import Replies

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "São Paulo"]}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
        {"type": "function", "function": {"name": "now"}},
    ],
}
ARGUMENTS = '{"city": "Oslo", "days": 2}'
FORMS: tuple[Form, ...] = ("hermes", "llama", "mistral")
SPELLED = {
    "hermes": f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama": f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
    "mistral": f'[TOOL_CALLS] [{{"name": "weather", "arguments": {ARGUMENTS}}}]',
}
SHOWS = {"hermes": "… <tool_call> …", "llama": "… python_tag …", "mistral": "… [TOOL_CALLS] …"}
TOKENIZER = byte_level_tokenizer()
VOCABULARY = Vocabulary.of(TOKENIZER)


def replies(template: str = "", response_template: Any = None) -> Replies:
    tokenizer = SimpleNamespace(chat_template=template, response_template=response_template)
    return Replies(tokenizer, VOCABULARY)


def read(
    text: str, form: Form = "hermes", prompt: str = "Hi", made: Replies | None = None, **chat: Any
) -> dict[str, Any]:
    """The message that a text is, to a chat whose prompt ends so."""
    made = made or replies(SHOWS[form])
    ids = TOKENIZER(prompt)["input_ids"]
    reader = made.reader(Work("job_1", CHAT | chat, {}, seed=1), ids, 0)
    assert reader is not None
    for char in text:
        reader.feed(char)
    reader.end()
    return reader.message


@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_read_in_the_form_that_the_template_shows(form: Form) -> None:
    reply = read(SPELLED[form], form)

    [call] = reply["tool_calls"]
    assert reply["content"] is None
    assert call["function"] == {"name": "weather", "arguments": ARGUMENTS}


def test_a_call_has_one_id_whichever_attempt_or_job_with_its_answer_makes_it() -> None:
    def ids(text: str, prompt: list[int], choice: int = 0, **fields: Any) -> list[str]:
        work = Work(**{"id": "a", "content": CHAT, "params": {}, "seed": 1} | fields)
        reader = replies().reader(work, prompt, choice)
        assert reader is not None
        reader.feed(text)
        return [call["id"] for call in reader.message["tool_calls"]]

    text = SPELLED["hermes"]
    found = ids(text * 2, [1, 2])

    assert len(set(found)) == 2
    assert ids(text * 2, [1, 2], id="b", seed=2) == found
    others = [ids(text, [1, 3]), ids(text, [1, 2], 1), ids(text, [1, 2], params={"temperature": 1})]
    assert len({found[0], *(one for [one] in others)}) == 4


def test_without_tools_nothing_is_a_call() -> None:
    text = SPELLED["hermes"]

    assert read(text, tools=None) == {"role": "assistant", "content": text}
    assert read(text, tool_choice="none") == {"role": "assistant", "content": text}


def test_thoughts_stand_apart_whoever_opens_their_tag() -> None:
    thought = {"role": "assistant", "content": "Yes.", "reasoning_content": "Is it?"}

    assert read("<think>\nIs it?\n</think>\n\nYes.") == thought
    assert read("Is it?\n</think>\n\nYes.", prompt="Hi<think>\n") == thought
    mistral = replies("[THINK]…[/THINK] [TOOL_CALLS]")
    assert read("Is it?[/THINK]Yes.", prompt="Hi[THINK]", made=mistral) == thought


def test_a_text_that_is_held_to_a_grammar_is_no_thought() -> None:
    """It has no room for the tag's end."""
    reply = read(SPELLED["hermes"], prompt="Hi<think>\n", tool_choice="required")

    assert len(reply["tool_calls"]) == 1
    assert "reasoning_content" not in reply


def test_a_chat_that_goes_on_with_a_message_has_none() -> None:
    work = Work("a", CHAT | {"continue_final_message": True}, {}, seed=1)

    assert replies().reader(work, [1], 0) is None
    assert replies().reader(Work("a", "a prompt", {}, seed=1), [1], 0) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("choice", ["required", "weather"])
def test_a_forced_call_is_one_that_can_be_read(form: Form, choice: str) -> None:
    named = {"type": "function", "function": {"name": choice}}
    chat = CHAT | {"tool_choice": "required" if choice == "required" else named}
    grammar = calls_grammar(chat, form)
    assert grammar is not None
    read_back = 0

    for seed in range(12):
        try:
            text = walk(grammar, seed, 250)
        except Unfinished:
            continue
        calls = read(text, form, **chat)["tool_calls"]
        read_back += 1
        for call in calls:
            if call["function"]["name"] == "weather":
                jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER)
        assert choice == "required" or [c["function"]["name"] for c in calls] == ["weather"]
    assert read_back >= 3


@pytest.mark.parametrize("shown", ["<｜tool▁calls▁begin｜>", "<|tool_calls_section_begin|>"])
def test_a_forced_call_can_be_read_where_the_own_form_has_no_grammar(shown: str) -> None:
    chat = CHAT | {"tool_choice": "required"}
    made = replies(shown)
    grammar = made.grammar(Work("a", chat, {}, seed=1))
    assert grammar is not None
    assert grammar["calls"]["form"] == "hermes"

    reply = read(SPELLED["hermes"], made=made, tool_choice="required")

    assert [call["function"]["name"] for call in reply["tool_calls"]] == ["weather"]
    assert read(SPELLED["hermes"], made=made)["content"] == SPELLED["hermes"]


def test_values_without_quotes_have_the_types_of_the_tool() -> None:
    given = "".join(
        f"<parameter={name}>\n{value}\n</parameter>\n"
        for name, value in (("city", "7"), ("days", "2"))
    )

    reply = read(f"<tool_call>\n<function=weather>\n{given}</function>\n</tool_call>")

    [call] = reply["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "7", "days": 2}


def test_a_single_call_is_made_where_calls_are_not_parallel() -> None:
    chat = CHAT | {
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "tools": CHAT["tools"][:1],
    }
    grammar = calls_grammar(chat, "hermes")
    assert grammar is not None

    texts = [walk(grammar, seed, 400) for seed in range(8)]

    assert all(text.count("<tool_call>") == 1 for text in texts)


def test_a_model_that_is_free_has_no_grammar() -> None:
    for choice in (None, "auto", "none"):
        assert calls_grammar(CHAT | {"tool_choice": choice}, "hermes") is None
    assert calls_grammar("a prompt", "hermes") is None


@pytest.mark.parametrize(
    ("chat", "keyword"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
    ],
)
def test_a_choice_without_its_tool_is_refused(chat: dict[str, Any], keyword: str) -> None:
    with pytest.raises(GrammarRefused) as caught:
        calls_grammar(CHAT | chat, "hermes")

    assert caught.value.keyword == keyword
    assert caught.value.errors[0]["loc"] == ["input", "tool_choice"]


def test_messages_of_harmony_are_told_apart() -> None:
    made = replies("… <|start|>assistant<|channel|> …")
    call = f"<|channel|>commentary to=functions.weather json<|message|>{ARGUMENTS}<|call|>"
    text = f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{call}"

    message = read(text, prompt="Hi<|start|>assistant", made=made)

    assert (message["reasoning_content"], message["content"]) == ("Hm.", None)
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": ARGUMENTS}


def test_a_call_that_must_be_made_needs_no_header() -> None:
    made = replies("… <|start|>assistant<|channel|> …")

    message = read(
        SPELLED["hermes"], prompt="Hi<|start|>assistant", made=made, tool_choice="required"
    )

    assert message["tool_calls"][0]["function"]["name"] == "weather"
