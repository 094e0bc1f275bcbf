"""Reading a job's events: `GET /v1/jobs/{job_id}/events`, and how a stream's response is made."""

from dataclasses import dataclass
from functools import partial

from flask import Response

from api.http.answers import links
from api.http.caller import TICKET_CLIENT, Access
from api.http.operations import EVENT_STREAM, Answer, Operations, Parameter
from api.http.parameters import EVENT_ID, JOB_ID, LAST_EVENT_ID
from api.http.request_context import RequestContext
from api.http.sse.awaited_stream import AwaitedStream
from api.http.sse.connection import Connection
from api.http.sse.event_stream import EventStream
from api.http.sse.form import Form, NativeForm
from api.openapi import examples
from api.services import Services
from api.state.readers import ReaderPresence
from shared.domain.errors import EventsExpired, InvalidRequest, StoreUnavailable
from shared.domain.outputs import EVENT_DATA
from shared.domain.records import Record
from shared.store.events import START, EventId, Follower

streams = Operations("streams", __name__)


@streams.operation(
    "GET",
    "/v1/jobs/{job_id}/events",
    access=Access.TICKET,
    parameters=(
        JOB_ID,
        LAST_EVENT_ID,
        Parameter(
            "after",
            "query",
            "The same as `Last-Event-ID`, which wins.",
            {"type": "string", "pattern": EVENT_ID},
            "1-17",
        ),
        Parameter("ticket", "query", "Instead of the token: from the job's `urls.events`."),
    ),
    answers={
        200: Answer(
            "The events, until `done`.",
            media=EVENT_STREAM,
            example=examples.EVENTS,
            events=EVENT_DATA,
        ),
        204: Answer("The cursor is the terminal event: there is nothing more to come."),
    },
    problems=("job_not_found", "invalid_cursor", "events_expired"),
)
def job_events(here: RequestContext, job_id: str) -> Response:
    """Follow a job's events

    Server-sent events, replayed from the cursor and then live, each exactly once. The texts of all
    `token` events after the last `reset` add up to `output.text`; where a job makes several texts, `choice`
    says which one an event belongs to, left out for the first. In a chat `parts` says what an event adds to
    the content, the reasoning and the calls of tools of `output.message`. A comment goes out every 15 s.
    When the connection breaks, come back with the id of the last event; browsers do so by themselves. With a
    ticket the stream opens even while the job store is away, and waits for it.
    """
    return followed(here, job_id, cursor_asked_for(here), NativeForm(links(here)))


def followed(here: RequestContext, job_id: str, cursor: EventId | None, form: Form) -> Response:
    """The events of a job of the caller's after a cursor, told in `form`.

    Raises as `resumed`, and `JobNotFound`.
    """
    services = here.services
    try:
        record = services.store.get(job_id, here.caller.tenant)
    except StoreUnavailable:
        if here.caller is not TICKET_CLIENT or here.request.method == "HEAD":
            raise
        # Browsers' readers, who come with a ticket, give up for good at any answer but 200.
        reading = Reading(services, Connection(here.environ), form, cursor)
        return _answer(AwaitedStream(services, reading.connection, partial(reading.found, job_id)))
    return resumed(here, record, cursor, form)


def cursor_asked_for(here: RequestContext) -> EventId | None:
    """From `Last-Event-ID`, else `?after=`. Raises `InvalidRequest`."""
    request = here.request
    given = request.headers.get("Last-Event-ID") or request.args.get("after")
    return EventId.parse(given) if given else None


def resumed(
    here: RequestContext, record: Record, cursor: EventId | None, form: Form | None = None
) -> Response:
    """The events of an existing job after a cursor, told in `form` (the native one).

    Forms but the native one cannot say that a text begins anew: without a cursor they begin there.
    Raises `InvalidRequest`, `EventsExpired`, `StoreUnavailable`.
    """
    if form is None:
        form = NativeForm(links(here))
    elif cursor is None and not isinstance(form, NativeForm):
        cursor = here.services.hub.log.last_reset(record)
    reading = Reading(here.services, Connection(here.environ), form, cursor)
    if reading.has_all(record):
        return Response(status=204)
    if here.request.method == "HEAD":
        # Nobody would iterate over the stream, so nobody would close it either.
        return Response(content_type=EVENT_STREAM)
    return _answer(reading.events(record))


def stream(
    here: RequestContext, follower: Follower, presence: ReaderPresence | None, form: Form
) -> Response:
    """A follower's events as a response that lasts until the job ends or the reader goes."""
    return _answer(EventStream(here.services, follower, Connection(here.environ), form, presence))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader asked for: a job's events after `cursor`, on `connection`, told in `form`."""

    services: Services
    connection: Connection
    form: Form
    cursor: EventId | None

    def found(self, job_id: str) -> EventStream | None:
        """The events of a job, whoever owns it; None where the reader has them all. Raises as `resumed`."""
        record = self.services.store.get(job_id)
        return None if self.has_all(record) else self.events(record)

    def has_all(self, record: Record) -> bool:
        """Whether there is nothing after the cursor, and never will be. Raises as `resumed`."""
        head = EventId.parse(record.head)
        if self.cursor is not None and self.cursor > head:
            raise InvalidRequest(
                f"The job's last event is {head}; {self.cursor} does not exist. Give the id of an event "
                "that you got, or none to start from the beginning.",
                code="invalid_cursor",
            )
        if self.cursor == head and record.terminal:
            return True
        if not self.services.hub.log.exists(record.id):
            raise EventsExpired("The events of this job have expired. Get the job itself instead.")
        return False

    def events(self, record: Record) -> EventStream:
        """The events themselves, to be closed. Raises `StoreUnavailable`."""
        here = self.services
        here.show_events(record)
        presence = None if record.terminal else here.readers.join(record.id)
        follower = here.follow(record.id, self.cursor or START)
        return EventStream(here, follower, self.connection, self.form, presence)


def _answer(events: EventStream | AwaitedStream) -> Response:
    response = Response(iter(events), content_type=EVENT_STREAM)
    response.headers["X-Accel-Buffering"] = "no"
    # Also called when the client is gone before the first byte, which a generator would not notice.
    response.call_on_close(events.close)
    return response
