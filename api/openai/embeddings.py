"""`POST /v1/embeddings`: texts as jobs, and the jobs as a list of embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, WithJsonSchema

from api.openai.sampling import IgnoredText
from shared.domain.requests.engine_params import Name, TextParams
from shared.domain.requests.inputs import MAX_TEXTS, items_to_embed, to_embed
from shared.domain.schemas import Json

MOST_INPUTS = 2048
"""Of a request, as of OpenAI's. What is more than one job takes is several."""
PASSED_ON = ("dimensions", "prompt", "prompt_name", "task")

_INPUT: TypeAdapter[Any] = TypeAdapter(to_embed(MOST_INPUTS))


class EmbeddingRequest(TextParams):
    """The body of `POST /v1/embeddings`. `prompt`, `prompt_name`, `task` and `truncate` are not OpenAI's:
    they are the native params, and clients send them as `extra_body`.
    """

    model: str = Field(min_length=1, max_length=128, description="A name from `GET /v1/models`.")
    input: Annotated[
        Json, AfterValidator(_INPUT.validate_python), WithJsonSchema(_INPUT.json_schema())
    ] = Field(
        description="A text, or a list of texts; token ids where the model's entry takes them."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    task: Name | None = None
    user: IgnoredText = None

    def bodies(self) -> Iterator[dict[str, Any]]:
        """The bodies of `POST /v1/jobs` that ask the same, in order."""
        params = {name: value for name in PASSED_ON if (value := getattr(self, name)) is not None}
        if self.encoding_format == "base64":
            params["encoding"] = "base64"
        if self.truncate:
            params["truncate"] = self.truncate
        items = items_to_embed(self.input)
        for start in range(0, len(items), MAX_TEXTS):
            one = len(items) <= MAX_TEXTS
            given = self.input if one else items[start : start + MAX_TEXTS]
            yield {"model": self.model, "input": given, "params": params}


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


def together(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Jobs that succeeded as one: the vectors of the first, then those of the second, …"""
    tokens = sum((job["usage"] or {}).get("prompt_tokens") or 0 for job in jobs)
    vectors = [vector for job in jobs for vector in job["output"]["embeddings"]]
    return {**jobs[0], "output": {"embeddings": vectors}, "usage": {"prompt_tokens": tokens}}
