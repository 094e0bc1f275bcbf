"""Follows a job's events to their end, over as many connections as that takes."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx

from client.connection import TRANSIENT, reason
from client.errors import ApiError, ConnectionFailed, api_error
from client.event import Event
from client.sse import Parser

Open = Callable[[str], AbstractContextManager[httpx.Response]]
"""Open the stream after the event with this id ('' for the beginning)."""

FIRST_RETRY_MS = 1000
FIRST_TRIES = 3
LONGEST_PAUSE = 30.0
GOOD_SECONDS = 5.0
"""A connection that lived this many seconds was a good one, even if the job said nothing on it."""


def follow(
    open_stream: Open, url: str, *, after: str = "", max_failures: int = 8
) -> Iterator[Event]:
    """The events after `after`, in order, each once, until `done`.

    A cut connection is opened again after the time that the server asked for with `retry:`, doubled at
    every failure after the first in a row. Raises `ConnectionFailed` after `max_failures` in a row that
    brought nothing (fewer where the server was never there), and `ApiError` at once for an answer that
    another try will not change.
    """
    last_id, retry_ms, failures, met = after, FIRST_RETRY_MS, 0, False
    while True:
        opened = time.monotonic()
        trouble: ApiError | ConnectionFailed
        progress = False
        parser = Parser(last_id)
        try:
            with open_stream(last_id) as response:
                if response.status_code == 204:
                    return
                _require_stream(response)
                met = True
                for chunk in response.iter_bytes():
                    for received in parser.feed(chunk):
                        progress, last_id = True, received.id
                        event = Event.parse(received)
                        yield event
                        if event.type == "done":
                            return
            trouble = ConnectionFailed(url, "the server closed the stream before the job's end")
        except httpx.TransportError as error:
            trouble = ConnectionFailed(url, reason(error))
        except ApiError as error:
            if error.status not in TRANSIENT:
                raise
            trouble = error
        retry_ms = parser.retry_ms if parser.retry_ms is not None else retry_ms
        lasted = not isinstance(trouble, ApiError) and time.monotonic() - opened >= GOOD_SECONDS
        failures = 0 if progress or lasted else failures + 1
        if failures >= (max_failures if met else min(max_failures, FIRST_TRIES)):
            raise trouble
        time.sleep(_pause(retry_ms / 1000, failures, trouble))


def _require_stream(response: httpx.Response) -> None:
    if response.status_code != 200:
        response.read()
        raise api_error(response)
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("text/event-stream"):
        raise ApiError(200, "not_a_stream", f"expected an event stream, got {kind or 'no type'}")


def _pause(retry: float, failures: int, trouble: ApiError | ConnectionFailed) -> float:
    # Jitter on top, never below: many readers cut at once must not all come back in the same instant.
    pause = min(LONGEST_PAUSE, retry * 2.0 ** max(0, failures - 1)) * random.uniform(1.0, 1.25)  # noqa: S311 - jitter
    asked = trouble.retry_after if isinstance(trouble, ApiError) else None
    return max(pause, asked or 0.0)
