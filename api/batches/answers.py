"""The lines of a batch's output: what each request was answered."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from api.batches.endpoints import Endpoint
from api.http.errors import to_problem
from api.http.request_context import RequestContext
from api.openai.errors import FINAL_STATUS, error, status_of, to_openai
from shared.domain.errors import PROBLEMS
from shared.domain.records import Record
from shared.domain.states import JobState

EXPIRED = ("batch_expired", "The batch expired before this request was answered.")
CANCELLED = ("batch_cancelled", "The batch was cancelled before this request was answered.")
BROKEN = "The server has logged what happened under this request id."
_log = logging.getLogger(__name__)
_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode


class AnswerLine(NamedTuple):
    """A line in JSON, with its end; `good`: of the output file, else of the error file."""

    data: bytes
    good: bool


def answered(custom_id: str, request_id: str, status: int, body: Any, job_id: str) -> AnswerLine:
    """The line of a request that has an answer, be it a refusal."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return _line(custom_id, job_id, response, None, good=status < 400)


def unanswered(custom_id: str, job_id: str, why: tuple[str, str]) -> AnswerLine:
    """The line of a request that nobody has answered."""
    code, message = why
    return _line(custom_id, job_id, None, {"code": code, "message": message}, good=False)


def of_refusal(here: RequestContext, custom_id: str, job_id: str, refusal: Exception) -> AnswerLine:
    """The line of a request that makes no job. It raises nothing, or its batch would never end."""
    try:
        reply = to_openai(to_problem(here, refusal))
        status, told = reply.status_code, _DECODE(reply.body)["error"]
    except Exception:  # noqa: BLE001 - a bug in the telling is told as one
        _log.exception("request %s: the answer to %r broke", here.request_id, refusal)
        status, told = 500, error("internal_error", BROKEN, 500)
    return answered(custom_id, here.request_id, status, {"error": told}, job_id)


def of_job(
    endpoint: Endpoint, custom_id: str, request_id: str, record: Record, asked: bytes, ending: str
) -> AnswerLine:
    """The line of a job that has ended.

    `asked` is what was kept beside it; `ending`: how its batch ends, where that is what ended it.
    """
    match record.state:
        case JobState.SUCCEEDED:
            body = endpoint.render(_DECODE(record.to_json()), asked)
            return answered(custom_id, request_id, 200, body, record.id)
        case JobState.EXPIRED:
            return unanswered(custom_id, record.id, EXPIRED)
        case JobState.CANCELED if ending == "cancelled":
            return unanswered(custom_id, record.id, CANCELLED)
        case JobState.CANCELED if ending == "expired":
            return unanswered(custom_id, record.id, EXPIRED)
    told: Mapping[str, Any] = _DECODE(record.fields.get("error") or "{}")
    code = told.get("code") or "job_canceled"
    status = status_of(code) if code in PROBLEMS else FINAL_STATUS
    body = {"error": error(code, told.get("message") or "The job was canceled.", status)}
    return answered(custom_id, request_id, status, body, record.id)


def _line(custom_id: str, job_id: str, response: Any, fault: Any, *, good: bool) -> AnswerLine:
    told = {
        "id": f"batch_req_{job_id.removeprefix('job_')}",
        "custom_id": custom_id,
        "response": response,
        "error": fault,
    }
    return AnswerLine(_ENCODE(told) + b"\n", good)
