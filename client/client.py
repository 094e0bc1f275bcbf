"""The Python client: submit, follow, wait, cancel.

with Client() as client:
    for event in client.submit("demo-llama", "The function returns").stream():
        print(event.text, end="", flush=True)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Unpack

import httpx

from client.connection import Connection
from client.delivery import Delivery
from client.errors import ApiError, ClientError
from client.event import Event
from client.job import Job
from client.model import Model, Readiness
from client.request import JobFields, JobRequest
from client.stream import follow

PAGE = 100
INFER_HOLD = 60.0
_JOB_URL = re.compile(r"/v1/jobs/([A-Za-z0-9_-]+)")


class Client:
    """One server and one token. Safe to share between threads; close it or use it in a `with`."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8080",
        token: str | None = None,
        timeout: float = 30.0,
        *,
        retry_for: float = 10.0,
        max_failures: int = 8,
    ) -> None:
        """`token` None: the environment's TRUTHGPT_API_TOKEN. `timeout` and `retry_for` are in seconds:
        one call's longest silence, and how long a call is tried again while the server cannot be reached
        or answers 502-504. `max_failures` bounds the reconnects of a stream that bring nothing.
        """
        self._connection = Connection(base_url, token, timeout, retry_for)
        self._max_failures = max_failures

    @property
    def base_url(self) -> str:
        return self._connection.base_url

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def submit(
        self,
        model: str,
        prompt: str | Sequence[int] | None = None,
        *,
        webhook: Mapping[str, Any] | None = None,
        wait: int | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Make a job; with `wait`, give it that many seconds (at most 60) to end before the answer.

        `webhook` is `{"url": …}`, perhaps with `"events": ["started", "completed"]`. `fields` are those of
        `JobFields`. Tried again under one Idempotency-Key, so a lost answer never makes a second job.
        """
        request = JobRequest.of(model, prompt, fields, webhook)
        prefer = {"Prefer": f"wait={wait}"} if wait is not None else {}
        response = self._connection.request(
            "POST",
            "/v1/jobs",
            json=request.body,
            headers={**request.headers, **prefer},
            hold=wait or 0.0,
        )
        return self._job(response)

    def infer(
        self, model: str, prompt: str | Sequence[int] | None = None, **fields: Unpack[JobFields]
    ) -> Job:
        """Make a job and return it once it has succeeded. `fields` are those of `JobFields`.

        Raises `ApiError` with its `job_id` when the job fails. A job that outlasts the server's patience
        goes on and is waited for.
        """
        request = JobRequest.of(model, prompt, fields)
        response = self._connection.request(
            "POST", "/v1/infer", json=request.body, headers=request.headers, hold=INFER_HOLD
        )
        job = self._job(response)
        return job if job.done else job.wait()

    def stream(
        self, model: str, prompt: str | Sequence[int] | None = None, **fields: Unpack[JobFields]
    ) -> Iterator[Event]:
        """Make a job that lives as long as somebody reads it, and follow it to its `done`.

        `fields` are those of `JobFields`. Stop reading, and the server cancels the job. For one that must
        outlive this process use `submit(...).stream()`.
        """
        request = JobRequest.of(model, prompt, fields)
        job_id: str | None = None

        @contextmanager
        def open_stream(last_id: str) -> Iterator[httpx.Response]:
            nonlocal job_id
            if job_id is not None:
                with self._open_events(job_id, last_id) as response:
                    yield response
                return
            headers = {**request.headers, **_after(last_id)}
            with self._connection.stream(
                "POST", "/v1/infer/stream", json=request.body, headers=headers
            ) as response:
                job_id = _job_id_of(response)
                yield response

        return follow(open_stream, self.base_url, max_failures=self._max_failures)

    def events(self, job_id: str, *, after: str = "") -> Iterator[Event]:
        """A job's events after the event `after` ('' for all of them), until `done`; see `Job.stream`."""
        return follow(
            partial(self._open_events, job_id),
            self.base_url,
            after=after,
            max_failures=self._max_failures,
        )

    def _open_events(self, job_id: str, last_id: str) -> AbstractContextManager[httpx.Response]:
        return self._connection.stream("GET", f"{_path(job_id)}/events", headers=_after(last_id))

    def get(self, job_id: str, *, wait: int | None = None) -> Job:
        """A job as it is now, or once it has ended within `wait` seconds."""
        params = {"wait": wait} if wait else None
        response = self._connection.request("GET", _path(job_id), params=params, hold=wait or 0.0)
        return self._job(response)

    def jobs(
        self, *, status: str | None = None, model: str | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """The caller's jobs, newest first, at most `limit` of them; pages are fetched as they are read."""
        filters = {"status": status, "model": model}
        for value in self._pages("/v1/jobs", filters, limit):
            yield Job.parse(value, self)

    def _pages(
        self, path: str, filters: Mapping[str, str | None], limit: int | None
    ) -> Iterator[dict[str, Any]]:
        """The rows of a list, at most `limit` of them; a page is fetched when it is wanted."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            asked = {**filters, "limit": size, "cursor": cursor}
            params = {name: value for name, value in asked.items() if value is not None}
            page = self._connection.request("GET", path, params=params).json()
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end. It is `canceled` once its work has really stopped; `wait()` for that."""
        return self._job(self._connection.request("POST", f"{_path(job_id)}/cancel"))

    def delete(self, job_id: str) -> None:
        """Remove an ended job, its output and its events. Raises `ApiError` 409 while it lives."""
        # Not repeated: after a lost answer the second try would say that the job never existed.
        self._connection.request("DELETE", _path(job_id), retry=False)

    def dead(self, *, limit: int = PAGE) -> list[Job]:
        """The newest jobs that failed for no fault of their input and were not tried again."""
        response = self._connection.request("GET", "/v1/dead-letters", params={"limit": limit})
        return [Job.parse(value, self) for value in response.json()["data"]]

    def retry(self, job_id: str) -> Job:
        """Try a failed job again: a new job of the same request. Asking twice makes one."""
        return self._job(self._connection.request("POST", f"{_path(job_id)}/retry"))

    def deliveries(self, job_id: str) -> list[Delivery]:
        """What became of a job's webhooks."""
        return self._deliveries("GET", f"{_path(job_id)}/deliveries")

    def dead_deliveries(self, *, limit: int = PAGE) -> list[Delivery]:
        """The newest webhooks that were given up."""
        return self._deliveries("GET", f"/v1/dead-deliveries?limit={limit}")

    def replay(self, job_id: str) -> list[Delivery]:
        """Deliver a job's webhooks again, under the same ids."""
        return self._deliveries("POST", f"{_path(job_id)}/deliveries/replay")

    def _deliveries(self, method: str, path: str) -> list[Delivery]:
        document = self._connection.request(method, path).json()
        return [Delivery.parse(value) for value in document["data"]]

    def models(self) -> list[Model]:
        """The models of the server's catalogue and how they are doing."""
        document = self._connection.request("GET", "/v1/models").json()
        return [Model.parse(value) for value in document["data"]]

    def stats(self) -> dict[str, Any]:
        """What `GET /v1/stats` says: live latencies, throughput, what waits, use of the limits."""
        document: dict[str, Any] = self._connection.request("GET", "/v1/stats").json()
        return document

    def reset_breaker(self, model: str) -> Model:
        """Close a model's circuit breaker and those of its workers."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", model):
            raise ClientError(f"{model!r} is not a model's name")
        response = self._connection.request("POST", f"/v1/models/{model}/breaker/reset")
        return Model.parse(response.json())

    def audit(self, *, limit: int = PAGE, **filters: str | None) -> list[dict[str, Any]]:
        """The newest changes that administrators made; `filters`: action, by, target, tenant,
        and since and until, times by RFC 3339.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        return list(self._pages("/v1/admin/audit", given, limit))

    def ready(self) -> Readiness:
        """Whether the server can serve now. Raises `ConnectionFailed` when nobody answers."""
        try:
            response = self._connection.request("GET", "/ready", retry=False)
        except ApiError as error:
            if error.status == 503:
                return Readiness(False, error.detail)
            raise
        return Readiness(response.status_code == 200, "")

    def _job(self, response: httpx.Response) -> Job:
        value = response.json()
        if not isinstance(value, dict) or "id" not in value:
            raise ClientError(f"{self.base_url} did not answer with a job")
        return Job.parse(value, self)


def _job_id_of(response: httpx.Response) -> str | None:
    """The id of the job that a streaming response belongs to, from its headers."""
    if not response.is_success:
        return None
    headers = response.headers
    found = _JOB_URL.search(headers.get("Content-Location") or headers.get("Location", ""))
    return found[1] if found is not None else None


def _path(job_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", job_id):
        raise ClientError(f"{job_id!r} is not a job id; they look like job_…")
    return f"/v1/jobs/{job_id}"


def _after(last_id: str) -> dict[str, str]:
    """The header that has a stream go on after an event; nothing for '', which is its beginning."""
    return {"Last-Event-ID": last_id} if last_id else {}
