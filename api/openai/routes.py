"""The routes of OpenAI's API. Each call makes a job, or joins the one that its first try made."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from api.http import requests
from api.http.answers import document
from api.http.errors import problem, to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import Answer, Dialect, Operations
from api.http.parameters import SUBMISSION_PROBLEMS, TRACEPARENT
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.http.requests import Sent, no_store
from api.http.sse.form import Form
from api.intake.acceptance import Rejected, submit
from api.intake.submission import Submission, submission_of
from api.openai import chat, completions, examples, retries
from api.openai.chat import ChatRequest
from api.openai.chunks import ChatChunks, CompletionChunks
from api.openai.completions import CompletionRequest
from api.openai.embeddings import EmbeddingRequest, embeddings
from api.openai.errors import status_of, to_openai, told
from api.openai.rerank import RerankRequest, ranking
from api.openai.schemas import ChatCompletion, Completion, Embeddings, OpenAIProblem, Ranking
from api.routes.infer import failure, stream_new
from api.state.limit_plan import Counted
from shared.domain.errors import UnknownModel
from shared.domain.params import ENGINES
from shared.domain.request_faults import invalid
from shared.domain.states import JobState
from shared.domain.wire import Wire

MOST_SECONDS = 290.0
"""For which an answer is held. node's fetch gives up after 300 without one."""
ENDINGS = (
    *("invalid_input", "poison_input", "output_too_large", "engine_error", "out_of_memory"),
    *("worker_crashed", "run_timeout", "job_canceled", "job_expired"),
    *("model_unavailable", "still_running"),
)
"""Why a call has no result, beside those why it makes no job."""
_DECODE = msgspec.json.Decoder().decode

openai = Operations("openai", __name__, dialect=Dialect(to_openai, told, status_of, OpenAIProblem))


class Asked(NamedTuple):
    """A call: its job, what renders a job that succeeded, and for a stream the form of a job's events."""

    submission: Submission
    render: Callable[[Mapping[str, Any]], dict[str, Any]]
    form_of: Callable[[str], Form] | None = None


def _read_chat(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = _parsed(ChatRequest, given)
    _require_text(here, asked.model)
    body = asked.body(given, here.services.sampling_defaults.of(asked.model))
    form_of = lambda job_id: ChatChunks(  # noqa: E731
        chat.chunk_head(job_id, asked.model, asked.priority),
        asked.n or 1,
        tells_usage=asked.tells_usage,
        may_call=asked.may_call,
    )
    render = partial(chat.completion, priority=asked.priority)
    return Asked(_submission(here, given, body), render, form_of if asked.stream else None)


def _read_completion(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = _parsed(CompletionRequest, given)
    _require_text(here, asked.model)
    body = asked.body(here.services.sampling_defaults.of(asked.model))
    form_of = lambda job_id: CompletionChunks(  # noqa: E731
        completions.chunk_head(job_id, asked.model), asked.n or 1, tells_usage=asked.tells_usage
    )
    submission = _submission(here, given, body)
    return Asked(submission, completions.completion, form_of if asked.stream else None)


def _read_embeddings(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = _parsed(EmbeddingRequest, given)
    _require(here, asked.model, "embedding")
    return Asked(_submission(here, given, asked.body()), embeddings)


def _read_rerank(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = _parsed(RerankRequest, given)
    _require(here, asked.model, "ranking")
    documents = asked.texts if asked.return_documents else None
    return Asked(_submission(here, given, asked.body()), partial(ranking, documents=documents))


@openai.operation(
    "POST",
    "/v1/chat/completions",
    counted=Counted.SUBMIT,
    reads=_read_chat,
    parameters=(TRACEPARENT,),
    body=ChatRequest,
    body_examples=examples.CHATS,
    answers={200: Answer("The answer of the model.", ChatCompletion, examples.CHAT_COMPLETION)},
    problems=(*SUBMISSION_PROBLEMS, *ENDINGS),
)
def chat_completions(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Answer a chat

    As OpenAI's: with `stream: true` the answer comes in chunks. The call is a job: what is not done within
    290 s goes on, and a retry of OpenAI's clients joins it.
    """
    return _answer(here, asked, charges)


@openai.operation(
    "POST",
    "/v1/completions",
    counted=Counted.SUBMIT,
    reads=_read_completion,
    parameters=(TRACEPARENT,),
    body=CompletionRequest,
    body_examples=examples.COMPLETIONS,
    answers={200: Answer("The text.", Completion, examples.COMPLETION)},
    problems=(*SUBMISSION_PROBLEMS, *ENDINGS),
)
def complete(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Go on with a text

    As OpenAI's: with `stream: true` the text comes in chunks.
    """
    return _answer(here, asked, charges)


@openai.operation(
    "POST",
    "/v1/embeddings",
    counted=Counted.SUBMIT,
    reads=_read_embeddings,
    parameters=(TRACEPARENT,),
    body=EmbeddingRequest,
    body_examples=examples.EMBEDDED,
    answers={200: Answer("A vector a text.", Embeddings, examples.EMBEDDINGS)},
    problems=(*SUBMISSION_PROBLEMS, *ENDINGS),
)
def embed(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Embed texts

    As OpenAI's: as floats, or in base64 of little-endian float32.
    """
    return _answer(here, asked, charges)


@openai.operation(
    "POST",
    "/v1/rerank",
    counted=Counted.SUBMIT,
    reads=_read_rerank,
    parameters=(TRACEPARENT,),
    body=RerankRequest,
    body_examples=examples.RERANKED,
    answers={200: Answer("The documents, the best first.", Ranking, examples.RANKING)},
    problems=(*SUBMISSION_PROBLEMS, *ENDINGS),
)
def rerank(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Rank documents

    As Cohere's and Jina's: by their relevance to a query.
    """
    return _answer(here, asked, charges)


def _answer(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    if asked.form_of is not None:
        # A reader is written down before its job is made; who is over the limit must not cost that.
        charges = charges.commit()
        if charges.refused is not None:
            return with_quota_status(to_problem(here, charges.refusal()), charges)
        return stream_new(here, asked.submission, charges, asked.form_of)
    accepted = submit(here, asked.submission, charges, MOST_SECONDS, urgent=True)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    record = accepted.record
    if not record.terminal:
        waits = "The job goes on. Send the same request again to wait for its end."
        reply = problem(here, "still_running", waits, job_id=record.id)
    elif record.state is not JobState.SUCCEEDED:
        reply = failure(here, accepted)
    else:
        reply = document(asked.render(_DECODE(record.to_json())))
    return with_quota_status(reply, accepted.charges)


def _submission(here: RequestContext, given: dict[str, Any], body: dict[str, Any]) -> Submission:
    """The job of a call. `given` is what was sent, `body` the same as a native request."""
    digest = retries.digest(given)
    key = retries.key(here.caller.key_id, here.environ["PATH_INFO"], digest)
    made = submission_of(here, Sent(key, no_store(here.environ), body), digest)
    joins = retries.is_retry(here.environ) and retries.joinable(
        here.services.store.named_by(key, here.caller.tenant)
    )
    return replace(made, job=replace(made.job, key_ttl=retries.KEY_TTL, takes_key=not joins))


Request = TypeVar("Request", bound=Wire)


def _parsed(request: type[Request], given: dict[str, Any]) -> Request:
    """The body of a call. Raises `InvalidRequest` with every fault found."""
    try:
        return request.model_validate(given)
    except ValidationError as error:
        raise invalid(error) from None


def _require_text(here: RequestContext, model: str) -> None:
    """Raises `UnknownModel` also for a model that writes no text."""
    kind = ENGINES.get(here.services.catalog.get(model).engine)
    if kind is None or not kind.generates_text:
        raise UnknownModel(
            f"The model {model!r} writes no text. GET /v1/models has the engine of each."
        )


def _require(here: RequestContext, model: str, engine: str) -> None:
    """Raises `UnknownModel` also for a model of another engine."""
    if here.services.catalog.get(model).engine != engine:
        raise UnknownModel(
            f"The model {model!r} does no {engine}. GET /v1/models has the engine of each."
        )
