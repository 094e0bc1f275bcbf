"""Every error leaves as an RFC 9457 problem document, named by the one table in shared/domain/errors.py."""

import logging
from typing import Any

import msgspec
from flask import Flask, request
from pydantic import BaseModel, Field
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.http.reply import Reply, in_flask
from api.http.request_context import RequestContext, of
from shared.domain.errors import PROBLEMS, InvalidRequest, JobsError, TryLater

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {
    "redis_unavailable": 2,
    "model_unavailable": 5,
    "queue_full": 5,
    "tenant_queue_full": 5,
    "grammars_busy": 2,
    "deadline_unreachable": 5,
    "rate_limited": 1,
    "webhook_backlog_full": 30,
    "webhook_lookups_busy": 5,
    "still_running": 1,
    "uploads_busy": 5,
    "too_many_batches": 60,
    "file_storage_unavailable": 5,
    "file_storage_full": 60,
    "file_quota_exceeded": 60,
    "storage_full": 30,
    "storage_quota_exceeded": 60,
}
"""Seconds, where the error does not know better."""

SHARED = "/v1/models"
"""A path that clients of OpenAI's API and native ones share."""
_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
_DETAILS = {
    "not_found": "There is nothing at this path. /openapi.json lists what there is.",
    "body_too_large": "The body is larger than this server accepts. Send a smaller one.",
    "bad_request": "The request could not be understood. Check its headers and URL.",
}
_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One fault of a request body: where it is, what is wrong, its kind."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is for machines and stands in docs/errors.md."""

    type: str = Field(examples=["/problems/invalid-request"])
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | None = Field(default=None, description="Faults of the body.")
    job_id: str | None = Field(default=None, description="The job that ended without success.")


def problem(
    here: RequestContext,
    code: str,
    detail: str,
    *,
    status: int | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Reply:
    """A problem document. `members` are added to the document; None leaves one out."""
    known = PROBLEMS[code]
    document = {
        "type": f"/problems/{code.replace('_', '-')}",
        "title": known.title,
        "status": status or known.status,
        "detail": detail,
        "code": code,
        "request_id": here.request_id,
        **{name: value for name, value in members.items() if value is not None},
    }
    reply = Reply(msgspec.json.encode(document), status or known.status, MEDIA_TYPE)
    if code in RETRY_AFTER:
        reply.headers["Retry-After"] = str(RETRY_AFTER[code])
    if known.status == 401:
        reply.headers["WWW-Authenticate"] = "Bearer"
    reply.headers.update(headers or {})
    return reply


def register(app: Flask) -> None:
    """Turn every exception that leaves a view into a problem document."""
    app.register_error_handler(
        Exception, lambda error: in_flask(to_problem(of(request.environ), error))
    )


def to_problem(here: RequestContext, error: Exception) -> Reply:
    """What a caller is told of an exception that left a view."""
    if isinstance(error, JobsError):
        return _jobs_error(here, error)
    if isinstance(error, HTTPException):
        return _http_error(here, error)
    return _unexpected(here, error)


def _jobs_error(here: RequestContext, error: JobsError) -> Reply:
    if error.__cause__ is not None:
        _log.debug("request %s: %s from %r", here.request_id, error.code, error.__cause__)
    errors = error.errors or None if isinstance(error, InvalidRequest) else None
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TryLater) else None
    beside = openai_member(here, error.code, error.detail, SHARED)
    return problem(here, error.code, error.detail, headers=headers, errors=errors, **beside)


def _http_error(here: RequestContext, error: HTTPException) -> Reply:
    status = error.code or 500
    if status >= 500:
        return _unexpected(here, error)
    code = _HTTP_CODES.get(status, "bad_request")
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"This path takes {allowed}." if allowed else "This path takes other methods."
        beside = openai_member(here, code, detail)
        return problem(here, code, detail, headers={"Allow": allowed}, **beside)
    detail = _DETAILS.get(code, error.name)
    return problem(here, code, detail, status=status, **openai_member(here, code, detail))


def openai_member(
    here: RequestContext, code: str, detail: str, under: str = "/v1/"
) -> dict[str, Any]:
    """What clients of OpenAI's API read of an error, on paths that no route of theirs is at: those of the
    parts of that API which this server does not have, and of the listing of models.
    """
    if not here.environ.get("PATH_INFO", "").startswith(under):
        return {}
    known = {"unknown_model": "model_not_found"}.get(code, code)
    return {
        "error": {"message": detail, "type": "invalid_request_error", "param": None, "code": known}
    }


def _unexpected(here: RequestContext, error: Exception) -> Reply:
    asked = here.request
    _log.error("request %s: %s %s broke", here.request_id, asked.method, asked.path, exc_info=error)
    return problem(
        here,
        "internal_error",
        "The server has logged what happened under this request id. Trying again may help.",
    )
