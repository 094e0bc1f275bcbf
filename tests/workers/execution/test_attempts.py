"""Which attempts the engine has, which wait, and whose an attempt is no more."""

from shared.domain.records import Claim, new_job_id
from workers.execution.attempt import Attempt
from workers.execution.attempts import Attempts


def attempt(crashes: int = 0) -> Attempt:
    return Attempt.of(Claim(new_job_id(), 2, "t", b"{}", 9.0, 0, 0, 0, crashes, "", ""))


def table(*attempts: Attempt) -> Attempts:
    made = Attempts()
    for one in attempts:
        made.add(one)
    return made


def test_who_waits_in_quarantine_is_not_lost_with_the_host() -> None:
    clean, suspect = attempt(), attempt(crashes=1)
    attempts = table(clean, suspect)
    assert attempts.in_engine() == [clean.ticket] and attempts.waiting() == (suspect,)
    assert attempts.next_group(8) == [], "the engine holds another"
    attempts.remove(clean.ticket)
    assert attempts.next_group(8) == [suspect] and attempts.in_engine() == [suspect.ticket]


def test_only_a_single_suspect_has_crashed_before() -> None:
    clean, suspect = attempt(), attempt(crashes=1)
    attempts = table(clean, suspect)
    assert attempts.crashed_before([suspect.ticket])
    assert not attempts.crashed_before([clean.ticket])
    assert not attempts.crashed_before([clean.ticket, suspect.ticket])
    assert not attempts.crashed_before(["gone"]) and not attempts.crashed_before([])


def test_a_cancel_tells_who_is_in_the_engine_from_who_waits() -> None:
    clean, suspect = attempt(), attempt(crashes=1)
    attempts = table(clean, suspect)
    assert attempts.tickets_of(clean.claim.id) == ([], [clean.ticket])
    assert attempts.tickets_of(suspect.claim.id) == ([suspect.ticket], [])
    assert not attempts.quarantined, "it waits no longer"


def test_an_attempt_is_fenced_once_and_its_lease_is_renewed_no_more() -> None:
    one, other = attempt(), attempt()
    attempts = table(one, other)
    assert attempts.fence(one) and not attempts.fence(one)
    assert one.fenced and attempts.leases() == [(other.claim.id, 2)]
    assert attempts.remove(one.ticket) is None and len(attempts) == 1
