"""The endpoints that a batch may ask: a line's body as a job, and the job's end as the body of its answer."""

from collections.abc import Callable, Mapping
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
from api.openai.responses import documents
from api.openai.responses.conversation import Responses
from api.openai.responses.request import ResponseRequest
from api.openai.sampling import TIERS
from shared.domain.errors import InvalidRequest
from shared.domain.requests.inputs import MAX_TEXTS
from shared.domain.schemas import Priority

PRIORITY: Priority = "low"
"""Of all jobs of batches: interactive work of the same tenant goes first."""


class LineJob(NamedTuple):
    """The body of a native job, and what is kept beside the job for its answer."""

    body: dict[str, Any]
    asked: bytes = b""


class Endpoint(NamedTuple):
    """`read` makes the job of a line's body, and raises `JobsError`; `render` makes the answer's body of a
    job that succeeded and of what was kept beside it. `keeps`: whether something is.
    """

    read: Callable[[RequestContext, dict[str, Any]], LineJob]
    render: Callable[[Mapping[str, Any], bytes], dict[str, Any]]
    keeps: bool = False


def _chat(here: RequestContext, given: dict[str, Any]) -> LineJob:
    asked = parsed(ChatRequest, given)
    _require_whole(asked.stream)
    require_text(here, asked.model)
    return LineJob(asked.body(given, here.services.sampling_defaults.of(asked.model)))


def _completion(here: RequestContext, given: dict[str, Any]) -> LineJob:
    asked = parsed(CompletionRequest, given)
    _require_whole(asked.stream)
    require_text(here, asked.model)
    if len(asked.prompts) > 1:
        raise _refused("prompt", "a line of a batch is one job", "must be one prompt in a batch")
    defaults = here.services.sampling_defaults.of(asked.model)
    return LineJob(asked.body(asked.prompts[0], defaults))


def _response(here: RequestContext, given: dict[str, Any]) -> LineJob:
    asked = parsed(ResponseRequest, given)
    _require_whole(asked.stream)
    require_text(here, asked.model)
    if asked.background:
        raise _refused("background", "a batch is in the background", "must be false in a batch")
    items = Responses(here.services.store, here.caller.tenant).conversation(asked)
    body = asked.body(items, here.services.sampling_defaults.of(asked.model))
    # The batch's file keeps it: its job is forgotten, and `GET /v1/responses/{id}` does not find it.
    told = {"store": False, "service_tier": TIERS[PRIORITY]}
    kept = documents.Asked(items, {**asked.echo(body["params"]), **told})
    return LineJob(body, kept.to_json())


def _rendered_response(job: Mapping[str, Any], kept: bytes) -> dict[str, Any]:
    if (asked := documents.asked_of(kept) if kept else None) is None:
        raise ValueError(f"of {job['id']} nothing is kept that a response could be made of")
    return documents.response(job, asked)


def _embeddings(here: RequestContext, given: dict[str, Any]) -> LineJob:
    asked = parsed(EmbeddingRequest, given)
    require_engine(here, asked.model, "embedding")
    bodies = list(asked.bodies())
    if len(bodies) > 1:
        raise _refused("input", "a line of a batch is one job", f"at most {MAX_TEXTS} in a batch")
    return LineJob(bodies[0])


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(_chat, lambda job, _: chat.completion(job, priority=PRIORITY)),
    "/v1/completions": Endpoint(_completion, lambda job, _: completions.completion(job)),
    "/v1/embeddings": Endpoint(_embeddings, lambda job, _: embeddings(job)),
    "/v1/responses": Endpoint(_response, _rendered_response, keeps=True),
}


def submission(
    here: RequestContext, endpoint: Endpoint, given: dict[str, Any], job_id: str, seconds: float
) -> Submission:
    """The job `job_id` of a line, which has so many seconds to end. Raises `JobsError`."""
    read = endpoint.read(here, given)
    made = submission_of(here, Sent(None, False, {**read.body, "priority": PRIORITY}), "")
    job = replace(made.job, id=job_id, expires_in=seconds, asked=read.asked)
    # Its tokens are charged to its tenant's share of the model, and not to limits of interactive requests.
    return replace(made, job=job, tokens=0)


def _require_whole(stream: bool) -> None:
    if stream:
        raise _refused("stream", "an answer of a batch is no stream", "must be false in a batch")


def _refused(member: str, why: str, must: str) -> InvalidRequest:
    fault = {"loc": [member], "msg": must, "type": "value_error"}
    return InvalidRequest(f"{member}: {why}", errors=[fault])
