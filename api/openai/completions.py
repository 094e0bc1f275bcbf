"""`POST /v1/completions`: a text to be gone on with as a job, and the job as a completion."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.openai.chat import choices
from api.openai.ids import created, named
from api.openai.sampling import IgnoredText, TextRequest, refused
from api.openai.usage import usage
from shared.domain.inputs import TOKEN_IDS_SCHEMA
from shared.domain.schemas import Json

PREFIX = "cmpl-"
MAX_LOGPROBS = 5


def _one_prompt(given: Any) -> Any:
    """A text or token ids, which may stand in a list of one."""
    while isinstance(given, list) and given and not isinstance(given[0], int | float):
        if len(given) > 1:
            raise PydanticCustomError(
                "one_prompt", "send one prompt a request, so that each has its own retry"
            )
        (given,) = given
    return given


_PROMPT = {
    "anyOf": [
        {"type": "string"},
        TOKEN_IDS_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "maxItems": 1, "items": TOKEN_IDS_SCHEMA},
    ]
}


class CompletionRequest(TextRequest):
    """The body of `POST /v1/completions`."""

    prompt: Annotated[Json, AfterValidator(_one_prompt), WithJsonSchema(_PROMPT)] = Field(
        description="A string, a list of one string, token ids, or a list of one list of them."
    )
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(
        default=None, ge=1, le=1, description="This server does not rank texts: see n."
    )
    echo: Literal[False] | None = Field(
        default=None, description="Put the prompt before the text yourself."
    )
    suffix: refused("the models here do not fill in") = None  # type: ignore[valid-type]
    prompt_cache_key: IgnoredText = None
    safety_identifier: IgnoredText = None

    def body(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `model`: see `TextRequest.params`."""
        given = self.prompt
        params = self.params(model)
        if self.logprobs is not None:
            params |= {"logprobs": True, "top_logprobs": self.logprobs}
        name = "prompt" if isinstance(given, str) else "input"
        return self.job_request(params=params, **{name: given})


def completion(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job that succeeded as a completion."""
    return {
        **chunk_head(job["id"], job["model"]),
        "choices": [
            {
                "index": index,
                "text": choice["text"],
                "logprobs": logprobs(choice),
                "finish_reason": finish_reason(choice),
            }
            for index, choice in enumerate(choices(job["output"]))
        ],
        "usage": usage(job["usage"] or {}),
    }


def chunk_head(job_id: str, model: str) -> dict[str, Any]:
    """The members of a completion, and of every chunk of its stream."""
    return {
        "id": named(PREFIX, job_id),
        "object": "text_completion",
        "created": created(job_id),
        "model": model,
        "system_fingerprint": None,
    }


def finish_reason(choice: Mapping[str, Any]) -> str:
    """Why a choice has ended: it had no more room, or came to its end."""
    return "length" if choice["finish_reason"] == "length" else "stop"


def logprobs(choice: Mapping[str, Any], offset: int = 0) -> dict[str, Any] | None:
    """The log-probabilities of a choice's tokens; `offset` is where the first one begins, in characters."""
    rows = choice.get("logprobs")
    if rows is None:
        return None
    offsets = []
    for row in rows:
        offsets.append(offset)
        offset += len(row["token"])
    return {
        "tokens": [row["token"] for row in rows],
        "token_logprobs": [row["logprob"] for row in rows],
        "top_logprobs": [{one["token"]: one["logprob"] for one in row["top"]} for row in rows],
        "text_offset": offsets,
    }
