"""Jobs as Celery task events, and revoke as cancel."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.events.dispatcher import EventDispatcher
from celery.events.state import State
from celery.worker.control import Panel

from shared.domain.records import Claim, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.conftest import eventually
from workers.operations import flower
from workers.operations.flower import REDACTED, FlowerEvents, answer_revoke


class Listener:
    """Celery's own dispatcher and receiver over a broker in memory, as a worker and Flower have them."""

    def __init__(self) -> None:
        self.app = Celery("tests", broker="memory://")
        self.connection = self.app.connection_for_write()
        self.state = State()
        self.heard: list[dict[str, Any]] = []
        self.messages = 0
        self._receiver = self.app.events.Receiver(self.connection, handlers={"*": self._hear})
        self._receiver.queue.bind(self.connection.default_channel).declare()
        self.dispatcher = EventDispatcher(self.connection, hostname="w@h", app=self.app)
        self._publish = self.dispatcher.producer.publish
        self.dispatcher.producer.publish = self._count

    def _hear(self, event: dict[str, Any]) -> None:
        self.state.event(dict(event))
        self.heard.append(event)

    def _count(self, *args: Any, **options: Any) -> Any:
        self.messages += 1
        return self._publish(*args, **options)

    def cut(self) -> None:
        """Let nothing through."""
        self.dispatcher.producer.publish = self._refuse

    def mend(self) -> None:
        self.dispatcher.producer.publish = self._count

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise OSError("no broker")

    def listen(self) -> list[dict[str, Any]]:
        """All that has come by now."""
        while message := self._receiver.queue(self.connection.default_channel).get(no_ack=True):
            self._receiver._receive(message.decode(), message)
        return self.heard


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.connection.release()


def a_claim() -> Claim:
    return Claim(new_job_id(), 2, "t", b'{"content":"secret"}', 9.0, 0, 0, 0, 0, "", "")


@pytest.mark.parametrize(
    ("state", "event", "shown"),
    [
        ("succeeded", "task-succeeded", "SUCCESS"),
        ("failed", "task-failed", "FAILURE"),
        ("canceled", "task-revoked", "REVOKED"),
        ("expired", "task-revoked", "REVOKED"),
        ("retried", "task-retried", "RETRY"),
        ("fenced", "task-retried", "RETRY"),
    ],
)
def test_a_job_is_a_task_with_its_id_and_nothing_of_its_content(
    listener: Listener, state: str, event: str, shown: str
) -> None:
    events = FlowerEvents("echo", lambda: listener.dispatcher)
    events.start()
    claim = a_claim()
    events.job_claimed(claim)
    events.job_ended(claim, state, 1.5, "why")
    eventually(lambda: len(listener.listen()) == 3)
    events.stop()
    assert [said["type"] for said in listener.heard] == ["task-received", "task-started", event]
    task = listener.state.tasks[claim.id]
    assert (task.state, task.name, task.args) == (shown, "infer.echo", REDACTED)
    assert (task.retries, task.worker.hostname) == (1, "w@h")
    assert task.received and task.started
    assert "secret" not in repr(listener.heard)


def test_events_leave_together(listener: Listener) -> None:
    events = FlowerEvents("echo", lambda: listener.dispatcher)
    for _ in range(100):
        events.job_claimed(a_claim())
    events.start()
    events.stop()
    assert len(listener.listen()) == 200 and listener.messages == 1


def test_what_did_not_leave_leaves_later_in_order_and_once(listener: Listener) -> None:
    events = FlowerEvents("echo", lambda: listener.dispatcher)
    claims = [a_claim() for _ in range(10)]
    listener.cut()
    for claim in claims[:5]:
        events.job_claimed(claim)
    events._flush()
    listener.mend()
    for claim in claims[5:]:
        events.job_claimed(claim)
    events._flush()
    received = [said["uuid"] for said in listener.listen() if said["type"] == "task-received"]
    assert received == [claim.id for claim in claims]


def test_nothing_is_sent_while_task_events_are_turned_off(listener: Listener) -> None:
    events = FlowerEvents("echo", lambda: listener.dispatcher)
    listener.dispatcher.groups = {"worker"}
    events.job_claimed(a_claim())
    events._flush()
    listener.dispatcher.groups = {"worker", "task"}
    events._flush()
    assert listener.listen() == []


def test_without_a_broker_events_are_bounded_and_break_nothing(listener: Listener) -> None:
    listener.cut()
    events = FlowerEvents("echo", lambda: listener.dispatcher)
    events.start()
    for _ in range(flower.BUFFERED + 10):
        events.job_claimed(a_claim())
    events.stop()
    assert len(events._events) <= flower.BUFFERED


def test_revoke_cancels_jobs_and_leaves_other_tasks_to_celery(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[Any] = []
    monkeypatch.setattr(flower, "_celery_revoke", lambda _, ids, **__: passed_on.append(ids))
    monkeypatch.setitem(Panel.data, "revoke", Panel.data["revoke"])
    answer_revoke(store)
    job_id = new_job_id()
    store.create(NewJob(job_id, "m", "t", b"{}"), max_queued=10)

    said = Panel.data["revoke"](None, job_id, terminate=True)
    Panel.data["revoke"](None, ["another-task", new_job_id()])

    assert job_id in said["ok"]
    assert store.get(job_id).state is JobState.CANCELED
    assert passed_on == [["another-task"]]
