"""Script calls that meet on their way to Redis leave together, in one pipeline.

The first caller leads: it sends its call at once. Calls that come while it waits gather, and one of
their callers leads them next. A lone caller pays nothing; sixty at once pay for a few round trips
and system calls instead of sixty. Works alike under threads and greenlets.

Calls of a script that takes many things become one command of that script: what Redis pays for a call of
a script, making all of its functions among it, is paid once for them (docs/decisions/0054).

Since only one batch is on its way at a time it keeps a connection: taking one from the pool for every
call costs redis-py more than the call itself (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.locks import Wakeup, brief_lock

MOST = 64
"""Calls in one pipeline: how long a call may wait for those before it is bounded by as many scripts."""
MOST_THINGS = 16
"""Calls in one command. Redis serves nobody else meanwhile: 16 creations take it 1.5 to 2.5 ms."""
MOST_BYTES = 256 * 1024
"""Of all calls in one command. A larger one goes alone, so that nobody's small job waits for its bytes."""


class _PendingCall:
    """One call: its answer, or the order to lead the next batch. `turn` comes to one that has to wait.

    `joins`: its script takes many arguments and answers each, so such calls become one command. `gone`: its
    caller was killed, so it can lead nobody.
    """

    __slots__ = ("args", "batch", "done", "gone", "joins", "keys", "script", "turn")
    turn: Wakeup

    def __init__(
        self, script: Script, args: tuple[Any, ...], keys: tuple[str, ...], joins: bool
    ) -> None:
        self.script = script
        self.args = args
        self.keys = keys
        self.joins = joins
        self.gone = False
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
        return self._watched(_PendingCall(script, args, keys, joins=False))

    def call_for(self, script: Script, thing: bytes) -> Any:
        """What a script that takes many things answers for this one. Raises what redis-py raises.

        The script answers with a list, an item for each of its arguments in order; an error among them is
        that one's alone.
        """
        return self._watched(_PendingCall(script, (thing,), (), joins=True))

    def _watched(self, call: _PendingCall) -> Any:
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
                self._carry(call)
            finally:
                self._hand_over(call)
        return call.answer()

    def _wait(self, call: _PendingCall) -> None:
        try:
            call.turn.wait()
        except BaseException:
            # The caller is being killed. Should it be its turn to lead, the others must not wait; nor may it
            # come to lead them later, should the one that carries its call now be killed too.
            call.gone = True
            with self._lock:
                if call in self._waiting:
                    self._waiting.remove(call)
            if call.batch:
                self._give_back(call)
                self._hand_over(call)
            raise

    def _give_back(self, leader: _PendingCall) -> None:
        """Put the others of its batch who still wait before all other calls: their leader is being killed.

        What has been done for them already is done again, to the same effect.
        """
        others = [call for call in leader.batch if call is not leader and not call.gone]
        leader.batch = [leader]
        with self._lock:
            self._waiting[:0] = others

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

    def _carry(self, leader: _PendingCall) -> None:
        batch = leader.batch
        try:
            commands = _commands(batch)
            for command, reply in zip(commands, self._exchange(commands), strict=True):
                _hand_out(command, reply)
            for call in batch:
                if isinstance(call.done, NoScriptError):
                    # Redis was restarted and has forgotten its scripts.
                    self._alone(call)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for call in batch:
                call.done = error
        except BaseException:
            self._give_back(leader)
            raise

    def _exchange(self, commands: Sequence[list[_PendingCall]]) -> list[Any]:
        """The replies, errors of single commands among them. Raises what befalls all of them."""
        connection = self._connected()
        # In one piece: redis-py would send it in several, and looks at the type of every argument first.
        packed = b"".join(map(_packed, commands))

        def exchange() -> list[Any]:
            # Does nothing where it is connected. Sending connects too, but past the Sentinels.
            connection.connect()
            connection.send_packed_command((packed,))
            return [_reply(connection) for _ in commands]

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
            _hand_out([call], call.script(keys=call.keys, args=call.args))
        except Exception as error:  # noqa: BLE001 - the caller gets it
            call.done = error


def _commands(batch: Sequence[_PendingCall]) -> list[list[_PendingCall]]:
    """The calls of a batch by the command that carries them."""
    commands: list[list[_PendingCall]] = []
    open_ones: dict[str, tuple[list[_PendingCall], int]] = {}
    for call in batch:
        if not call.joins:
            commands.append([call])
            continue
        command, size = open_ones.get(call.script.sha, ([], 0))
        size += len(call.args[0])
        if not command or len(command) == MOST_THINGS or size > MOST_BYTES:
            command, size = [], len(call.args[0])
            commands.append(command)
        command.append(call)
        open_ones[call.script.sha] = command, size
    return commands


def _packed(command: Sequence[_PendingCall]) -> bytes:
    first = command[0]
    args = first.args if len(command) == 1 else tuple(call.args[0] for call in command)
    packed: bytes = pack_command(
        (b"EVALSHA", first.script.sha, len(first.keys), *first.keys, *args)
    )
    return packed


def _hand_out(command: Sequence[_PendingCall], reply: Any) -> None:
    """Each call's own answer; an error of the command is everybody's."""
    if not command[0].joins or isinstance(reply, Exception):
        for call in command:
            call.done = reply
        return
    for call, own in zip(command, reply, strict=True):
        call.done = own


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
