"""Jobs as Celery task events, and revoke as cancel."""

from typing import Any

import pytest
from celery.worker.control import Panel

from shared.jobs import JobStore
from shared.records import Claim, NewJob, new_job_id
from shared.states import JobState
from tests.conftest import eventually
from workers import flower
from workers.flower import REDACTED, FlowerEvents, answer_revoke


class Dispatcher:
    """What FlowerEvents sees of Celery's event dispatcher."""

    def __init__(self) -> None:
        self.enabled = True
        self.broken = False
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.flushes = 0

    def send(self, event: str, **fields: Any) -> None:
        if self.broken:
            raise OSError("no broker")
        self.sent.append((event, fields))

    def flush(self) -> None:
        self.flushes += 1


def a_claim() -> Claim:
    return Claim(new_job_id(), 2, "t", b'{"content":"secret"}', 9.0, 0, 0, 0, 0, "", "")


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("succeeded", "task-succeeded"),
        ("failed", "task-failed"),
        ("canceled", "task-revoked"),
        ("expired", "task-revoked"),
        ("retried", "task-retried"),
        ("fenced", "task-retried"),
    ],
)
def test_a_job_is_a_task_with_its_id_and_nothing_of_its_content(state: str, event: str) -> None:
    dispatcher = Dispatcher()
    events = FlowerEvents("echo", lambda: dispatcher)
    events.start()
    claim = a_claim()
    events.job_claimed(claim)
    events.job_ended(claim, state, 1.5, "why")
    eventually(lambda: len(dispatcher.sent) == 3)
    events.stop()
    assert [name for name, _ in dispatcher.sent] == ["task-received", "task-started", event]
    assert {fields["uuid"] for _, fields in dispatcher.sent} == {claim.id}
    received = dispatcher.sent[0][1]
    assert (received["name"], received["args"], received["retries"]) == ("infer.echo", REDACTED, 1)
    assert "secret" not in repr(dispatcher.sent)


def test_events_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = Dispatcher()
    events = FlowerEvents("echo", lambda: dispatcher)
    for _ in range(100):
        events.job_claimed(a_claim())
    events.start()
    events.stop()
    assert len(dispatcher.sent) == 200 and dispatcher.flushes <= 2


def test_without_a_broker_events_are_bounded_and_break_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatcher = Dispatcher()
    dispatcher.broken = True
    events = FlowerEvents("echo", lambda: dispatcher)
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
