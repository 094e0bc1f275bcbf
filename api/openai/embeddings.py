"""`POST /v1/embeddings`: texts as a job, and the job as a list of embeddings."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, WithJsonSchema, field_validator

from api.openai.sampling import IgnoredText
from shared.domain.requests.engine_params import Params
from shared.domain.requests.inputs import Texts
from shared.domain.schemas import Json

TOKENS = (
    "input is token ids, which say nothing without their tokenizer, and OpenAI's are not this model's. "
    "Send texts; in LangChain set check_embedding_ctx_length=False"
)


_TEXTS = TypeAdapter(str | Texts).json_schema()


class EmbeddingRequest(Params):
    """The body of `POST /v1/embeddings`."""

    model: str = Field(min_length=1, max_length=128, description="A name from `GET /v1/models`.")
    input: Annotated[Json, WithJsonSchema(_TEXTS)] = Field(
        description="A text, or a list of texts."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    user: IgnoredText = None

    @field_validator("input")
    @classmethod
    def _texts(cls, given: Any) -> Any:
        first = given[0] if isinstance(given, list) and given else ""
        if isinstance(first, int) or (
            isinstance(first, list) and first and isinstance(first[0], int)
        ):
            raise ValueError(TOKENS)
        return given

    def body(self) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same."""
        params: dict[str, Any] = {"dimensions": self.dimensions} if self.dimensions else {}
        if self.encoding_format == "base64":
            params["encoding"] = "base64"
        return {"model": self.model, "input": self.input, "params": params}


def embeddings(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job that succeeded as a list of embeddings."""
    used = job["usage"] or {}
    tokens = used.get("prompt_tokens") or 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(job["output"]["embeddings"])
        ],
        "model": job["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
