"""Looking through a tenant's jobs for those that fit."""

import json
import time
from collections.abc import Iterator

import pytest

from shared.domain.errors import InvalidRequest
from shared.domain.records import Finish, NewJob
from shared.domain.states import JobState
from shared.store import search
from shared.store.jobs import JobStore
from shared.store.search import Look, Wanted, id_at, look

NOW = int(time.time() * 1000)


def ids(first: int = NOW) -> Iterator[str]:
    """Ids of jobs that were made one a millisecond, going back from `first`."""
    return (f"job_{at:012x}{at % 7:020x}" for at in range(first, 0, -1))


def make(store: JobStore, job_id: str, tenant: str = "t", model: str = "m", **pairs: str) -> str:
    store.create(NewJob(job_id, model, tenant, b"{}", metadata=pairs), max_queued=10_000)
    return job_id


def fill(store: JobStore, count: int, tenant: str = "t") -> list[str]:
    """So many queued jobs without anything but what a list shows, newest first, in one pipeline."""
    names = [name for name, _ in zip(ids(NOW - 10_000), range(count), strict=False)]
    pipe = store.redis.pipeline(transaction=False)
    for name in names:
        key = store.keys("job", name)
        pipe.hset(key, mapping={"state": "queued", "model": "m", "tenant": tenant, "created": NOW})
        pipe.expire(key, 60)
    pipe.zadd(store.keys("index", tenant), dict.fromkeys(names, 0))
    pipe.expire(store.keys("index", tenant), 60)
    pipe.execute()
    return names


def found(told: Look) -> list[str]:
    return [record.id for record in told.records]


def test_it_finds_by_metadata_text_model_state_and_time(store: JobStore) -> None:
    made = ids()
    plain = make(store, next(made))
    named = make(store, next(made), team="search", note='a "quoted" ñandú [x]*')
    model = make(store, next(made), model="other", team="ads")
    ended = make(store, next(made), model="third", team="")
    [claim] = store.claim("third", 1, "w").claims
    store.write([Finish(claim.id, 1, JobState.SUCCEEDED, output=b'{"text":"x"}', usage=b"{}")])
    make(store, next(made), tenant="u", team="search")

    def those(wanted: Wanted) -> list[str]:
        return found(look(store, "t", wanted, limit=10))

    assert those(Wanted()) == [plain, named, model, ended]
    assert those(Wanted(name="team")) == [named, model, ended]
    assert those(Wanted(name="team", value="search")) == [named]
    assert those(Wanted(name="team", value="searc")) == []
    assert those(Wanted(within="ear")) == [named]
    assert those(Wanted(within='"quoted" ñandú [x]*')) == [named], "a text, and no pattern"
    assert those(Wanted(within="%a")) == []
    assert those(Wanted(model="other")) == [model]
    assert those(Wanted(state=JobState.SUCCEEDED)) == [ended]
    assert those(Wanted(text=ended[10:30])) == [ended]
    assert those(Wanted(after=NOW - 1)) == [plain, named]
    assert those(Wanted(model="m", name="team", after=NOW - 1)) == [named]


def test_rows_have_what_a_list_shows_and_not_the_output(store: JobStore) -> None:
    make(store, next(ids()))
    [claim] = store.claim("m", 1, "w").claims
    store.write([Finish(claim.id, 1, JobState.SUCCEEDED, b'"large"', usage=b'{"run_ms":3}')])

    (row,) = look(store, "t", Wanted(), limit=10).records

    assert json.loads(row.fields["usage"]) == {"run_ms": 3} and row.state is JobState.SUCCEEDED
    assert "output" not in row.fields


def test_looks_that_follow_one_another_find_each_job_once(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST", 400)
    names = fill(store, 1_000)
    rare = [names[3], names[600], names[999]]
    for name in rare:
        store.redis.hset(store.keys("job", name), "metadata", '{"rare":"yes"}')
    seen, looked, cursor = list[str](), 0, None

    while True:
        one = look(store, "t", Wanted(name="rare"), limit=2, cursor=cursor)
        seen, looked, cursor = seen + found(one), looked + one.looked, one.cursor
        assert one.looked <= 500, "it ends with the piece in which it has looked at so many"
        if cursor is None:
            break

    assert seen == rare and looked == 1_000


def test_a_page_that_is_full_goes_on_behind_its_last_job(store: JobStore) -> None:
    names = fill(store, 30)

    first = look(store, "t", Wanted(state=JobState.QUEUED), limit=20)
    second = look(store, "t", Wanted(state=JobState.QUEUED), limit=20, cursor=first.cursor)

    assert found(first) + found(second) == names
    assert first.cursor == names[19] and second.cursor is None


def test_a_look_ends_in_time_and_says_how_far_it_came(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SECONDS", 0)
    monkeypatch.setattr(search, "LEAST", 300)
    names = fill(store, 600)

    one = look(store, "t", Wanted(within="x"), limit=5)

    assert one == Look([], names[2 * search.PIECE - 1], 2 * search.PIECE)


def test_jobs_that_are_gone_are_passed_over(store: JobStore) -> None:
    names = fill(store, 3)
    store.redis.delete(store.keys("job", names[1]))

    for wanted in (Wanted(), Wanted(state=JobState.QUEUED), Wanted(text="job_")):
        assert found(look(store, "t", wanted, limit=10)) == [names[0], names[2]]


def test_those_that_run_are_found_however_many_wait(store: JobStore) -> None:
    made = ids()
    runs = [make(store, next(made), model="m", job="a"), make(store, next(made), model="n")]
    store.claim("m", 1, "w")
    store.claim("n", 1, "w")
    make(store, next(made), tenant="u")
    store.claim("m", 1, "w")
    fill(store, 600)

    def those(**more: object) -> list[str]:
        return found(look(store, "t", Wanted(state=JobState.RUNNING, **more), limit=10))  # type: ignore[arg-type]

    assert those() == runs
    assert those(model="n") == [runs[1]]
    assert those(name="job", value="a") == those(within="a") == [runs[0]]
    assert those(text=runs[1][8:]) == [runs[1]]
    first = look(store, "t", Wanted(state=JobState.RUNNING), limit=1)
    second = look(store, "t", Wanted(state=JobState.RUNNING), limit=1, cursor=first.cursor)
    assert found(first) + found(second) == runs
    assert those(after=NOW + 1) == []


def test_a_cursor_is_an_id_of_a_job(store: JobStore) -> None:
    with pytest.raises(InvalidRequest):
        look(store, "t", Wanted(), limit=1, cursor="+")
    assert look(store, "t", Wanted(), limit=1, cursor=id_at(NOW)) == Look([], None, 0)


def test_ids_whose_jobs_are_long_gone_leave_the_index(store: JobStore) -> None:
    index = store.keys("index", "t")
    old = dict.fromkeys((id_at(n) for n in range(300)), 0)
    store.redis.zadd(index, old)

    for job_id, _ in zip(ids(), range(64), strict=False):
        make(store, job_id)

    assert store.redis.zcard(index) == 300 - 256 + 64
