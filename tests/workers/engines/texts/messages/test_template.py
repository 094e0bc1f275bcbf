"""Response templates of transformers: a family with tags and JSON, and one with a form of its own."""

from typing import Any

import pytest

from shared.domain.parts import Content, Message
from workers.engines.texts.messages.template import Template, TemplateReader

TAGGED: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"content": "text", "optional": False},
    },
}
LINES: dict[str, Any] = {
    "start_anchor": ["<start>", "<again>"],
    "fields": {
        "thinking": {"open": "<thought>\n", "close": "<end>"},
        "tool_calls": {
            "open_pattern": r"<call>(?P<name>\w+):",
            "close": "<end>",
            "repeats": True,
            "content": "kv-lines",
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        },
        "notes": {"open": "<note>", "close": "<end>"},
        "content": {"close": "<stop>"},
    },
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "look", "arguments": {"n": 1}}\n</tool_call>'


def reader(template: dict[str, Any], prompt: str, *, tools: bool = True) -> TemplateReader:
    names = {"look"} if tools else set()
    offered = TOOLS if tools else []
    return TemplateReader(Template(template), prompt, offered, names, lambda n: f"call_{n}")


def read(
    text: str, template: dict[str, Any] = TAGGED, prompt: str = "", size: int = 1, **options: Any
) -> dict[str, Any]:
    made, message = reader(template, prompt, **options), Message()
    for at in range(0, len(text), size):
        message.add(made.feed(text[at : at + size]))
    message.add(made.end())
    found = message.to_json()
    calls = [call["function"] for call in found.get("tool_calls", ())]
    return {
        "content": found["content"],
        "reasoning": found.get("reasoning_content"),
        "calls": [(call["name"], call["arguments"]) for call in calls],
    }


def said(content: str | None, reasoning: str | None = None, *calls: str) -> dict[str, Any]:
    found = [("look", arguments) for arguments in calls]
    return {"content": content, "reasoning": reasoning, "calls": found}


LOOK = '{"n":1}'
CASES: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    (TAGGED, "", "Yes.\n", said("Yes.")),
    (TAGGED, "", "<think>\nHm\n</think>\n\nYes.", said("Yes.", "Hm")),
    (TAGGED, "…<|im_start|>assistant\n<think>\n", "Hm</think>\n\nYes.", said("Yes.", "Hm")),
    (TAGGED, "<|im_start|>assistant\nno<|im_start|>assistant\n", "Yes", said("Yes")),
    # Where the anchor has been left behind nothing of the prompt is the answer's.
    (TAGGED, "<think> of a question", "Yes", said("Yes")),
    (TAGGED, "", f"See.\n{CALL}\n{CALL}", said("See.", None, LOOK, LOOK)),
    (TAGGED, "", f"{CALL} Done.", said("Done.", None, LOOK)),
    # What is cut off, broken or not offered is content.
    (TAGGED, "", CALL[:-15], said('{"name": "look", "arguments": {"n": 1')),
    (TAGGED, "", f"<tool_call>no</tool_call>{CALL}", said("no", None, LOOK)),
    (TAGGED, "", CALL.replace("look", "other"), said('{"name": "other", "arguments": {"n": 1}}')),
    (TAGGED, "", "See <tool", said("See <tool")),
    (LINES, "<start>", "<thought>\nHm<end>Yes<stop>", said("Yes", "Hm")),
    (LINES, "<start>", "<call>look:\nn: 1\n<end>", said(None, None, LOOK)),
    (LINES, "<start>", "<note>a<end>b", said("b")),
]


@pytest.mark.parametrize(("template", "prompt", "text", "expected"), CASES)
def test_a_text_is_read_as_its_template_says_however_it_is_cut(
    template: dict[str, Any], prompt: str, text: str, expected: dict[str, Any]
) -> None:
    assert [read(text, template, prompt, size) for size in (1, 3, 1000)] == [expected] * 3


def test_without_tools_a_call_is_content() -> None:
    assert read(CALL, tools=False)["calls"] == []


def test_content_is_told_as_it_comes() -> None:
    made = reader(TAGGED, "")

    assert made.feed("Yes, ") == [Content("Yes,")]
    assert made.feed("it <") == [Content(" it")]
    assert made.feed("is") == [Content(" <is")]


def test_special_tokens_of_a_template_are_known() -> None:
    assert Template(LINES).names("<end>")
    assert Template(TAGGED).names("</think>")
    assert not Template(LINES).names("<pad>")


@pytest.mark.parametrize("given", [{}, {"fields": {"content": {}}}, {"fields": 7}, {"version": 9}])
def test_what_is_no_template_is_refused(given: Any) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Template(given)
