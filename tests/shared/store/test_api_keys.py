"""API keys in Redis: made, found, ended, rotated, forgotten."""

import time
from dataclasses import replace

import pytest

from shared.domain.errors import ConfigError, InvalidRequest, StoreUnavailable
from shared.redis.connection import connect
from shared.store import api_keys
from shared.store.api_key_tokens import Signer, key_id_of, new_token
from shared.store.api_keys import TOLD_FOR, UNUSED_FOR, ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.conftest import RedisServer

SIGNER = Signer("a secret of the tests")
GRANT = Grant("acme", frozenset({Scope.JOBS_READ}), rpm=5, rph=50, max_queued=7)


@pytest.fixture
def keys(store: JobStore) -> ApiKeys:
    return ApiKeys(store.redis, store.keys, SIGNER)


def everything_in(store: JobStore) -> str:
    found = []
    for name in store.redis.scan_iter(f"{store.keys.prefix}:*"):
        found.append(name)
        if store.redis.type(name) == b"hash":
            found += [part for pair in store.redis.hgetall(name).items() for part in pair]
    return repr(found)


def test_a_key_is_found_as_it_was_made(keys: ApiKeys) -> None:
    made, token = keys.create(GRANT)

    found = keys.find(made.id)

    assert found == made and found.grant == GRANT
    assert key_id_of(token) == made.id and SIGNER.digest(token) == found.digest
    assert found.state(time.time()) == "active"
    assert keys.find("0" * 16) is None


def test_redis_never_holds_what_would_let_its_reader_call(keys: ApiKeys, store: JobStore) -> None:
    made, token = keys.create(GRANT)
    secret = token.removeprefix(f"tgk_{made.id}_")

    assert secret not in everything_in(store)
    assert Signer("another secret").digest(token) != made.digest
    assert Signer("another secret").name != SIGNER.name
    assert repr(made.digest) not in repr(made)


def test_tokens_have_the_form_that_scanners_can_know() -> None:
    token = new_token("0123456789abcdef")

    assert key_id_of(token) == "0123456789abcdef" and len(token) == 4 + 16 + 1 + 43
    for other in ("", token[:-1], token + "x", token.upper(), "tgk_x_" + "a" * 43, token + "\n"):
        assert key_id_of(other) is None


def test_a_revoked_key_stays_revoked_and_listed(keys: ApiKeys) -> None:
    made, _ = keys.create(GRANT)

    keys.revoke(made.id)
    keys.revoke(made.id)
    keys.touch(made, time.time())

    [listed] = keys.all()
    assert listed.state(time.time()) == "revoked" and listed.used is not None


def test_rotation_keeps_rights_and_ends_the_old_key(keys: ApiKeys) -> None:
    made, token = keys.create(GRANT)

    new, new_token = keys.rotate(made.id)
    later, _ = keys.rotate(new.id, overlap=60)

    old, overlapping = keys.find(made.id), keys.find(new.id)
    assert old is not None and overlapping is not None
    now = time.time()
    assert old.state(now) == "expired" and overlapping.state(now) == "active"
    assert overlapping.state(now + 61) == "expired"
    assert later.grant == GRANT and new_token != token
    with pytest.raises(ConfigError, match="expired"):
        keys.rotate(made.id)
    with pytest.raises(ConfigError, match="no key"):
        keys.revoke("unknown")


def test_a_rotated_key_does_not_outlive_its_own_end(keys: ApiKeys) -> None:
    end = time.time() + 30
    made, _ = keys.create(Grant("acme", frozenset({Scope.ADMIN}), expires=end))

    new, _ = keys.rotate(made.id, overlap=3600)

    old = keys.find(made.id)
    assert old is not None and old.grant.expires == end and new.grant.expires == end


def test_every_record_has_an_end_and_use_puts_it_off(keys: ApiKeys, store: JobStore) -> None:
    lasting, _ = keys.create(GRANT)
    brief, _ = keys.create(Grant("acme", frozenset({Scope.ADMIN}), expires=time.time() + 100))

    def ttl(key_id: str) -> int:
        return int(store.redis.ttl(store.keys("api-key", key_id)))  # type: ignore[arg-type]

    assert UNUSED_FOR - 10 < ttl(lasting.id) <= UNUSED_FOR
    assert TOLD_FOR < ttl(brief.id) <= TOLD_FOR + 100
    store.redis.expire(store.keys("api-key", lasting.id), 50)
    keys.touch(lasting, time.time())
    keys.touch(brief, time.time())
    assert ttl(lasting.id) > UNUSED_FOR - 10 and ttl(brief.id) <= TOLD_FOR + 100


def test_a_forgotten_key_is_not_brought_back_by_its_use(keys: ApiKeys, store: JobStore) -> None:
    made, _ = keys.create(GRANT)
    store.redis.delete(store.keys("api-key", made.id))

    keys.touch(made, time.time())

    assert keys.find(made.id) is None and keys.all() == []


def test_keys_come_a_page_at_a_time_and_those_that_are_gone_leave_the_index(
    keys: ApiKeys, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "READ_AT_ONCE", 2)
    made = [keys.create(GRANT)[0].id for _ in range(7)][::-1]
    for gone in (made[0], made[3]):
        store.redis.delete(store.keys("api-key", gone))
    store.redis.hset(store.keys("api-key", made[6]), "tenant", "other")

    first, more = keys.page(2)
    indexed = store.redis.zcard(store.keys("api-keys"))
    second, at_last = keys.page(2, after=first[-1].id)

    assert [key.id for key in first] == [made[1], made[2]] and more
    assert indexed == 5
    assert [key.id for key in second] == [made[4], made[5]] and at_last
    assert [key.id for key in keys.page(9, tenant="acme")[0]] == [*made[1:3], *made[4:6]]
    assert [key.id for key in keys.page(9, tenant="other", after=made[2])[0]] == [made[6]]
    assert keys.page(9, after=made[6]) == ([], False)
    with pytest.raises(InvalidRequest):
        keys.page(2, after=made[0])


@pytest.mark.parametrize(
    "tenant", ["", "a:b", "*", "a b", "-x", "x" * 65, "ü", "a\n", "../x", "{x}"]
)
def test_a_tenant_that_could_mean_another_key_is_refused(tenant: str) -> None:
    with pytest.raises(ConfigError, match="tenant"):
        Grant(tenant, frozenset({Scope.ADMIN}))


def test_a_key_needs_a_scope_and_an_end_in_reach() -> None:
    with pytest.raises(ConfigError, match="scopes"):
        Grant("acme", frozenset())
    with pytest.raises(ConfigError, match="expires"):
        Grant("acme", frozenset({Scope.ADMIN}), expires=time.time() + 10**9)


def test_redis_away_is_said_so(own_redis: RedisServer, store: JobStore) -> None:
    keys = ApiKeys(connect(own_redis.url, 0.2), store.keys, SIGNER)
    own_redis.stop()

    for call in (lambda: keys.find("0" * 16), keys.all, lambda: keys.create(GRANT)):
        with pytest.raises(StoreUnavailable):
            call()


def test_limits_expiry_and_note_of_a_key_change_and_its_token_stays(
    keys: ApiKeys, store: JobStore
) -> None:
    made, _ = keys.create(replace(GRANT, note="reports"))
    end = time.time() + 3600

    old, new = keys.update(made.id, rpm=9, rph=None, expires=end, note="")

    assert old == made and new == keys.find(made.id)
    assert new == replace(made, grant=replace(GRANT, rpm=9, rph=None, expires=end, note=""))
    name = store.keys("api-key", made.id)
    assert TOLD_FOR < store.redis.ttl(name) <= 3600 + TOLD_FOR
    _, new = keys.update(made.id, expires=None, max_bytes=0)
    assert (new.grant.expires, new.grant.max_bytes) == (None, 0) and new == keys.find(made.id)
    assert store.redis.ttl(name) > UNUSED_FOR - 60


def test_a_change_writes_what_it_names_alone(keys: ApiKeys, store: JobStore) -> None:
    made, _ = keys.create(GRANT)
    store.redis.hset(
        store.keys("api-key", made.id), "rph", 99
    )  # As another change at the same time.

    keys.update(made.id, rpm=9)

    found = keys.find(made.id)
    assert found is not None and (found.grant.rpm, found.grant.rph) == (9, 99)


def test_what_a_key_cannot_become_is_refused_and_what_has_ended_stays_so(keys: ApiKeys) -> None:
    made, _ = keys.create(GRANT)
    wrong: list[dict[str, float | str]] = [
        {"expires": time.time() - 1},
        {"expires": time.time() + 10**9},
        {"note": "x" * 201},
        {"note": "two\nlines"},
    ]
    for change in wrong:
        with pytest.raises(ConfigError, match=next(iter(change))):
            keys.update(made.id, **change)
    assert keys.find(made.id) == made

    keys.revoke(made.id)
    for key_id, code in ((made.id, "api_key_ended"), ("0" * 16, "api_key_not_found")):
        with pytest.raises(ConfigError) as refused:
            keys.update(key_id, rpm=1)
        assert refused.value.code == code
