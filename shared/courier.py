"""Script calls that meet on their way to Redis leave together, in one pipeline.

The first caller leads: it sends its call at once. Calls that come while it waits gather, and one of
their callers leads them next. A lone caller pays nothing; sixty at once pay for a few round trips
and system calls instead of sixty. Works alike under threads and greenlets.
"""

import threading
from typing import Any

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

MOST = 64
"""Calls in one pipeline: how long a call may wait for those before it is bounded by as many scripts."""


class _Errand:
    """One call: its answer, or the order to lead the next batch."""

    __slots__ = ("args", "batch", "done", "keys", "script", "turn")

    def __init__(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...]) -> None:
        self.script = script
        self.args = args
        self.keys = keys
        self.done: Any = None
        self.batch: list[_Errand] = []
        self.turn = threading.Lock()
        self.turn.acquire()

    def answer(self) -> Any:
        if isinstance(self.done, Exception):
            raise self.done
        return self.done


class Courier:
    """Carries script calls. Only for scripts that may be repeated: a lost connection repeats a batch."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._waiting: list[_Errand] = []
        self._under_way = False

    def call(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...] = ()) -> Any:
        """The script's answer. Raises what redis-py raises."""
        errand = _Errand(script, args, keys)
        with self._lock:
            leads = not self._under_way
            self._under_way = True
            if not leads:
                self._waiting.append(errand)
        if leads:
            errand.batch = [errand]
        else:
            self._wait(errand)
        if errand.batch:
            try:
                self._carry(errand.batch)
            finally:
                self._hand_over(errand)
        return errand.answer()

    def _wait(self, errand: _Errand) -> None:
        try:
            errand.turn.acquire()
        except BaseException:
            # The caller is being killed. Should it be its turn to lead, the others must not wait.
            with self._lock:
                if errand in self._waiting:
                    self._waiting.remove(errand)
            if errand.batch:
                _fail(errand.batch)
                self._hand_over(errand)
            raise

    def _hand_over(self, leader: _Errand) -> None:
        """Let those who were carried go, and the first of those who wait lead.

        When Redis did not answer in time, those who wait are told so too: each has waited as long, and
        one after the other they would wait for ever longer.
        """
        for errand in leader.batch:
            if errand is not leader:
                errand.turn.release()
        with self._lock:
            if isinstance(leader.done, RedisTimeoutError):
                for errand in self._waiting:
                    errand.done = leader.done
                    errand.turn.release()
                self._waiting = []
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._under_way = bool(batch)
        if batch:
            batch[0].batch = batch
            batch[0].turn.release()

    def _carry(self, batch: list[_Errand]) -> None:
        try:
            if len(batch) == 1:
                batch[0].done = _run(batch[0])
                return
            pipe = self._redis.pipeline(transaction=False)
            for errand in batch:
                pipe.evalsha(errand.script.sha, len(errand.keys), *errand.keys, *errand.args)
            for errand, reply in zip(batch, pipe.execute(raise_on_error=False), strict=True):
                errand.done = reply
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for errand in batch:
                errand.done = error
            return
        except BaseException:
            _fail(batch)
            raise
        for errand in batch:
            if isinstance(errand.done, NoScriptError):
                # Redis was restarted and has forgotten its scripts.
                self._alone(errand)

    @staticmethod
    def _alone(errand: _Errand) -> None:
        try:
            errand.done = _run(errand)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            errand.done = error


def _run(errand: _Errand) -> Any:
    return errand.script(keys=errand.keys, args=errand.args)


def _fail(batch: list[_Errand]) -> None:
    for errand in batch:
        errand.done = RedisConnectionError("the call was cut short")
