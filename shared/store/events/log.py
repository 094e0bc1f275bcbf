"""The events of a job as they are kept: a Redis stream, but for the first one, which all jobs share."""

from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import StoreUnavailable
from shared.domain.events import CREATED, START, Event, EventId
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
        (head, unlogged), entries = self._ask(pipe)
        if unlogged:
            return self._unlogged(job_id, EventId.known(head), after)[:count]
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
        (head, unlogged), stream = self._ask(pipe)
        return bool(stream or unlogged) or _is_created(head)

    def _unlogged(self, job_id: str, head: EventId, after: EventId) -> list[Event]:
        """The events of a job that ended with another one's result when it was made: nothing was logged."""
        told = [CREATED, Event(head, "done", b'{"status":"succeeded"}')]
        text = EventId(0, head.seq - 1)
        if CREATED.id < text and after < text:
            told.insert(1, Event(text, "token", self._text(job_id)))
        return [event for event in told if event.id > after]

    def _text(self, job_id: str) -> bytes:
        """The text of the output that a job refers to, as one event."""
        try:
            reference: Any = self._redis.hget(self._keys("job", job_id), "output_of")
            output_id = (reference or b"").decode().partition(" ")[0]
            output: Any = self._redis.hget(self._keys("output", output_id), "output")
        except RedisError as error:
            raise StoreUnavailable("Redis did not answer. Try again in a moment.") from error
        text = msgspec.json.decode(output)["text"] if output else ""
        return msgspec.json.encode({"text": text, "index": 0})

    @staticmethod
    def _ask(pipe: Any) -> Any:
        try:
            return pipe.execute()
        except RedisError as error:
            raise unavailable(error) from error


_HEAD = ("head", "unlogged")


def _is_created(head: bytes | None) -> bool:
    return head is not None and head.decode() == str(CREATED.id)
