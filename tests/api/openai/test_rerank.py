"""A rerank request as the job that asks the same, and the job as a ranking."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.openai.rerank import RerankRequest, ranking

ASKED = {"model": "ranker", "query": "q", "documents": ["a", {"text": "b"}]}


def test_documents_as_texts_and_as_objects() -> None:
    assert RerankRequest.model_validate({**ASKED, "top_n": 1}).body() == {
        "model": "ranker",
        "input": {"query": "q", "documents": ["a", "b"], "top_n": 1},
        "params": {"truncate": True},
    }


@pytest.mark.parametrize(
    "wrong", [{"documents": []}, {"top_n": 0}, {"documents": [{"title": "b"}]}, {"rank_fields": []}]
)
def test_refusals(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RerankRequest.model_validate({**ASKED, **wrong})


def test_a_job_as_a_ranking_with_and_without_its_documents() -> None:
    job = {
        "id": "job_" + "a" * 32,
        "model": "ranker",
        "output": {"results": [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]},
        "usage": {"prompt_tokens": 6},
    }
    plain, told = ranking(job), ranking(job, ["a", "b"])

    assert plain["results"] == [
        {"index": 1, "relevance_score": 0.9},
        {"index": 0, "relevance_score": 0.1},
    ]
    assert [row["document"] for row in told["results"]] == [{"text": "b"}, {"text": "a"}]
    assert plain["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
