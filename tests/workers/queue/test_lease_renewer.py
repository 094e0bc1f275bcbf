"""What the keeper hears: words for its worker, also after its connection was lost."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared.store.jobs import JobStore
from tests.conftest import eventually
from workers.queue.doorbells import Doorbells
from workers.queue.lease_renewer import LeaseRenewer

MODEL = "m"
CHANNELS = 3
"""The keeper looks around when it has subscribed to each."""


class Executor:
    """Only what a word of the control channel reaches."""

    def __init__(self) -> None:
        self.canceled: list[str] = []

    def cancel(self, job_id: str) -> None:
        self.canceled.append(job_id)


class Heard:
    """A keeper of which only the listening thread runs."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.executor = Executor()
        self.wakes: list[None] = []
        self.calls: list[None] = []
        parts: Any = self.executor
        self.keeper = LeaseRenewer(
            store,
            parts,
            MODEL,
            "w",
            lambda: "",
            lambda: self.calls.append(None),
            lambda: self.wakes.append(None),
            lambda: 0,
            Doorbells(lambda: None, store.lease),
        )
        self._thread = threading.Thread(target=self.keeper._listen, daemon=True)
        self._thread.start()

    def say(self, channel: str, word: str, to: str = MODEL) -> int:
        redis: Any = self.store.redis
        heard: int = redis.publish(self.store.keys(channel, to), word)
        return heard

    def stop(self) -> None:
        self.keeper._stopped.set()
        self.say("rouse", "over", "w")
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()


@pytest.fixture
def heard(store: JobStore) -> Iterator[Heard]:
    made = Heard(store)
    eventually(lambda: len(made.wakes) == CHANNELS, 10, "it subscribed")
    yield made
    made.stop()


def test_words_reach_the_executor_and_the_drain(heard: Heard) -> None:
    before = len(heard.wakes)
    heard.say("control", "cancel job_1")
    heard.say("wake", "1")
    eventually(lambda: len(heard.wakes) == before + 1, 10, "the drain is woken")
    assert heard.executor.canceled == ["job_1"]
    heard.say("rouse", "1", "another")
    heard.say("rouse", "1", "w")
    eventually(lambda: heard.calls, 10, "it is called")
    assert len(heard.calls) == 1 and len(heard.wakes) == before + 1


def test_a_lost_connection_is_made_again_and_what_was_missed_is_looked_for(heard: Heard) -> None:
    before = len(heard.wakes)
    redis: Any = heard.store.redis
    redis.client_kill_filter(_type="pubsub")
    eventually(lambda: len(heard.wakes) == before + CHANNELS, 10, "it looks for what it has missed")
    heard.say("control", "cancel job_2")
    eventually(lambda: heard.executor.canceled == ["job_2"], 10, "it hears again")
