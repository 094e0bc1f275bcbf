"""Single flight in the job store: who follows whose execution, and that nobody is lost."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from shared.domain.creation import Cached, Followed
from shared.domain.events import Prefix
from shared.domain.records import Append, new_job_id
from shared.domain.states import JobState
from shared.store.events import EventLog
from shared.store.jobs import JobStore
from shared.store.lua_constants import FOLLOWERS_MAX, LANDED_BYTES
from shared.store.scripts import names
from tests.shared.store.sharing import (
    CALL,
    MODEL,
    MORE,
    OUTPUT,
    ask,
    claim,
    ended,
    kinds,
    run,
    runs,
    say,
    served,
    share,
    state,
    succeed,
)


@pytest.mark.parametrize(
    ("tenant", "digest"), [("other", "d"), ("t", "another")], ids=["tenant", "request"]
)
def test_another_tenant_or_request_shares_nothing(
    store: JobStore, tenant: str, digest: str
) -> None:
    run(store)
    assert runs(ask(store, tenant, share=share(digest)))


def test_followers_share_one_execution_and_its_stream(store: JobStore) -> None:
    leader, early = ask(store), ask(store)
    [held] = claim(store)
    assert say(store, held, 1, "he", 1)
    late = ask(store)
    assert say(store, held, 2, "llo", 2)
    before = [store.streamed(job.id) for job in (early, late)]
    succeed(store, held)

    assert held.id == leader.id and claim(store) == []
    assert before == [("hello", (1, 2), False, (), "")] * 2
    for job in (early, late):
        assert isinstance(job, Followed)
        assert served(store.get(job.id)) == ("succeeded", True, json.loads(OUTPUT), 0, None)
        assert store.streamed(job.id)[0] == "hello"
    assert [kind for _, kind in kinds(store, late)] == ["status", "token", "token", "done"]


def test_followers_are_told_each_text_of_a_job_apart(store: JobStore) -> None:
    leader, early = ask(store), ask(store)
    [held] = claim(store)
    said = [("a", 0), ("x", 1), ("b", 0), ("y", 1), ("z", 1)]
    for seq, (text, choice) in enumerate(said, 1):
        if seq == 4:
            late = ask(store)
        data = json.dumps({"text": text, "index": 0} | ({"choice": choice} if choice else {}))
        store.write([Append(held.id, held.attempt, seq, "token", data.encode(), str(seq))])

    told = store.streamed(leader.id)
    assert told == ("ab", (1, 3), False, (Prefix("xyz", (2, 4, 5)),), "")
    assert [store.streamed(job.id) for job in (early, late)] == [told] * 2
    assert len(kinds(store, late)) == 1 + 2 + 2


def test_followers_are_told_the_parts_of_a_message(store: JobStore) -> None:
    leader = ask(store)
    [held] = claim(store)
    told: list[dict[str, Any]] = [
        {"text": "<think>a", "index": 0, "parts": [{"type": "reasoning", "text": "a"}]},
        {"text": "b</", "index": 1, "parts": [{"type": "reasoning", "text": "b"}]},
        {"text": "think>", "index": 2, "parts": []},
        {"text": "<tool_call>{", "index": 3, "parts": [CALL, {**CALL, "index": 1}]},
        {"text": "}", "index": 4, "parts": [MORE], "finish_reason": "stop"},
    ]
    for seq, data in enumerate(told, 1):
        event = json.dumps(data).encode()
        store.write([Append(held.id, held.attempt, seq, "token", event, str(seq))])
    late = ask(store)
    [nothing] = [{"text": "x", "index": 0, "parts": []}]
    store.write([Append(held.id, held.attempt, 6, "token", json.dumps(nothing).encode(), "6")])

    log = EventLog(store.redis, store.keys)
    whole, last = (json.loads(e.data) for e in log.read(late.id) if e.kind == "token")

    assert whole == {
        "text": "".join(data["text"] for data in told),
        "index": 0,
        "parts": [
            {"type": "reasoning", "text": "ab"},
            CALL,
            {**CALL, "index": 1, "arguments": '{"a":1}'},
        ],
        "finish_reason": "stop",
    }
    assert last == nothing
    assert store.streamed(late.id).finish_reason == ""
    assert store.streamed(leader.id) == store.streamed(late.id)


def test_followers_are_told_log_probabilities_as_they_are(store: JobStore) -> None:
    """An empty list stays one."""
    ask(store)
    [held] = claim(store)
    told = [
        json.dumps({"text": text, "index": n, "logprobs": [{"logprob": -0.25, "top": []}]}).encode()
        for n, text in enumerate("ab")
    ]
    for seq, data in enumerate(told, 1):
        store.write([Append(held.id, held.attempt, seq, "token", data, str(seq))])
    late = ask(store)

    log = EventLog(store.redis, store.keys).read(late.id)

    assert [event.data for event in log if event.kind == "token"] == told
    assert store.streamed(late.id)[:2] == ("ab", (1, 2))


def test_a_repeated_create_of_a_follower_makes_no_second(store: JobStore) -> None:
    ask(store)
    job_id = new_job_id()
    for _ in range(2):
        ask(store, id=job_id)
    [held] = claim(store)
    succeed(store, held)
    assert isinstance(ask(store, id=job_id), Cached)
    assert claim(store) == []


def test_other_tenants_run_their_own(store: JobStore) -> None:
    assert [runs(ask(store, tenant)) for tenant in ("t", "u")] == [True, True]


@pytest.mark.parametrize("running", [False, True])
def test_a_leader_that_is_canceled_leaves_the_work_to_the_next(
    store: JobStore, running: bool
) -> None:
    leader, second, third = (ask(store) for _ in range(3))
    if running:
        [held] = claim(store)
        say(store, held, 1, "he", 1)
    store.cancel(leader.id)
    if running:
        assert state(store, leader) == "running"
        ended(store, held, JobState.CANCELED)
    [now] = claim(store)

    assert now.id == second.id
    assert now.attempt == (2 if running else 1), "what it was told already is continued"
    assert say(store, now, 1, "llo" if running else "hello", 2)
    succeed(store, now)

    assert [state(store, job) for job in (leader, second, third)] == [
        *("canceled", "succeeded", "succeeded")
    ]
    assert [store.streamed(job.id)[0] for job in (second, third)] == ["hello"] * 2
    assert isinstance(ask(store), Cached)


def test_who_comes_after_a_cancel_was_asked_for_does_not_follow(store: JobStore) -> None:
    leader = ask(store)
    [held] = claim(store)
    store.cancel(leader.id)
    assert runs(ask(store))
    assert isinstance(ask(store), Followed)
    ended(store, held, JobState.CANCELED)
    [other] = claim(store)
    succeed(store, other)
    assert state(store, leader) == "canceled"


def test_a_failure_is_not_shared(store: JobStore) -> None:
    _, *others = (ask(store) for _ in range(4))
    [held] = claim(store)
    ended(store, held, JobState.FAILED)
    claims = claim(store)

    assert [c.id for c in claims] == [job.id for job in others]
    for one in claims:
        succeed(store, one)
    assert {state(store, job) for job in others} == {JobState.SUCCEEDED}
    assert not any(store.get(job.id).job().cached for job in others)


def test_a_lost_lease_loses_no_follower(store: JobStore) -> None:
    leader, other = ask(store), ask(store)
    redis: Any = store.redis
    for _ in range(3):
        assert [held.id for held in claim(store)] == [leader.id]
        redis.zadd(store.keys("leases", MODEL), {leader.id: 1})
        store.rescue(MODEL)
    assert state(store, leader) == "failed"
    [held] = claim(store)
    succeed(store, held)
    assert held.id == other.id and state(store, other) == "succeeded"


def test_a_leader_past_its_deadline_leaves_the_work_to_the_next(store: JobStore) -> None:
    leader, other = ask(store, expires_in=60.0), ask(store, expires_in=600.0)
    redis: Any = store.redis
    assert redis.ttl(store.keys("job", leader.id)) > 600, "it is there to tell of its end"
    redis.zadd(store.keys("deadlines", MODEL), {leader.id: 1})
    store.rescue(MODEL)
    assert state(store, leader) == "expired"
    assert [held.id for held in claim(store)] == [other.id]


def test_the_claim_that_finds_a_leader_past_its_deadline_hands_out_the_next(
    store: JobStore,
) -> None:
    leader, other = ask(store, expires_in=600.0), ask(store, expires_in=600.0)
    redis: Any = store.redis
    redis.hset(store.keys("job", leader.id), "deadline", 1)
    assert [held.id for held in claim(store)] == [other.id]
    assert state(store, leader) == "expired"


def test_a_follower_keeps_its_own_deadline_and_cancel(store: JobStore) -> None:
    leader, canceled, expiring = (ask(store) for _ in range(3))
    redis: Any = store.redis
    assert store.cancel(canceled.id) == "canceled"
    redis.zadd(store.keys("deadlines", MODEL), {expiring.id: 1})
    assert store.rescue(MODEL).expired == 1
    [held] = claim(store)
    succeed(store, held)
    assert [state(store, job) for job in (leader, canceled, expiring)] == [
        *("succeeded", "canceled", "expired")
    ]


def test_the_more_urgent_do_not_wait_behind_the_less_urgent(store: JobStore) -> None:
    low = ask(store, priority="low")
    high = ask(store, priority="high")
    assert not isinstance(high, Followed)
    assert isinstance(ask(store, priority="normal"), Followed)
    assert [held.id for held in claim(store)] == [high.id, low.id]


def test_followers_take_no_room_in_the_queue(store: JobStore) -> None:
    ask(store)
    other = ask(store, max_queued=1)
    assert isinstance(other, Followed) and store.status(MODEL).waiting == 1
    assert store.get(other.id).position is None


def test_a_full_flight_is_followed_by_another(store: JobStore) -> None:
    made = [ask(store) for _ in range(FOLLOWERS_MAX + 3)]
    assert [n for n, job in enumerate(made) if not isinstance(job, Followed)] == [
        0,
        FOLLOWERS_MAX + 1,
    ]
    held = claim(store)
    assert len(held) == 2
    for one in held:
        succeed(store, one)
    assert {state(store, job) for job in made} == {JobState.SUCCEEDED}


def test_one_call_copies_no_more_than_it_may(store: JobStore) -> None:
    large = json.dumps({"text": "x" * (LANDED_BYTES // 2)}).encode()
    made = [ask(store) for _ in range(4)]
    [held] = claim(store)
    succeed(store, held, large)
    assert [state(store, job) for job in made] == ["succeeded"] * 2 + ["queued"] * 2
    [held] = claim(store)
    succeed(store, held, large)
    assert {state(store, job) for job in made} == {JobState.SUCCEEDED}


def test_a_reset_reaches_the_followers(store: JobStore) -> None:
    ask(store)
    other = ask(store)
    [held] = claim(store)
    say(store, held, 1, "he", 1)
    store.write([Append(held.id, 1, 2, "reset", b'{"attempt":1}')])
    assert store.streamed(other.id) == ("", (), False, (), "")
    late = ask(store)
    say(store, held, 3, "hello", 3)
    assert [store.streamed(job.id)[0] for job in (other, late)] == ["hello"] * 2


def test_one_that_was_given_a_result_gives_none(store: JobStore) -> None:
    redis: Any = store.redis
    first = ask(store)
    ask(store)
    [held] = claim(store)
    succeed(store, held)
    redis.expire(store.keys("cached", "t", "d"), 30)
    ask(store)
    assert redis.get(store.keys("cached", "t", "d")).decode() == first.id
    assert redis.ttl(store.keys("cached", "t", "d")) <= 30, "use makes no result younger"


def test_who_leaves_makes_room(store: JobStore) -> None:
    ask(store)
    for job in [ask(store) for _ in range(FOLLOWERS_MAX)]:
        store.cancel(job.id)
    assert isinstance(ask(store), Followed)


def test_nobody_follows_one_past_its_deadline(store: JobStore) -> None:
    redis: Any = store.redis
    redis.hset(store.keys("job", ask(store).id), "deadline", 1)
    assert runs(ask(store))


def test_the_end_of_one_flight_leaves_another_open(store: JobStore) -> None:
    low, high = ask(store, priority="low"), ask(store, priority="high")
    [first, second] = claim(store)
    ended(store, second, JobState.FAILED)
    late = ask(store)
    assert (first.id, second.id) == (high.id, low.id) and isinstance(late, Followed)
    succeed(store, first)
    assert state(store, late) == "succeeded"


def test_an_heir_does_not_close_another_flight(store: JobStore) -> None:
    leader, heir = ask(store), ask(store)
    [held] = claim(store)
    store.cancel(leader.id)
    other = ask(store)
    ended(store, held, JobState.CANCELED)
    late = ask(store)
    by_id = {one.id: one for one in claim(store)}
    assert set(by_id) == {heir.id, other.id} and isinstance(late, Followed)
    succeed(store, by_id[other.id])
    assert [state(store, job) for job in (late, heir)] == ["succeeded", "running"]


def sent(store: JobStore, url: str, work: Callable[[], object]) -> list[str]:
    """The commands that our store sent meanwhile; a script counts as one."""
    found = []
    ours = (store.keys.prefix, *(store._scripts[name].sha for name in names()))
    with Redis.from_url(url).monitor() as monitor:
        work()
        store.redis.echo("end of the work")
        for command in monitor.listen():
            if "end of the work" in command["command"]:
                break
            if command["client_type"] != "lua" and any(s in command["command"] for s in ours):
                found.append(command["command"].split()[0])
    return found


def test_neither_sharing_nor_its_absence_costs_a_round_trip(
    store: JobStore, redis_url: str
) -> None:
    run(store, share=None)
    life = ["EVALSHA"] * 3  # create, claim, finish
    assert sent(store, redis_url, lambda: run(store, share=None)) == life
    assert sent(store, redis_url, lambda: run(store)) == life
    assert sent(store, redis_url, lambda: ask(store)) == ["EVALSHA"]


def test_what_is_written_for_one_that_shares_nothing(store: JobStore) -> None:
    run(store, share=None)
    redis: Any = store.redis
    ours = {name.decode().split(":")[1] for name in redis.scan_iter(f"{store.keys.prefix}:*")}
    assert ours.isdisjoint({"cached", "results", "flights", "followers"})


@pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED])
def test_a_flight_that_is_over_leaves_nothing(store: JobStore, end: JobState) -> None:
    for digest in ("d", "e"):
        ask(store, share=share(digest))
        ask(store, share=share(digest))
    assert set(store.redis.hgetall(store.keys("flights", "t"))) == {b"d", b"e"}
    while held := claim(store):
        for one in held:
            succeed(store, one) if end is JobState.SUCCEEDED else ended(store, one, end)
    assert not store.redis.exists(store.keys("flights", "t"))


def test_nobody_follows_one_whose_record_is_gone(store: JobStore) -> None:
    store.redis.delete(store.keys("job", ask(store).id))
    leader = ask(store)
    assert runs(leader)
    assert isinstance(ask(store), Followed)
    assert store.redis.hget(store.keys("flights", "t"), "d") == leader.id.encode()
