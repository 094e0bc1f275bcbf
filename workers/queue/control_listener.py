"""Hears what the store publishes for a worker: jobs to claim, cancels, a breaker that was reset.

A message may be lost: the answer to a beat names the cancels that wait, and a drain looks for itself.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from shared.redis.connection import heard, subscriber
from shared.store.jobs import JobStore
from workers.execution.executor import Executor
from workers.queue.claimer import Claimer

LISTEN_SECONDS = 5.0
ANSWER_SECONDS = 2.0
"""For the answer to a PING, after which a silent connection counts as lost."""
OVER = "over"
"""A message that means nothing: the listener looks up, and sees that it has been stopped."""

_log = logging.getLogger(__name__)


class ControlListener:
    """One thread that listens for `worker`. `subscribed` is called for every channel it begins to hear."""

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        claimer: Claimer,
        model: str,
        worker: str,
        subscribed: Callable[[], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._claimer = claimer
        self._subscribed = subscribed
        # The keys keep the names that other versions of the API and of workers publish to.
        self._own = store.keys("rouse", worker)
        self._all = store.keys("wake", model)
        self._control = store.keys("control", model)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        with suppress(RedisError):
            self._store.redis.publish(self._own, OVER)
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            connection: Any = None
            try:
                connection = subscriber(self._store.redis.connection_pool, LISTEN_SECONDS)
                connection.send_command(
                    "SUBSCRIBE", self._own, self._all, self._control, check_health=False
                )
                while not self._stopped.is_set():
                    self._hear(heard(connection, ANSWER_SECONDS))
            except Exception as error:  # noqa: BLE001 - whatever ended it, the cure is to listen anew
                _log.warning("control channel lost (%s); listening again", type(error).__name__)
                self._stopped.wait(0.5)
            finally:
                if connection is not None:
                    connection.disconnect()

    def _hear(self, message: list[Any]) -> None:
        if message[0] == b"subscribe":
            # What was published before went unheard.
            self._claimer.look_again()
            self._subscribed()
        if message[0] != b"message":
            return
        channel, (word, _, job_id) = message[1].decode(), message[2].decode().partition(" ")
        if channel == self._own:
            if word != OVER:
                self._claimer.claim_now()
        elif word == "cancel":
            self._executor.cancel(job_id)
        elif word == "reset":
            self._executor.breaker.reset()
            self._claimer.look_again()
        else:
            self._claimer.look_again()
