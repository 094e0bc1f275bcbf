"""`POST /v1/completions`: a text to be gone on with as a job, and the job as a completion."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api.openai.chat import choices
from api.openai.ids import created, named
from api.openai.sampling import IgnoredText, TextRequest, refused
from api.openai.usage import usage
from shared.domain.requests.inputs import TOKEN_IDS_SCHEMA
from shared.domain.schemas import Json

PREFIX = "cmpl-"
MAX_LOGPROBS = 5
MAX_PROMPTS = 64
"""Of one request: each is a job of its own."""


def _as_list(given: Any) -> Any:
    """The prompts: a text, or token ids, is a list of one."""
    if not isinstance(given, list) or not given or isinstance(given[0], int | float):
        given = [given]
    if len(given) > MAX_PROMPTS:
        raise PydanticCustomError(
            "too_long", "at most {most} prompts a request", {"most": MAX_PROMPTS}
        )
    return given


_PROMPT = {
    "anyOf": [
        {"type": "string"},
        TOKEN_IDS_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": TOKEN_IDS_SCHEMA},
    ]
}


class CompletionRequest(TextRequest):
    """The body of `POST /v1/completions`."""

    prompt: Annotated[Json, AfterValidator(_as_list), WithJsonSchema(_PROMPT)] = Field(
        description="A string, a list of strings, token ids, or a list of lists of them. A stream takes one."
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

    @model_validator(mode="after")
    def _one_a_stream(self) -> "CompletionRequest":
        if self.stream and len(self.prompts) > 1:
            raise ValueError("a stream goes on with one prompt: send a request for each")
        return self

    @property
    def prompts(self) -> list[Any]:
        """Texts, or lists of token ids."""
        found: Any = self.prompt
        return list(found)

    def body(self, given: Any, model: Mapping[str, Any]) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same of a prompt. `model`: see `TextRequest.params`."""
        params = self.params(model)
        if self.logprobs is not None:
            params |= {"logprobs": True, "top_logprobs": self.logprobs}
        return self.job_request(params=params, prompt=given)


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


def together(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Jobs that succeeded, one a prompt, as one: the texts of the first, then those of the second, …"""
    used = [job["usage"] or {} for job in jobs]
    counts = ("prompt_tokens", "completion_tokens", "cached_tokens")
    usage_of_all = {name: sum(one.get(name) or 0 for one in used) for name in counts}
    texts = [choice for job in jobs for choice in choices(job["output"])]
    return {**jobs[0], "output": {"choices": texts}, "usage": usage_of_all}


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
