"""What can go wrong for a client: the server refused, or could not be reached. See also `job.JobFailed`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


class ClientError(Exception):
    """The root of everything that the client raises on purpose."""


class ConnectionFailed(ClientError):
    """The server could not be reached, or the connection broke too often in a row."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no connection to {url}: {reason}")
        self.url = url
        self.reason = reason


class ApiError(ClientError):
    """The server refused, with an RFC 9457 problem document.

    `code` is stable and for machines; `errors` rows are `{loc, msg, type}`; `retry_after` is in seconds;
    `job_id` names the job where a synchronous call failed as a job.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        job_id: str | None = None,
    ) -> None:
        super().__init__(f"{code} ({status}): {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.errors = tuple(errors)
        self.job_id = job_id


def api_error(response: httpx.Response) -> ApiError:
    """The error in a response that has been read; also one that some proxy made up on the way."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return ApiError(
        response.status_code,
        str(problem.get("code") or f"http_{response.status_code}"),
        str(problem.get("detail") or problem.get("title") or response.reason_phrase),
        request_id=problem.get("request_id") or response.headers.get("X-Request-ID"),
        retry_after=retry_after(response.headers.get("Retry-After")),
        errors=problem.get("errors") or (),
        job_id=problem.get("job_id"),
    )


def retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
