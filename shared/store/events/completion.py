"""How the process that made jobs learns of their ends: messages with all of them, on a channel of its own.

One message has all ends of a call. Workers of earlier versions send a message an end.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from shared.locks import Wakeup

TICK = 1.0
"""Seconds between two ticks."""
_ONE = b"job_"
"""How a message of one job's end begins that earlier versions sent: with its id."""
_FURTHER = msgspec.msgpack.Decoder(dict[str, str])


class CompletionSource(Protocol):
    """What hears of completions: `shared.store.events.hub.EventHub`."""

    def forget(self, waiter: "CompletionWaiter") -> None:
        """Nobody waits for this one any more."""


class Completion(msgspec.Struct, frozen=True):
    """How a job ended, as fields of its record."""

    job_id: str
    fields: dict[str, str]

    @classmethod
    def parse_all(cls, payload: bytes) -> Iterator["Completion"]:
        """From a message of `announce` in shared/store/lua/lib/tallies.lua: each behind its length."""
        if payload.startswith(_ONE):
            yield cls.parse(payload)
            return
        rest = payload
        while rest:
            length, _, rest = rest.partition(b" ")
            yield cls.parse(rest[: int(length)])
            rest = rest[int(length) :]

    @classmethod
    def parse(cls, payload: bytes) -> "Completion":
        """From what `finish` in shared/store/lua/lib/endings.lua tells of one job."""
        *head, body = payload.split(b" ", 8)
        job_id, state, attempt, started, finished, cached, first, second = (
            b" ".join(head).decode().split(" ")
        )
        output, error = int(first), int(second)
        usage, _, further = body[output + error :].partition(b"\0")
        return cls(
            job_id,
            {
                "state": state,
                "attempt": attempt,
                "started": started,
                "finished": finished,
                "cached": cached,
                "output": body[:output].decode(),
                "error": body[output : output + error].decode(),
                "usage": usage.decode(),
                **(_FURTHER.decode(further) if further else {}),
            },
        )


class CompletionWaiter:
    """Waits for the end of a job that this process made with its hub's `reply_channel`: woken once."""

    def __init__(self, source: CompletionSource, job_id: str) -> None:
        self.job_id = job_id
        self.stale = False
        """The connection was lost meanwhile, so the message may have been: look at the store."""
        self._source = source
        self._completion: Completion | None = None
        self._woken = Wakeup()

    def __enter__(self) -> "CompletionWaiter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._source.forget(self)

    def wait(self, timeout: float) -> Completion | None:
        """The end; None when it has become stale, or has not come within `timeout` seconds or by the next
        tick, at which the caller may look whether it still has reason to wait.

        For one caller at a time.
        """
        self._woken.wait(max(0.0, timeout) if timeout < TICK else None)
        if self._completion is None and not self.stale:
            self._woken = Wakeup()
        # Looked at last: it may have come since, and have woken the one before.
        return self._completion

    def tick(self) -> None:
        """Let whoever waits look around. One clock does so for all, for a timer each would cost more."""
        self._woken.wake()

    def complete(self, completion: Completion) -> None:
        self._completion = completion
        self._woken.wake()

    def mark_stale(self) -> None:
        self.stale = True
        self._woken.wake()
