"""What a worker hears on its channels, also after the connection was lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.store.jobs import JobStore
from tests.conftest import eventually
from workers.queue.control_listener import ControlListener

MODEL = "m"
CHANNELS = 3
"""The claimer looks again when the listener has subscribed to each."""


class Worker:
    """What a message reaches, in the executor's and the claimer's place."""

    def __init__(self) -> None:
        self.canceled: list[str] = []
        self.looks = 0
        self.claims = 0
        self.subscribed = 0

    def cancel(self, job_id: str) -> None:
        self.canceled.append(job_id)

    def look_again(self) -> None:
        self.looks += 1

    def claim_now(self) -> None:
        self.claims += 1

    def count(self) -> None:
        self.subscribed += 1


class Scene:
    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.worker = Worker()
        parts: Any = self.worker
        self.listener = ControlListener(store, parts, parts, MODEL, "w", self.worker.count)
        self.listener.start()

    def publish(self, channel: str, message: str, to: str = MODEL) -> None:
        self.store.redis.publish(self.store.keys(channel, to), message)


@pytest.fixture
def scene(store: JobStore) -> Iterator[Scene]:
    made = Scene(store)
    eventually(lambda: made.worker.subscribed == CHANNELS, what="it subscribed")
    yield made
    made.listener.stop()
    assert not made.listener._thread.is_alive()


def test_messages_reach_the_executor_and_the_claimer(scene: Scene) -> None:
    worker, before = scene.worker, scene.worker.looks
    scene.publish("control", "cancel job_1")
    scene.publish("wake", "1")
    eventually(lambda: worker.looks == before + 1, what="all were notified")
    assert worker.canceled == ["job_1"]
    scene.publish("rouse", "1", "another")
    scene.publish("rouse", "1", "w")
    eventually(lambda: worker.claims, what="this one was notified")
    assert worker.claims == 1 and worker.looks == before + 1


def test_a_lost_connection_is_made_again_and_what_was_missed_is_looked_for(scene: Scene) -> None:
    worker, before = scene.worker, scene.worker.looks
    redis: Any = scene.store.redis
    redis.client_kill_filter(_type="pubsub")
    eventually(lambda: worker.looks == before + CHANNELS, what="it looks for what it has missed")
    scene.publish("control", "cancel job_2")
    eventually(lambda: worker.canceled == ["job_2"], what="it hears again")
