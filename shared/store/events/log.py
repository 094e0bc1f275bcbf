"""The events of a job as they are kept: a Redis stream, but for the first one, which all jobs share.

A job for whose end alone somebody waits has no stream before it says two things: its record tells its events.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import StoreUnavailable
from shared.domain.events import CREATED, START, STARTED, Event, EventId
from shared.domain.parts import parts_of
from shared.domain.records import Record
from shared.domain.states import TERMINAL
from shared.redis.connection import unavailable
from shared.store.keys import Keys

PAGE = 256
"""Events that one read gives at most."""


class EventLog:
    """The events of jobs: the first, which all have, and those of the stream."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def read(self, job_id: str, after: EventId = START, count: int = PAGE) -> list[Event]:
        """Up to `count` events after a cursor. Raises `StoreUnavailable`."""
        pipe = self._redis.pipeline(transaction=False)
        # The record first: what it misses between the two, the stream has.
        pipe.hmget(self._keys("job", job_id), _HEAD)
        pipe.xrange(self._keys("log", job_id), min=f"({after}", max="+", count=count)
        (head, unlogged, implied, told, state), entries = self._ask(pipe)
        if unlogged:
            return self._unlogged(job_id, EventId.known(head), after)[:count]
        if implied == b"1" and not entries:
            known = _implied(EventId.known(head), told, state.decode())
            return [event for event in known if event.id > after][:count]
        events = [
            Event(EventId.known(raw), entry[b"e"].decode(), entry[b"d"]) for raw, entry in entries
        ]
        if after < CREATED.id and (events or _is_created(head)):
            return [CREATED, *events][:count]
        return events

    def exists(self, job_id: str) -> bool:
        """Whether a job still has a log. Raises `StoreUnavailable`."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._keys("job", job_id), _HEAD)
        pipe.exists(self._keys("log", job_id))
        (head, unlogged, implied, *_), stream = self._ask(pipe)
        return bool(stream or unlogged or implied == b"1") or _is_created(head)

    def last_reset(self, record: Record) -> EventId | None:
        """Where the text of a job began anew the last time, None where it never did.

        Raises `StoreUnavailable`.
        """
        found, cursor = None, START
        if int(record.fields["attempt"]) <= 1:
            return None
        while page := self.read(record.id, cursor):
            found = next((event.id for event in reversed(page) if event.kind == "reset"), found)
            cursor = page[-1].id
        return found

    def _unlogged(self, job_id: str, head: EventId, after: EventId) -> list[Event]:
        """The events of a job that ended with another one's result when it was made: nothing was logged."""
        told = [CREATED, Event(head, "done", b'{"status":"succeeded"}')]
        seqs = range(CREATED.id.seq + 1, head.seq)
        if seqs and after < EventId(0, seqs[-1]):
            # As many as the script has counted: fewer only where the output has gone meanwhile.
            texts = zip(seqs, self._texts(job_id), strict=False)
            told[1:1] = [Event(EventId(0, seq), "token", data) for seq, data in texts]
        return [event for event in told if event.id > after]

    def _texts(self, job_id: str) -> list[bytes]:
        """The texts of the output that a job refers to, each as one event; `speaks_of` counts them."""
        try:
            reference: Any = self._redis.hget(self._keys("job", job_id), "output_of")
            output_id = (reference or b"").decode().partition(" ")[0]
            output: Any = self._redis.hget(self._keys("output", output_id), "output")
        except RedisError as error:
            raise StoreUnavailable("Redis did not answer. Try again in a moment.") from error
        if not output:
            return [_token("", 0, {})]
        told = msgspec.json.decode(output)
        choices = enumerate(told.get("choices") or [told])
        return [_token(one["text"], choice, one) for choice, one in choices if one["text"]]

    @staticmethod
    def _ask(pipe: Any) -> Any:
        try:
            return pipe.execute()
        except RedisError as error:
            raise unavailable(error) from error


_HEAD = ("head", "unlogged", "implied", "told", "state")


def _implied(head: EventId, told: bytes | None, state: str) -> list[Event]:
    """The events of a job that has run without a log: its start, what it told at once, its end."""
    events = [CREATED, STARTED]
    if told:
        kind, _, data = told.partition(b" ")
        events.append(Event(EventId(1, 1), kind.decode(), data))
    if state in TERMINAL:
        events.append(Event(head, "done", b'{"status":"%b"}' % state.encode()))
    return events


def _token(text: str, choice: int, output: Mapping[str, Any]) -> bytes:
    """The data of the event that brings all of a text, and what `output` has of it beside."""
    data: dict[str, Any] = {"text": text, "index": 0}
    if choice:
        data["choice"] = choice
    if "message" in output:
        data |= {
            "parts": parts_of(output["message"]),
            "finish_reason": output["finish_reason"],
        }
    if "logprobs" in output:
        data["logprobs"] = output["logprobs"]
    return msgspec.json.encode(data)


def _is_created(head: bytes | None) -> bool:
    return head is not None and head.decode() == str(CREATED.id)
