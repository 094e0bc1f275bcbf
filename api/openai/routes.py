"""The routes of OpenAI's API that answer what was asked, and keep nothing.

Each call makes a job, or joins the one that its first try made.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from api.http import requests
from api.http.limits import RequestCharges
from api.http.operations import Answer, Operations
from api.http.parameters import SUBMISSION_PROBLEMS, TRACEPARENT
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.intake.submission import Submission
from api.openai import chat, completions, examples
from api.openai.calls import (
    DIALECT,
    ENDINGS,
    Asked,
    answer,
    parsed,
    require_engine,
    require_text,
    submission,
)
from api.openai.chat import ChatRequest
from api.openai.chunks import ChatChunks, CompletionChunks
from api.openai.completions import CompletionRequest
from api.openai.embeddings import EmbeddingRequest, embeddings, together
from api.openai.rerank import RerankRequest, ranking
from api.openai.schemas import ChatCompletion, Completion, Embeddings, Ranking
from api.state.limit_plan import Counted

openai = Operations("openai", __name__, dialect=DIALECT)


def _read_chat(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = parsed(ChatRequest, given)
    require_text(here, asked.model)
    body = asked.body(given, here.services.sampling_defaults.of(asked.model))
    form_of = lambda job_id: ChatChunks(  # noqa: E731
        chat.chunk_head(job_id, asked.model, asked.priority),
        asked.n or 1,
        tells_usage=asked.tells_usage,
        may_call=asked.may_call,
    )
    render = partial(chat.completion, priority=asked.priority)
    return Asked(submission(here, given, body), render, form_of if asked.stream else None)


def _read_completion(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = parsed(CompletionRequest, given)
    require_text(here, asked.model)
    defaults = here.services.sampling_defaults.of(asked.model)
    form_of = lambda job_id: CompletionChunks(  # noqa: E731
        completions.chunk_head(job_id, asked.model), asked.n or 1, tells_usage=asked.tells_usage
    )
    bodies = [asked.body(prompt, defaults) for prompt in asked.prompts]
    first, *further = _parts(here, given, bodies)
    return Asked(
        first,
        completions.completion,
        form_of if asked.stream else None,
        tuple(further),
        completions.together,
    )


def _parts(
    here: RequestContext, given: dict[str, Any], bodies: Sequence[dict[str, Any]]
) -> list[Submission]:
    """The jobs of a call, which are several where one cannot hold all that it asks."""
    parts = [None] if len(bodies) == 1 else range(len(bodies))
    return [submission(here, given, body, part) for part, body in zip(parts, bodies, strict=True)]


def _read_embeddings(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = parsed(EmbeddingRequest, given)
    require_engine(here, asked.model, "embedding")
    first, *further = _parts(here, given, list(asked.bodies()))
    return Asked(first, embeddings, None, tuple(further), together)


def _read_rerank(here: RequestContext) -> Asked:
    given = requests.json_object(here)
    asked = parsed(RerankRequest, given)
    require_engine(here, asked.model, "ranking")
    documents = asked.texts if asked.return_documents else None
    return Asked(submission(here, given, asked.body()), partial(ranking, documents=documents))


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
    return answer(here, asked, charges)


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
    return answer(here, asked, charges)


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
    return answer(here, asked, charges)


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
    return answer(here, asked, charges)
