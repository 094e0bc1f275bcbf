import json
from typing import Any

import jsonschema
import pytest

from shared.grammars.calls import Form, calls_grammar
from shared.grammars.refusal import GrammarRefused
from tests.shared.grammars.walks import Unfinished, walk
from workers.engines.texts.replies import form_of, message

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


def read(
    text: str, form: Form = "hermes", *, thinking: bool = False, **chat: Any
) -> dict[str, Any]:
    return message(text, CHAT | chat, form, job="job_1", choice=0, thinking=thinking)


@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_read_in_each_form(form: Form) -> None:
    reply = read(SPELLED[form], form)

    [call] = reply["tool_calls"]
    assert reply["content"] is None
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == json.loads(ARGUMENTS)
    assert call["id"] == read(SPELLED[form], form)["tool_calls"][0]["id"]


def test_words_around_calls_stay_and_calls_keep_their_order() -> None:
    now = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'

    reply = read(f"Let me see.\n{SPELLED['hermes']}\n{now}")

    assert reply["content"] == "Let me see."
    assert [call["function"]["name"] for call in reply["tool_calls"]] == ["weather", "now"]
    assert len({call["id"] for call in reply["tool_calls"]}) == 2


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (SPELLED["hermes"][:-5], "hermes"),
        ("<tool_call>\nno JSON\n</tool_call>", "hermes"),
        ('<tool_call>{"name": "other", "arguments": {}}</tool_call>', "hermes"),
        ('<tool_call>{"name": "now", "arguments": 7}</tool_call>', "hermes"),
        (SPELLED["llama"][:-1], "llama"),
        ('{"weather": "fine"}', "llama"),
        (SPELLED["mistral"][:-1], "mistral"),
        ("Fine weather.", "hermes"),
    ],
)
def test_what_is_no_whole_call_of_an_offered_tool_is_content(text: str, form: Form) -> None:
    assert read(text, form) == {"role": "assistant", "content": text}


def test_without_tools_nothing_is_a_call() -> None:
    text = SPELLED["hermes"]

    assert read(text, tools=None) == {"role": "assistant", "content": text}
    assert read(text, tool_choice="none") == {"role": "assistant", "content": text}


def test_thoughts_stand_apart() -> None:
    thought = {"role": "assistant", "content": "Yes.", "reasoning_content": "Is it?"}

    assert read("<think>\nIs it?\n</think>\n\nYes.") == thought
    assert read("Is it?\n</think>\n\nYes.", thinking=True) == thought
    assert read("Is it", thinking=True)["reasoning_content"] == "Is it"
    assert read("Is it", thinking=True)["content"] == ""


def test_a_template_tells_the_form() -> None:
    assert form_of("… <tool_call> …") == "hermes"
    assert form_of("… [TOOL_CALLS] …") == "mistral"
    assert form_of('… {"name": …, "parameters": …} …') == "llama"
    assert form_of(None) == "hermes"


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
        calls = message(text, chat, form, job="j", choice=0, thinking=False)["tool_calls"]
        read_back += 1
        for call in calls:
            if call["function"]["name"] == "weather":
                jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER)
        assert choice == "required" or [c["function"]["name"] for c in calls] == ["weather"]
    assert read_back >= 3


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
