"""Script calls that meet on their way to Redis leave together, in one pipeline.

The first caller leads: it sends its call at once. Calls that come while it waits gather, and one of
their callers leads them next. A lone caller pays nothing; sixty at once pay for a few round trips
and system calls instead of sixty. Works alike under threads and greenlets.

Since only one batch is on its way at a time it keeps a connection: taking one from the pool for every
call costs redis-py more than the call itself (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.locks import Wakeup, brief_lock, wakeups

MOST = 64
"""Calls in one pipeline: how long a call may wait for those before it is bounded by as many scripts."""


class _Errand:
    """One call: its answer, or the order to lead the next batch. `turn` comes to one that has to wait."""

    __slots__ = ("args", "batch", "done", "keys", "script", "turn")
    turn: Wakeup

    def __init__(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...]) -> None:
        self.script = script
        self.args = args
        self.keys = keys
        self.done: Any = None
        self.batch: list[_Errand] = []

    def answer(self) -> Any:
        if isinstance(self.done, Exception):
            raise self.done
        return self.done


class ScriptPipeline:
    """Carries script calls. Only for scripts that may be repeated: a lost connection repeats a batch.

    `around` may be set to watch calls: each is made inside a context of its own.
    """

    def __init__(self, redis: Redis) -> None:
        self.around: Callable[[], AbstractContextManager[object]] | None = None
        self._redis = redis
        self._connection: Any = None
        self._lock = brief_lock()
        self._wakeup = wakeups()
        self._waiting: list[_Errand] = []
        self._under_way = False

    def call(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...] = ()) -> Any:
        """The script's answer. Raises what redis-py raises."""
        if self.around is None:
            return self._call(_Errand(script, args, keys))
        with self.around():
            return self._call(_Errand(script, args, keys))

    def _call(self, errand: _Errand) -> Any:
        with self._lock:
            leads = not self._under_way
            self._under_way = True
            if not leads:
                errand.turn = self._wakeup()
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
            errand.turn.wait()
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
                errand.turn.wake()
        with self._lock:
            if isinstance(leader.done, RedisTimeoutError):
                for errand in self._waiting:
                    errand.done = leader.done
                    errand.turn.wake()
                self._waiting = []
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._under_way = bool(batch)
        if batch:
            batch[0].batch = batch
            batch[0].turn.wake()

    def _carry(self, batch: list[_Errand]) -> None:
        try:
            for errand, reply in zip(batch, self._exchange(batch), strict=True):
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

    def _exchange(self, batch: Sequence[_Errand]) -> list[Any]:
        """The replies, errors of single calls among them. Raises what befalls all of them."""
        connection = self._connected()
        # In one piece: redis-py would send it in several, and looks at the type of every argument first.
        packed = b"".join(
            pack_command(
                (b"EVALSHA", errand.script.sha, len(errand.keys), *errand.keys, *errand.args)
            )
            for errand in batch
        )

        def exchange() -> list[Any]:
            # Does nothing where it is connected. Sending connects too, but past the Sentinels.
            connection.connect()
            connection.send_packed_command((packed,))
            return [_reply(connection) for _ in batch]

        try:
            return connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())  # type: ignore[no-any-return]
        except BaseException:
            # Whatever is still to come would be taken for the answers of others.
            connection.disconnect()
            raise

    def _connected(self) -> Any:
        """Of the pool's kind, but not of its number: it never goes back."""
        if self._connection is None:
            pool: Any = self._redis.connection_pool
            self._connection = pool.connection_class(**pool.connection_kwargs)
        return self._connection

    @staticmethod
    def _alone(errand: _Errand) -> None:
        try:
            errand.done = errand.script(keys=errand.keys, args=errand.args)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            errand.done = error


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _fail(batch: list[_Errand]) -> None:
    for errand in batch:
        errand.done = RedisConnectionError("the call was cut short")
