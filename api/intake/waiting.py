"""Waiting for the end of a job while somebody waits for the answer."""

import time

from api.http.request_context import RequestContext
from api.http.sse.connection import Connection
from api.services import Services
from shared.domain.errors import StoreUnavailable
from shared.domain.events import EventId
from shared.domain.records import Record
from shared.store.events import Completion, CompletionWaiter, Follower

POLL = 1.0
"""Seconds between two looks at whether anybody still waits for a held answer."""


def await_completion(
    here: RequestContext, waiter: CompletionWaiter, wait: float
) -> Completion | None:
    """How the job ended; None when it has not within `wait` seconds, or the store must be asked."""
    services, connection = here.services, None
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0 and not services.lifecycle.draining:
        completion = waiter.wait(left)
        if completion is not None:
            return completion
        if waiter.stale:
            # The channel broke meanwhile; from here on the log tells.
            _follow_to_end(here, waiter.job_id, deadline - time.monotonic())
            return None
        connection = connection or Connection(here.environ)
        if connection.gone():
            return None
    return None


def _follow_to_end(here: RequestContext, job_id: str, wait: float) -> None:
    """As `until_end`, for a job of which no completion comes any more."""
    try:
        here.services.store.log_events(job_id)
    except StoreUnavailable:
        # The job goes on without us; the caller answers with where it can be read.
        return
    with here.services.follow(job_id) as follower:
        until_end(here, follower, wait)


def wait_for_end(here: RequestContext, job_id: str, wait: float) -> Record:
    """A job of the caller's, once it has ended or `wait` seconds have passed."""
    services, tenant = here.services, here.caller.tenant
    record = services.store.get(job_id, tenant)
    if not record.terminal and wait > 0:
        services.show_events(record)
        with services.follow(job_id, EventId.parse(record.head)) as follower:
            until_end(here, follower, wait)
        record = services.store.get(job_id, tenant)
    services.remember(record)
    return record


def until_end(here: RequestContext, follower: Follower, wait: float) -> None:
    """Return when the job has ended, after `wait` seconds, or when waiting has become pointless."""
    services, connection = here.services, Connection(here.environ)
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0 and _worth_waiting(services, connection):
        try:
            event = follower.next(min(left, POLL))
        except StoreUnavailable:
            # The job goes on without us; the caller answers with where it can be read.
            return
        if event is not None and event.terminal:
            return


def _worth_waiting(services: Services, connection: Connection) -> bool:
    return not services.lifecycle.draining and not connection.gone()
