"""`POST /v1/completions`: a text to be gone on with as a job, and the job as a completion."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from api.openai.chat import choices
from api.openai.ids import created, named
from api.openai.sampling import Ignored, TextRequest
from api.openai.usage import usage
from shared.domain.schemas import Json

PREFIX = "cmpl-"
MAX_LOGPROBS = 5


class CompletionRequest(TextRequest):
    """The body of `POST /v1/completions`."""

    prompt: Json = Field(
        description="A string, a list of one string, token ids, or a list of one list of them."
    )
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(default=None, ge=1)
    echo: bool = False
    suffix: str | None = None
    prompt_cache_key: Ignored = None
    safety_identifier: Ignored = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> "CompletionRequest":
        if self.echo:
            raise ValueError("echo cannot be used: put the prompt before the text yourself")
        if self.suffix:
            raise ValueError("suffix cannot be used: the models here do not fill in")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of must be n: this server does not rank texts")
        if isinstance(self.prompt, list) and len(self.prompt) > 1 and not _ids(self.prompt):
            raise ValueError(
                "send one prompt a request, so that each has its own stream and its own retry"
            )
        return self

    def body(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `model`: see `TextRequest.params`."""
        given = self.prompt
        if isinstance(given, list) and given and not _ids(given):
            (given,) = given
        params = self.params(model)
        if self.logprobs is not None:
            params |= {"logprobs": True, "top_logprobs": self.logprobs}
        name = "prompt" if isinstance(given, str) else "input"
        return self.job_request(params=params, **{name: given})


def _ids(given: Sequence[Any]) -> bool:
    return bool(given) and isinstance(given[0], int)


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
