"""Chats as clients send them: what is taken at the door, and in which words the rest is refused."""

from typing import Any

import pytest

from shared.domain.errors import InputRefused, InvalidRequest
from shared.domain.models.catalog import Catalog, Limits, ModelSpec
from shared.domain.requests.chats import MAX_TEMPLATE_KWARGS_BYTES
from shared.domain.requests.parsing import parse_request

CATALOG = Catalog(
    {
        "gen": ModelSpec(
            name="gen",
            engine="vllm",
            path="/",
            limits=Limits(max_prompt_tokens=16, max_new_tokens=64),
        ),
        "emb": ModelSpec(name="emb", engine="embedding", path="/"),
        "own": ModelSpec(name="own", engine="pkg.mod:Class"),
    }
)
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gen", "input": {"messages": [*messages], **more}}


@pytest.mark.parametrize(
    "body",
    [
        chat({"role": "developer", "content": "be brief"}, USER),
        chat({"role": "user", "content": [{"type": "text", "text": "a"}]}),
        chat({"role": "user", "content": [{"type": "input_text", "text": "a"}] * 2}),
        chat(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, USER),
        chat(USER, {"role": "assistant", "tool_calls": [CALL]}, USER),
        chat(
            USER,
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0}]},
            {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "3"},
        ),
        # As OpenAI's client writes an answer back into the conversation.
        chat(
            USER,
            {
                "content": "hello",
                "refusal": None,
                "role": "assistant",
                "annotations": [],
                "audio": None,
                "function_call": None,
                "tool_calls": None,
            },
            {"role": "user", "content": "and?", "name": "ada"},
        ),
        chat(USER, tools=[TOOL], documents=[{"title": "t", "text": "x"}]),
        chat(USER, chat_template_kwargs={"enable_thinking": False, "deep": {"a": [1, None]}}),
        chat(USER, {"role": "assistant", "content": "The"}, continue_final_message=True),
        {"model": "gen", "prompt": [1, 2, 3]},
        {"model": "gen", "input": [0, 1.0]},
    ],
)
def test_taken(body: dict[str, Any]) -> None:
    assert parse_request(body, CATALOG).spec.name == "gen"


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        (
            chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}),
            "input.messages.0.content",
            "reads text alone; a part of type 'image_url'",
        ),
        (
            chat({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
            "input.messages.0.content",
            "reads text alone",
        ),
        (chat({"role": "user", "content": []}), "input.messages.0.content", "at least 1"),
        (chat({"role": "user", "content": 3}), "input.messages.0.content", "a string or a list"),
        (chat({"role": "user", "content": None}), "input.messages.0.content", "required"),
        (chat({"role": "assistant", "tool_calls": []}), "input.messages.0.content", "required"),
        (chat({"role": "robot", "content": "x"}), "input.messages.0.role", ""),
        (chat({**USER, "tool_calls": [CALL]}), "input.messages.0", "assistant"),
        (
            chat(USER, {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}),
            "input.messages.1.tool_calls.0.type",
            "",
        ),
        (chat(USER, tools=[{"type": "web_search"}]), "input.tools.0.type", ""),
        (chat(USER, tools=[TOOL] * 129), "input.tools", "128"),
        (chat(USER, chat_template_kwargs={"messages": []}), "input", "must not set messages"),
        (chat(USER, chat_template_kwargs={"tokenize": True}), "input", "must not set tokenize"),
        (chat(USER, chat_template_kwargs={"bos_token": "x"}), "input", "must not set bos_token"),
        (chat(USER, chat_template_kwargs={"__class__": 1}), "input", "letters"),
        (
            chat(USER, chat_template_kwargs={"x": "y" * MAX_TEMPLATE_KWARGS_BYTES}),
            "input",
            "bytes of JSON",
        ),
        (
            chat(USER, chat_template_kwargs={f"k{n}": 1 for n in range(33)}),
            "input.chat_template_kwargs",
            "",
        ),
        (
            chat(USER, {"role": "assistant", "tool_calls": [CALL]}, continue_final_message=True),
            "input",
            "continue_final_message",
        ),
        (chat(USER, template="x"), "input.template", ""),
        ({"model": "gen", "prompt": []}, "prompt", "at least 1"),
        ({"model": "gen", "prompt": ["a"]}, "prompt.0", "integer"),
        ({"model": "gen", "prompt": [True]}, "prompt.0", "integer"),
        ({"model": "gen", "prompt": [-1]}, "prompt.0", ""),
        ({"model": "gen", "prompt": [2**31]}, "prompt.0", ""),
        ({"model": "gen", "prompt": {"messages": [USER]}}, "prompt", "string or a list"),
        ({"model": "emb", "prompt": [1, 2]}, "prompt", "token ids"),
        ({"model": "own", "prompt": [1, 2]}, "prompt", "string"),
    ],
)
def test_refused_in_clear_words(body: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(body, CATALOG)
    first = refused.value.errors[0]
    assert ".".join(map(str, first["loc"])).startswith(place), first
    assert words in refused.value.detail


def test_more_token_ids_than_the_models_limit_are_a_prompt_that_is_too_long() -> None:
    parse_request({"model": "gen", "prompt": [1] * 16}, CATALOG)
    with pytest.raises(InputRefused) as refused:
        parse_request({"model": "gen", "prompt": [1] * 17}, CATALOG)
    assert refused.value.code == "prompt_too_long"


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"n": 0}, "params.n"),
        ({"n": 9}, "params.n"),
        ({"n": True}, "params.n"),
        ({"min_tokens": -1}, "params.min_tokens"),
        ({"min_tokens": 65}, "params.min_tokens"),
        ({"min_tokens": 5, "max_new_tokens": 4}, "params"),
        ({"ignore_eos": 1}, "params.ignore_eos"),
        ({"logit_bias": {"1": 100.5}}, "params.logit_bias"),
        ({"logit_bias": {"-1": 1}}, "params.logit_bias"),
        ({"logit_bias": {"01": 1}}, "params.logit_bias"),
        ({"logit_bias": {"cat": 1}}, "params.logit_bias"),
        ({"logit_bias": {str(2**31): 1}}, "params.logit_bias"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "params.logit_bias"),
        ({"logit_bias": [1]}, "params.logit_bias"),
        ({"bad_words": [""]}, "params.bad_words.0"),
        ({"bad_words": ["x"] * 65}, "params.bad_words"),
    ],
)
def test_params_of_sampling_are_bounded(params: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request({"model": "gen", "prompt": "a", "params": params}, CATALOG)
    assert ".".join(map(str, refused.value.errors[0]["loc"])).startswith(place)


def test_params_of_sampling_are_taken_as_clients_write_them() -> None:
    given = {
        "n": 8,
        "min_tokens": 64,
        "ignore_eos": True,
        "logit_bias": {"0": -100, "1734": 99.5},
        "bad_words": "no",
    }
    params = parse_request({"model": "gen", "prompt": "a", "params": given}, CATALOG).params
    assert params["logit_bias"] == {"0": -100.0, "1734": 99.5}
    assert params["bad_words"] == ["no"] and params["n"] == 8
