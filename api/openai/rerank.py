"""`POST /v1/rerank`, in the form of Cohere's and Jina's: documents by their relevance to a query."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from api.openai.ids import named
from shared.domain.requests.engine_params import Params
from shared.domain.requests.inputs import MAX_DOCUMENTS
from shared.domain.wire import Wire

PREFIX = "rerank-"


class TextDocument(Wire):
    """A document that is given as an object with its text, as some clients do."""

    text: str


Document = str | TextDocument


class RerankRequest(Params):
    """The body of `POST /v1/rerank`. A document that is too long is cut, as others' servers do."""

    model: str = Field(min_length=1, max_length=128, description="A name from `GET /v1/models`.")
    query: str
    documents: Annotated[list[Document], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How many of the best are told; all if left out.",
    )
    return_documents: bool = Field(default=False, description="Tells each document as well.")

    @property
    def texts(self) -> list[str]:
        return [one if isinstance(one, str) else one.text for one in self.documents]

    def body(self) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same."""
        candidates: dict[str, Any] = {"query": self.query, "documents": self.texts}
        if self.top_n is not None:
            candidates["top_n"] = self.top_n
        return {"model": self.model, "input": candidates, "params": {"truncate": True}}


def ranking(job: Mapping[str, Any], documents: Sequence[str] | None = None) -> dict[str, Any]:
    """A job that succeeded as a ranking; with `documents` each result has its own."""
    used = job["usage"] or {}
    results = [
        {
            "index": row["index"],
            "relevance_score": row["score"],
            **({"document": {"text": documents[row["index"]]}} if documents is not None else {}),
        }
        for row in job["output"]["results"]
    ]
    tokens = used.get("prompt_tokens") or 0
    return {
        "id": named(PREFIX, job["id"]),
        "model": job["model"],
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
