"""The audit log: written before the change, bounded by kind, by tenant and in all, read a page at a time."""

import pytest
from redis import Redis

from shared.domain.audit import BEGUN, DONE, KEPT_SECONDS, Action, Change, Kind, Via, new_change_id
from shared.domain.errors import InvalidRequest, JobsError, StoreUnavailable
from shared.store import audit
from shared.store.audit import AuditLog, Wanted
from shared.store.jobs import JobStore


def change(tenant: str = "t", action: Action = Action.JOB_CANCEL, at: int | None = None) -> Change:
    made = new_change_id()
    if at is not None:
        made = f"audit_{at:012x}{made[18:]}"
    return Change(made, tenant, Via.API, action, "127.0.0.1", key_id="k")


def write(store: JobStore, *changes: Change) -> list[str]:
    for one in changes:
        with AuditLog(store).record(one):
            pass
    return [one.id for one in changes]


def ids(store: JobStore, tenant: str | None = None) -> list[str]:
    return [one.id for one in AuditLog(store).listing(tenant, limit=100)[0]]


def test_a_change_is_there_before_it_is_made_and_says_how_it_went(store: JobStore) -> None:
    log = AuditLog(store)
    with log.record(change()) as made:
        made.of("job_1", "job_2", note="two\n of\x1b[31m them")
        ([seen], _) = log.listing(None, limit=5)
        assert (seen.id, seen.outcome) == (made.id, BEGUN)

    ([after], cursor) = log.listing("t", limit=5)
    assert (after.outcome, after.targets, cursor) == (DONE, ["job_1", "job_2"], None)
    assert after.note == "two of[31m them"
    ttl = store.redis.ttl(store.keys("auditentry", after.id))
    assert KEPT_SECONDS - 60 < ttl <= KEPT_SECONDS


def test_what_is_refused_is_an_entry_too(store: JobStore) -> None:
    for error in (JobsError("no", code="job_not_found"), KeyError("x")):
        with pytest.raises(type(error)), AuditLog(store).record(change()):
            raise error

    found, _ = AuditLog(store).listing("t", limit=5)
    assert [one.outcome for one in found] == [audit.INTERRUPTED, "job_not_found"]


def test_without_redis_nothing_is_changed() -> None:
    away = JobStore(Redis.from_url("redis://127.0.0.1:1/0"), "p")
    made = False
    with pytest.raises(StoreUnavailable), AuditLog(away).record(change()):
        made = True
    assert not made


def test_a_full_redis_keeps_no_administrator_from_ending_what_fills_it(store: JobStore) -> None:
    limit = store.redis.config_get("maxmemory")["maxmemory"]
    store.redis.config_set("maxmemory", 1)
    try:
        (made,) = write(store, change())
        assert [one.outcome for one in AuditLog(store).listing("t", limit=1)[0]] == [DONE]
        assert ids(store) == [made]
    finally:
        store.redis.config_set("maxmemory", limit)


def test_tenants_are_apart_and_the_operator_sees_all(store: JobStore) -> None:
    made = write(store, change("a", at=1_900_000_000_000), change("b", at=1_900_000_000_001))

    assert ids(store, "a") == made[:1] and ids(store, "b") == made[1:]
    assert ids(store) == made[::-1]


def test_the_oldest_go_where_there_are_too_many(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(audit.KEPT, Kind.WORK, (3, 4))
    start = 1_900_000_000_000
    of_a = write(store, *(change("a", at=start + n) for n in range(5)))
    assert ids(store, "a") == ids(store) == of_a[:1:-1]

    of_b = write(store, *(change("b", at=start + 10 + n) for n in range(2)))

    assert ids(store) == [*of_b[::-1], *of_a[:2:-1]]
    assert ids(store, "a") == of_a[:2:-1], "what the bound of all took is passed over"
    assert len(list(store.redis.scan_iter(store.keys("auditentry", "*")))) == 4


def test_what_is_older_than_it_is_kept_leaves_the_indexes(store: JobStore) -> None:
    write(store, change(at=1))
    made = write(store, change())

    assert ids(store) == ids(store, "t") == made
    assert store.redis.zcard(store.keys("audit", Kind.WORK)) == 1


def test_many_changes_of_one_kind_push_none_of_another_out(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in Kind:
        monkeypatch.setitem(audit.KEPT, kind, (2, 2))
    start = 1_900_000_000_000
    kinds = (Action.KEY_REVOKE, Action.SESSION_BEGIN, Action.SESSION_REFUSE)
    few = write(store, *(change("t", one, at=start + n) for n, one in enumerate(kinds)))

    many = write(store, *(change("t", at=start + 10 + n) for n in range(5)))

    assert ids(store) == ids(store, "t") == [*many[:2:-1], *few[::-1]]


def test_a_span_of_time_holds_its_begin_and_not_its_end(store: JobStore) -> None:
    start = 1_900_000_000_000
    actions = (Action.JOB_CANCEL, Action.KEY_CREATE, Action.SESSION_BEGIN, Action.JOB_RETRY)
    made = write(store, *(change("t", one, at=start + n) for n, one in enumerate(actions)))
    log = AuditLog(store)

    def listed(wanted: Wanted, cursor: str | None = None) -> list[str]:
        return [one.id for one in log.listing("t", wanted, limit=9, cursor=cursor)[0]]

    assert listed(Wanted(since=start + 1, until=start + 3)) == made[2:0:-1]
    assert listed(Wanted(since=start + 4)) == listed(Wanted(until=start)) == []
    assert listed(Wanted(since=-1, until=2**60)) == made[::-1]
    assert listed(Wanted(since=start + 1), cursor=made[3]) == made[2:0:-1]
    assert listed(Wanted(until=start + 2), cursor=made[3]) == made[1::-1]
    assert listed(Wanted(action=Action.KEY_CREATE, since=start)) == made[1:2]


def test_pages_follow_one_another_and_a_filter_looks_at_so_many(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CHUNK", 2)
    monkeypatch.setattr(audit, "SCAN", 4)
    start = 1_900_000_000_000
    made = write(store, *(change(at=start + n) for n in range(7)))[::-1]
    log = AuditLog(store)

    first, cursor = log.listing("t", limit=3)
    rest, end = log.listing("t", limit=9, cursor=cursor)
    assert [one.id for one in first] == made[:3] and [one.id for one in rest] == made[3:7]
    assert cursor == made[2] and end == made[6]
    assert log.listing("t", limit=3, cursor=end) == ([], None)

    none, cursor = log.listing("t", Wanted(by="nobody"), limit=3)
    assert none == [] and cursor == made[3]
    assert [one.id for one in log.listing("t", limit=1, cursor=made[5])[0]] == made[6:]
    with pytest.raises(InvalidRequest):
        log.listing("t", limit=3, cursor="job_1")
