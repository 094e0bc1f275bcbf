"""Suspects run apart, in ever smaller company."""

from shared.domain.records import Claim, new_job_id
from workers.execution.attempt import Attempt
from workers.execution.quarantine import Quarantine


def suspect(crashes: int) -> Attempt:
    claim = Claim(new_job_id(), 2, "t", b"{}", 9.0, 0, 0, 0, crashes, "", "")
    return Attempt.of(claim)


def test_after_one_crash_a_quarter_of_the_engine_runs_together() -> None:
    quarantine = Quarantine()
    attempts = [suspect(1) for _ in range(10)]
    for attempt in attempts:
        quarantine.put(attempt)
    first = quarantine.next_group(16)
    assert first == attempts[:4] and quarantine.next_group(16) == []
    for attempt in first:
        assert not quarantine.remove(attempt.ticket)
    assert quarantine.next_group(16) == attempts[4:8]


def test_after_two_crashes_a_job_runs_alone() -> None:
    quarantine = Quarantine()
    attempts = [suspect(1), suspect(2), suspect(2)]
    for attempt in attempts:
        quarantine.put(attempt)
    for attempt in attempts:
        assert quarantine.next_group(16) == [attempt]
        quarantine.remove(attempt.ticket)
    assert not quarantine


def test_who_waits_has_never_been_in_the_engine() -> None:
    quarantine = Quarantine()
    running, waiting = suspect(2), suspect(2)
    quarantine.put(running)
    quarantine.put(waiting)
    quarantine.next_group(8)
    assert quarantine.waiting == (waiting,)
    assert quarantine.remove(waiting.ticket) and not quarantine.remove(running.ticket)
    assert not quarantine
