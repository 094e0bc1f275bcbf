"""An embedding request as the job that asks the same, and the job as a list of embeddings."""

from typing import Any

import pytest

from api.openai.calls import parsed
from api.openai.embeddings import MOST_INPUTS, EmbeddingRequest, embeddings, together
from shared.domain.errors import InvalidRequest
from shared.domain.requests.inputs import MAX_TEXTS


def asked(**members: Any) -> list[dict[str, Any]]:
    given = {"model": "encoder", "input": "a", **members}
    return list(EmbeddingRequest.model_validate(given).bodies())


def test_texts_and_their_options() -> None:
    assert asked() == [{"model": "encoder", "input": "a", "params": {}}]
    assert asked(input=["a", "b"], dimensions=64, encoding_format="base64", user="u") == [
        {
            "model": "encoder",
            "input": ["a", "b"],
            "params": {"dimensions": 64, "encoding": "base64"},
        }
    ]


def test_what_openai_does_not_have_is_passed_on() -> None:
    assert asked(task="query", prompt_name="q", truncate="left")[0]["params"] == {
        "task": "query",
        "prompt_name": "q",
        "truncate": "left",
    }
    assert asked(prompt="query: ", truncate=True)[0]["params"] == {
        "prompt": "query: ",
        "truncate": True,
    }


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_the_jobs_input(given: Any) -> None:
    assert asked(input=given) == [{"model": "encoder", "input": given, "params": {}}]


def test_what_one_job_does_not_hold_is_several() -> None:
    texts = [str(number) for number in range(MOST_INPUTS)]

    bodies = asked(input=texts)

    assert [len(body["input"]) for body in bodies] == [MAX_TEXTS] * (MOST_INPUTS // MAX_TEXTS)
    assert [text for body in bodies for text in body["input"]] == texts


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (["a"] * 700 + [1], ("input", 700)),
        ([], ("input",)),
        (["a"] * (MOST_INPUTS + 1), ("input",)),
        ({}, ("input",)),
        ([True], ("input", 0)),
    ],
)
def test_a_fault_is_shown_in_its_place(given: Any, place: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(EmbeddingRequest, {"model": "encoder", "input": given})

    assert refusal.value.errors[0]["loc"] == [*place]


def test_jobs_as_one() -> None:
    jobs = [
        {"model": "encoder", "output": {"embeddings": [[n], [n]]}, "usage": {"prompt_tokens": n}}
        for n in (1, 2)
    ]

    made = embeddings(together(jobs))

    assert [(one["index"], one["embedding"]) for one in made["data"]] == [
        (0, [1]),
        (1, [1]),
        (2, [2]),
        (3, [2]),
    ]
    assert made["usage"]["total_tokens"] == 3


def test_a_job_as_a_list() -> None:
    job = {
        "model": "encoder",
        "output": {"embeddings": [[0.5, 1.0], "AAAA"], "dimensions": 2},
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert embeddings(job) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": "AAAA"},
        ],
        "model": "encoder",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
