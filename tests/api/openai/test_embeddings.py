"""An embedding request as the job that asks the same, and the job as a list of embeddings."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.openai.embeddings import EmbeddingRequest, embeddings


def asked(**members: Any) -> dict[str, Any]:
    return EmbeddingRequest.model_validate({"model": "encoder", "input": "a", **members}).body()


def test_texts_and_their_options() -> None:
    assert asked() == {"model": "encoder", "input": "a", "params": {}}
    assert asked(input=["a", "b"], dimensions=64, encoding_format="base64", user="u") == {
        "model": "encoder",
        "input": ["a", "b"],
        "params": {"dimensions": 64, "encoding": "base64"},
    }


@pytest.mark.parametrize("ids", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_refused_with_what_to_set_in_langchain(ids: Any) -> None:
    with pytest.raises(ValidationError, match="check_embedding_ctx_length=False"):
        asked(input=ids)


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
