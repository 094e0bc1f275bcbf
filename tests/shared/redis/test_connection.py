"""What Redis' faults mean to those who asked."""

import pytest
from redis.exceptions import NoScriptError, ResponseError

from shared.domain.errors import StoreUnavailable
from shared.redis.connection import connect, meaning_of
from shared.store.jobs import JobStore
from tests.conftest import RedisServer
from tests.shared.store.jobs.jobs import MODEL, claim, submit


def test_a_primary_without_its_replicas_is_away_and_no_fault_of_who_asked(
    own_redis: RedisServer,
) -> None:
    store = JobStore(connect(own_redis.url, 5.0), "p")
    job = submit(store)
    store.redis.config_set("min-replicas-to-write", 1)
    for call in (lambda: submit(store), lambda: claim(store), lambda: store.rescue(MODEL)):
        with pytest.raises(StoreUnavailable, match="min-replicas-to-write"):
            call()
    store.redis.config_set("min-replicas-to-write", 0)
    assert [held.id for held in claim(store)] == [job.id]


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("BUSY Valkey is busy running a script. You can only call SCRIPT KILL."),
        ResponseError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'."),
        ResponseError("ERR Error running script: @user_script:5: -NOREPLICAS Not enough replicas."),
        NoScriptError("No matching script."),
    ],
)
def test_what_passes_is_to_be_tried_again(error: ResponseError) -> None:
    assert isinstance(meaning_of(error), StoreUnavailable)


@pytest.mark.parametrize("said", ["WRONGTYPE no", "BUSYKEY Target key exists", "ERR unknown"])
def test_what_does_not_pass_is_an_error(said: str) -> None:
    assert meaning_of(ResponseError(said)) is None
