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

from shared.locks import Wakeup, brief_lock

MOST = 64
"""Calls in one pipeline: how long a call may wait for those before it is bounded by as many scripts."""


class _PendingCall:
    """One call: its answer, or the order to lead the next batch. `turn` comes to one that has to wait."""

    __slots__ = ("args", "batch", "done", "keys", "script", "turn")
    turn: Wakeup

    def __init__(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...]) -> None:
        self.script = script
        self.args = args
        self.keys = keys
        self.done: Any = None
        self.batch: list[_PendingCall] = []

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
        self._waiting: list[_PendingCall] = []
        self._under_way = False

    def call(self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...] = ()) -> Any:
        """The script's answer. Raises what redis-py raises."""
        call = _PendingCall(script, args, keys)
        if self.around is None:
            return self._call(call)
        with self.around():
            return self._call(call)

    def _call(self, call: _PendingCall) -> Any:
        with self._lock:
            leads = not self._under_way
            self._under_way = True
            if not leads:
                call.turn = Wakeup()
                self._waiting.append(call)
        if leads:
            call.batch = [call]
        else:
            self._wait(call)
        if call.batch:
            try:
                self._carry(call.batch)
            finally:
                self._hand_over(call)
        return call.answer()

    def _wait(self, call: _PendingCall) -> None:
        try:
            call.turn.wait()
        except BaseException:
            # The caller is being killed. Should it be its turn to lead, the others must not wait.
            with self._lock:
                if call in self._waiting:
                    self._waiting.remove(call)
            if call.batch:
                _fail(call.batch)
                self._hand_over(call)
            raise

    def _hand_over(self, leader: _PendingCall) -> None:
        """Let those who were carried go, and the first of those who wait lead.

        When Redis did not answer in time, those who wait are told so too: each has waited as long, and
        one after the other they would wait for ever longer.
        """
        for call in leader.batch:
            if call is not leader:
                call.turn.wake()
        late: list[_PendingCall] = []
        with self._lock:
            if isinstance(leader.done, RedisTimeoutError):
                late, self._waiting = self._waiting, []
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._under_way = bool(batch)
        for call in late:
            call.done = leader.done
            call.turn.wake()
        if batch:
            batch[0].batch = batch
            batch[0].turn.wake()

    def _carry(self, batch: list[_PendingCall]) -> None:
        try:
            for call, reply in zip(batch, self._exchange(batch), strict=True):
                call.done = reply
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for call in batch:
                call.done = error
            return
        except BaseException:
            _fail(batch)
            raise
        for call in batch:
            if isinstance(call.done, NoScriptError):
                # Redis was restarted and has forgotten its scripts.
                self._alone(call)

    def _exchange(self, batch: Sequence[_PendingCall]) -> list[Any]:
        """The replies, errors of single calls among them. Raises what befalls all of them."""
        connection = self._connected()
        # In one piece: redis-py would send it in several, and looks at the type of every argument first.
        packed = b"".join(
            pack_command((b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))
            for call in batch
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
    def _alone(call: _PendingCall) -> None:
        try:
            call.done = call.script(keys=call.keys, args=call.args)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            call.done = error


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _fail(batch: list[_PendingCall]) -> None:
    for call in batch:
        call.done = RedisConnectionError("the call was cut short")
