"""A chat request as the job that asks the same, and the job as a chat completion."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.openai.calls import parsed
from api.openai.chat import ChatRequest, completion
from api.openai.sampling import DEFAULTS
from shared.domain.errors import InvalidRequest

JSON = {"type": "json_object"}
CALLED = {"name": "weather", "arguments": "{}"}
MESSAGES = [{"role": "user", "content": "Hello"}]
ID = f"{1_764_500_000_123:012x}" + "a" * 20
"""Of a job whose id was made at that millisecond."""
JOB = {
    "id": "job_" + ID,
    "model": "llama",
    "status": "succeeded",
    "output": {"text": "Hi there", "finish_reason": "stop"},
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 4},
}


def asked(**members: Any) -> dict[str, Any]:
    """The job request that a chat request becomes, for a model that says nothing of sampling."""
    given = {"model": "llama", "messages": MESSAGES, **members}
    return ChatRequest.model_validate(given).body(given, {})


def test_a_plain_chat_becomes_a_job_with_openais_defaults() -> None:
    assert asked() == {
        "model": "llama",
        "priority": "normal",
        "input": {"messages": MESSAGES},
        "params": dict(DEFAULTS),
    }


def test_messages_and_tools_go_to_the_template_as_they_came() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": CALLED}]},
    ]
    tools = [{"type": "function", "function": {"name": "weather"}}]

    assert asked(messages=messages, tools=tools)["input"] == {"messages": messages, "tools": tools}
    free = asked(messages=messages, tools=tools, tool_choice="none", parallel_tool_calls=False)
    assert free["input"]["tool_choice"] == "none"
    assert free["input"]["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("given", "native"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"max_tokens": 5}, {"max_new_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_new_tokens": 6}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -7}, {}),
        ({"n": 3}, {"n": 3}),
        ({"logit_bias": {"12": -100}}, {"logit_bias": {"12": -100.0}}),
        ({"logprobs": True}, {"logprobs": True, "top_logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_k": 40, "min_p": 0.1}, {"top_k": 40, "min_p": 0.1}),
        ({"response_format": JSON}, {"response_format": JSON}),
    ],
)
def test_params_by_their_native_names(given: dict[str, Any], native: dict[str, Any]) -> None:
    assert asked(**given)["params"] == {**DEFAULTS, **native}


def test_the_models_own_sampling_comes_before_openais_and_behind_the_requests() -> None:
    request = ChatRequest.model_validate({"model": "m", "messages": MESSAGES, "top_p": 0.5})
    own = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_length": 20, "min_p": None}

    assert request.params(own) == {"temperature": 0.6, "top_p": 0.5, "top_k": 20}


@pytest.mark.parametrize(
    ("tier", "priority"),
    [("auto", "normal"), ("flex", "low"), ("priority", "high"), ("fast", "high"), (None, "normal")],
)
def test_the_service_tier_is_the_priority(tier: str | None, priority: str) -> None:
    assert asked(service_tier=tier)["priority"] == priority


def test_allowed_tools_are_those_that_are_offered() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    named = [{"type": "function", "function": {"name": "g"}}]

    def choice(mode: str, tools: Any) -> Any:
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    made = asked(tools=tools, tool_choice=choice("required", named))["input"]

    assert (made["tools"], made["tool_choice"]) == (tools[1:], "required")
    with pytest.raises(InvalidRequest, match="'h', which is none of the tools"):
        asked(
            tools=tools,
            tool_choice=choice("auto", [{"type": "function", "function": {"name": "h"}}]),
        )


@pytest.mark.parametrize(
    ("members", "param"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            ["messages", 0, "content", 0],
        ),
        ({"messages": [{"role": "user", "content": 5}]}, ["messages", 0, "content"]),
        ({"tool_choice": "any"}, ["tool_choice"]),
        ({"tool_choice": {"type": "function"}}, ["tool_choice", "function"]),
        ({"tool_choice": {"type": "custom"}}, ["tool_choice"]),
        ({"tool_choice": 5}, ["tool_choice"]),
    ],
)
def test_a_fault_is_shown_in_its_place(members: dict[str, Any], param: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(ChatRequest, {"model": "m", "messages": MESSAGES, **members})

    assert refusal.value.errors[0]["loc"] == param


def test_reasoning_effort_is_told_to_the_template() -> None:
    assert asked(reasoning_effort="low")["input"]["chat_template_kwargs"] == {
        "reasoning_effort": "low"
    }
    assert asked(reasoning_effort="none")["input"]["chat_template_kwargs"] == {
        "enable_thinking": False
    }


@pytest.mark.parametrize(
    "ignored",
    [
        *({"user": "u"}, {"store": True}, {"safety_identifier": "s"}, {"prompt_cache_key": "k"}),
        *({"verbosity": "low"}, {"prediction": {"type": "content", "content": "x"}}),
        {"metadata": None},
    ],
)
def test_what_cannot_mean_anything_here_is_left_out(ignored: dict[str, Any]) -> None:
    assert asked(**ignored) == asked()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"audio": {"voice": "x"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"web_search_options": {}}, "searches"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"temprature": 1}, "temprature"),
        ({"tool_choice": "any"}, "tool_choice"),
    ],
)
def test_what_would_change_the_meaning_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        asked(**given)
    assert words in str(refused.value)


def test_a_job_as_a_completion() -> None:
    assert completion(JOB, "high") == {
        "id": "chatcmpl-" + ID,
        "object": "chat.completion",
        "created": 1_764_500_000,
        "model": "llama",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "service_tier": "priority",
        "system_fingerprint": None,
    }


def test_choices_reasoning_and_calls() -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    output = {
        "text": "a",
        "finish_reason": "length",
        "choices": [
            {"index": 0, "text": "a", "finish_reason": "length"},
            {
                "index": 1,
                "text": "b",
                "finish_reason": "stop",
                "message": {"content": None, "reasoning_content": "hm", "tool_calls": calls},
            },
        ],
    }
    first, second = completion({**JOB, "output": output}, "normal")["choices"]

    assert (first["message"]["content"], first["finish_reason"]) == ("a", "length")
    assert second["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": calls,
        "reasoning_content": "hm",
    }
    assert (second["index"], second["finish_reason"]) == (1, "tool_calls")


def test_logprobs_have_bytes_and_alternatives() -> None:
    top = [{"token": "é", "token_id": 5, "logprob": -0.1}]
    rows = [{"token": "é", "token_id": 5, "logprob": -0.1, "top": top}]
    job = {**JOB, "output": {**JOB["output"], "logprobs": rows}}
    token = {"token": "é", "bytes": [0xC3, 0xA9], "logprob": -0.1}

    assert completion(job, "normal")["choices"][0]["logprobs"] == {
        "content": [{**token, "top_logprobs": [token]}],
        "refusal": None,
    }


def test_a_part_of_a_character_has_its_own_bytes() -> None:
    rows = [{"token": "\ufffd", "token_id": 5, "bytes": [0xC3], "logprob": -0.1, "top": []}]
    job = {**JOB, "output": {**JOB["output"], "logprobs": rows}}

    told = completion(job, "normal")["choices"][0]["logprobs"]["content"]

    assert told == [{"token": "\ufffd", "bytes": [0xC3], "logprob": -0.1, "top_logprobs": []}]
