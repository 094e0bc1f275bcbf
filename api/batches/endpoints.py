"""The endpoints that a batch may ask: a line's body as a job, and the job's end as the body of its answer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from api.http.request_context import RequestContext
from api.http.requests import Sent
from api.intake.submission import Submission, submission_of
from api.openai import chat, completions
from api.openai.calls import parsed, require_engine, require_text
from api.openai.chat import ChatRequest
from api.openai.completions import CompletionRequest
from api.openai.embeddings import EmbeddingRequest, embeddings
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import Priority

PRIORITY: Priority = "low"
"""Of all jobs of batches: interactive work of the same tenant goes first."""


class Endpoint(NamedTuple):
    """`read` makes the body of a native job of a line's body, and raises `JobsError`; `render` makes the
    answer's body of a job that succeeded.
    """

    read: Callable[[RequestContext, dict[str, Any]], dict[str, Any]]
    render: Callable[[Mapping[str, Any]], dict[str, Any]]


def _chat(here: RequestContext, given: dict[str, Any]) -> dict[str, Any]:
    asked = parsed(ChatRequest, given)
    _require_whole(asked.stream)
    require_text(here, asked.model)
    return asked.body(given, here.services.sampling_defaults.of(asked.model))


def _completion(here: RequestContext, given: dict[str, Any]) -> dict[str, Any]:
    asked = parsed(CompletionRequest, given)
    _require_whole(asked.stream)
    require_text(here, asked.model)
    if len(asked.prompts) > 1:
        raise _refused("prompt", "a line of a batch is one job", "must be one prompt in a batch")
    return asked.body(asked.prompts[0], here.services.sampling_defaults.of(asked.model))


def _embeddings(here: RequestContext, given: dict[str, Any]) -> dict[str, Any]:
    asked = parsed(EmbeddingRequest, given)
    require_engine(here, asked.model, "embedding")
    return asked.body()


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(_chat, partial(chat.completion, priority=PRIORITY)),
    "/v1/completions": Endpoint(_completion, completions.completion),
    "/v1/embeddings": Endpoint(_embeddings, embeddings),
}


def submission(
    here: RequestContext, endpoint: Endpoint, given: dict[str, Any], job_id: str, seconds: float
) -> Submission:
    """The job `job_id` of a line, which has so many seconds to end. Raises `JobsError`."""
    body = {**endpoint.read(here, given), "priority": PRIORITY}
    made = submission_of(here, Sent(None, False, body), "")
    job = replace(made.job, id=job_id, expires_in=seconds)
    # Its tokens are charged to its tenant's share of the model, and not to limits of interactive requests.
    return replace(made, job=job, tokens=0)


def _require_whole(stream: bool) -> None:
    if stream:
        raise _refused("stream", "an answer of a batch is no stream", "must be false in a batch")


def _refused(member: str, why: str, must: str) -> InvalidRequest:
    fault = {"loc": [member], "msg": must, "type": "value_error"}
    return InvalidRequest(f"{member}: {why}", errors=[fault])
