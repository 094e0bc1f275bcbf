"""A completion request as the job that asks the same, and the job as a completion."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.openai.completions import CompletionRequest, completion


def asked(**members: Any) -> dict[str, Any]:
    given = {"model": "llama", "prompt": "Once", "temperature": 0, **members}
    request = CompletionRequest.model_validate(given)
    return request.body(request.prompts[0], {})


@pytest.mark.parametrize(
    ("prompt", "native"),
    [
        ("Once", {"prompt": "Once"}),
        (["Once"], {"prompt": "Once"}),
        ([1, 2], {"prompt": [1, 2]}),
        ([[1, 2]], {"prompt": [1, 2]}),
    ],
)
def test_a_prompt_in_each_of_its_forms(prompt: Any, native: dict[str, Any]) -> None:
    body = asked(prompt=prompt)

    assert {name: body[name] for name in ("prompt", "input") if name in body} == native


def test_logprobs_are_a_number_of_alternatives() -> None:
    assert asked(logprobs=0)["params"]["logprobs"] is True
    assert asked(logprobs=5)["params"]["top_logprobs"] == 5
    assert "logprobs" not in asked()["params"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": ["a", "b"], "stream": True}, "one prompt"),
        ({"prompt": ["a"] * 65}, "64 prompts"),
        ({"logprobs": 6}, "logprobs"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_done_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        asked(**given)
    assert words in str(refused.value)


def test_a_job_as_a_completion() -> None:
    top = [{"token": " a", "token_id": 1, "logprob": -0.5}]
    rows = [
        {"token": " a", "token_id": 1, "logprob": -0.5, "top": top},
        {"token": " time", "token_id": 2, "logprob": -0.7, "top": []},
    ]
    job = {
        "id": f"job_{3_000:012x}" + "b" * 20,
        "model": "llama",
        "output": {"text": " a time", "finish_reason": "length", "logprobs": rows},
        "usage": None,
    }
    said = completion(job)

    assert (said["id"], said["object"], said["created"]) == (
        f"cmpl-{3_000:012x}" + "b" * 20,
        "text_completion",
        3,
    )
    assert said["choices"] == [
        {
            "index": 0,
            "text": " a time",
            "logprobs": {
                "tokens": [" a", " time"],
                "token_logprobs": [-0.5, -0.7],
                "top_logprobs": [{" a": -0.5}, {}],
                "text_offset": [0, 2],
            },
            "finish_reason": "length",
        }
    ]
