"""The outbox: deliveries that a job's start and end left behind, and what became of each.

The entries are written by the scripts that start and end jobs (shared/store/lua/lib/outbox.lua), with the
job as it was then; here they are claimed with a lease, recorded, listed and replayed. A delivery is sent at
least once: a sender that dies between sending and recording leaves it to be sent again under the same id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

from shared.context import TRACEPARENT
from shared.domain.deliveries import Delivery
from shared.domain.errors import JobsError
from shared.domain.records import JOB_ID, delivery_ids
from shared.domain.schemas import rfc3339
from shared.redis.connection import reachable
from shared.store.jobs import UNBOUNDED, JobStore
from shared.webhooks import bodies
from shared.webhooks.urls import Target

SWEEP = 200
_NONE: Mapping[str, int] = MappingProxyType({})

Event = Literal["started", "completed"]


class BacklogFull(JobsError):
    code = "webhook_backlog_full"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom to tell of which events. `base` is this server's URL as the caller reached it, `form` the words of
    the body (`shared.webhooks.bodies`), the native ones if empty.
    """

    target: Target
    events: Sequence[Event]
    base: str
    form: str = ""

    def __str__(self) -> str:
        """The field `webhook` of a job's record, which outbox.lua reads."""
        events = ",".join(sorted(set(self.events)))
        words = (events, self.base, self.target.receiver, self.target.url, self.form)
        return " ".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt to deliver, handed to a sender. `age`: seconds since trying began."""

    id: str
    attempt: int
    failures: int
    age: float
    to: str
    url: str
    model: str
    fields: Mapping[str, str] = field(repr=False)

    @property
    def tenant(self) -> str:
        return self.to.partition(" ")[0]

    @property
    def form(self) -> str:
        """In which words it is told; empty: natively."""
        return self.fields.get("form", "")

    @property
    def endpoint(self) -> str:
        """The id of the endpoint that it is for, empty where a job names its receiver."""
        return self.fields.get("endpoint", "")

    @property
    def once(self) -> bool:
        """Whether it is tried once and no more."""
        return self.fields.get("once") == "1"

    @property
    def about(self) -> dict[str, str]:
        """What names the message's job, for `shared.context`."""
        get = self.fields.get
        return {
            "delivery": self.id,
            "job": get("job", ""),
            "tenant": self.tenant,
            "model": self.model,
            "request_id": get("job.request_id", ""),
            TRACEPARENT: get("job.traceparent", ""),
        }

    @property
    def body(self) -> bytes:
        """The message's body: the same bytes at every attempt, fixed when the event happened."""
        return bodies.body(self.fields)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is written down of an attempt; see shared/store/lua/delivery_record.lua."""

    outcome: Literal["delivered", "retry", "dead", "returned"]
    delay: float = 0.0
    status: int | None = None
    fault: str = ""
    well: bool | None = None


class Outbox:
    """Every method raises `StoreUnavailable` when Redis does not answer. Safe to share between threads."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    # -- the API's side

    def admit(self, tenant: str, most: int) -> None:
        """Raises `BacklogFull` when fewer than the tenant's own waiting deliveries fit below `most`.

        So a tenant alone has half of the backlog, and leaves room to others. Deliveries of running jobs
        come on top.
        """
        self._admit(tenant, most, "leave the webhook out")

    def admit_events(self, tenant: str, most: int) -> None:
        """Admit a job whose end is told to endpoints of its tenant; one whose tenant has none is taken.

        Raises `BacklogFull` when fewer than the tenant's own waiting deliveries fit below `most`.
        """
        self._admit(tenant, most, "delete your webhook endpoints", endpoints=True)

    def _admit(self, tenant: str, most: int, instead: str, *, endpoints: bool = False) -> None:
        with reachable():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.zcard(self._store.keys("pending"))
            pipe.zcard(self._store.keys("backlog", tenant))
            pipe.hlen(self._store.keys("endpoints", tenant))
            waiting, own, told = pipe.execute()
        if own >= most - waiting and (told or not endpoints):
            raise BacklogFull(
                f"{own} of your webhooks wait to be delivered. Try again later, or {instead}."
            )

    def of_job(self, job_id: str, tenant: str) -> list[Delivery]:
        """A job's deliveries, which may outlive the job. Raises `JobNotFound`."""
        found = self._read(self._ids(job_id, tenant), tenant) if JOB_ID.fullmatch(job_id) else []
        if not found:
            self._store.get(job_id, tenant)
        return found

    def tell(self, tenant: str, object_id: str, event: str) -> list[str]:
        """Tell a tenant's endpoints that ask for it of an event of OpenAI's API, such as `batch.completed` of
        `batch_…`, however often it is called; that of a job that is a response is told with its end.

        Returns the ids of the deliveries.
        """
        return self._tell(tenant, object_id, event)

    def try_out(self, tenant: str, endpoint_id: str, object_id: str, event: str) -> str | None:
        """Send one endpoint an event, once.

        Returns the delivery's id; None where there is no such endpoint.
        """
        return next(iter(self._tell(tenant, object_id, event, endpoint_id)), None)

    def delivery(self, delivery_id: str, tenant: str) -> Delivery | None:
        """What became of a delivery; None where it is not known."""
        return next(iter(self._read([delivery_id], tenant)), None)

    def _tell(self, tenant: str, object_id: str, event: str, only: str = "") -> list[str]:
        told = self._store.call("event_tell", tenant, "", object_id, event, only)
        return [name.decode() for name in told]

    def _ids(self, job_id: str, tenant: str) -> list[str]:
        """The ids that deliveries about a job can have."""
        with reachable():
            endpoints = cast(
                list[bytes], self._store.redis.hkeys(self._store.keys("endpoints", tenant))
            )
        base = f"msg_{job_id.removeprefix('job_')}"
        return [*delivery_ids(job_id), *(f"{base}_{name.decode()}" for name in endpoints)]

    def undelivered(self, tenant: str, limit: int) -> list[Delivery]:
        """The newest deliveries of a tenant that were given up."""
        key = self._store.keys("undelivered", tenant)
        with reachable():
            names = cast(list[bytes], self._store.redis.zrevrange(key, 0, limit - 1))
        ids = [name.decode() for name in names]
        found = self._read(ids, tenant)
        gone = set(ids) - {delivery.id for delivery in found}
        if gone:
            with reachable():
                self._store.redis.zrem(key, *gone)
        return found

    def replay(self, job_id: str, tenant: str) -> list[Delivery]:
        """Send a job's deliveries again, whatever became of them. Raises `JobNotFound`."""
        known = self.of_job(job_id, tenant)
        if known:
            self._store.call("delivery_replay", tenant, *(delivery.id for delivery in known))
        return self._read([delivery.id for delivery in known], tenant)

    def _read(self, ids: Sequence[str], tenant: str) -> list[Delivery]:
        with reachable():
            pipe = self._store.redis.pipeline(transaction=False)
            for name in ids:
                pipe.hmget(self._store.keys("delivery", name), _SHOWN)
            rows = pipe.execute()
        read = [dict(zip(_SHOWN, map(_text, row), strict=True)) for row in rows]
        return [_delivery(fields) for fields in read if fields["tenant"] == tenant]

    # -- the sender's side

    def claim(
        self, room: int, lease: float, *, free: int = UNBOUNDED, held: Mapping[str, int] = _NONE
    ) -> list[Message]:
        """Up to `room` messages that are due, each held for `lease` seconds.

        A tenant gets one only while it holds fewer of its sender's slots than are `free`; `held` says
        how many each tenant holds.
        """
        pairs = [value for pair in held.items() for value in pair]
        now, *rows = self._store.call("delivery_claim", room, int(lease * 1000), free, *pairs)
        return [_message(row, int(now)) for row in rows]

    def record(self, message: Message, result: Recorded) -> bool:
        """Write down what became of an attempt. False when another one has taken its place."""
        well = {True: "1", False: "0", None: ""}[result.well]
        # fmt: off
        done = self._store.call(
            "delivery_record", message.id, message.to, message.attempt, result.outcome,
            int(result.delay * 1000), result.status or "", result.fault, well, self._store.retention,
        )
        # fmt: on
        return bool(done)

    def ring_wanted(self, most: float) -> bool:
        """Whether deliveries are due and nobody was called for them.

        Ends on the way what has waited for more than `most` seconds.
        """
        ring, _ = self._store.call("delivery_ring", int(most * 1000), SWEEP)
        return bool(ring)


_SHOWN = (
    *("id", "job", "tenant", "type", "url", "state", "created", "attempt", "due", "last"),
    *("delivered", "code", "fault"),
)


def _text(value: bytes | None) -> str:
    return value.decode() if value else ""


def _moment(value: str) -> str | None:
    return rfc3339(int(value)) if value else None


def _delivery(fields: Mapping[str, str]) -> Delivery:
    state = fields["state"]
    return Delivery(
        id=fields["id"],
        job_id=fields["job"],
        type=cast(Any, fields["type"]),
        url=fields["url"],
        status=cast(Any, state),
        attempts=int(fields["attempt"]),
        created_at=rfc3339(int(fields["created"])),
        last_attempt_at=_moment(fields["last"]),
        next_attempt_at=_moment(fields["due"]) if state == "pending" else None,
        delivered_at=_moment(fields["delivered"]),
        response_status=int(fields["code"]) if fields["code"] else None,
        error=fields["fault"] or None,
    )


def _message(flat: list[bytes], now: int) -> Message:
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return Message(
        id=fields["id"],
        attempt=int(fields["attempt"]),
        failures=int(fields["failures"]),
        age=(now - int(fields["first"])) / 1000,
        to=fields["to"],
        url=fields["url"],
        model=fields["model"],
        fields=fields,
    )
