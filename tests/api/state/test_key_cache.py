"""Tokens are asked of Redis once a second a key; every wrong one takes the same way."""

import hmac
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from api.state import key_cache
from api.state.key_cache import FRESH, OUTAGE, TOUCH_EVERY, KeyCache
from shared.domain.errors import StoreUnavailable
from shared.redis.connection import connect
from shared.store.api_key_tokens import Signer, new_token
from shared.store.api_keys import ApiKey, ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.conftest import RedisServer

SIGNER = Signer("a secret of the tests")
GRANT = Grant("acme", frozenset({Scope.JOBS_READ}))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counted(ApiKeys):
    """Counts what is asked of Redis."""

    asked = 0
    touched = 0

    def find(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        return super().find(key_id)

    def touch(self, key: ApiKey, now: float) -> None:
        self.touched += 1
        super().touch(key, now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(store: JobStore) -> Counted:
    return Counted(store.redis, store.keys, SIGNER)


@pytest.fixture
def cache(keys: Counted, clock: Clock) -> KeyCache:
    return KeyCache(keys, SIGNER, clock)


def test_redis_is_asked_once_a_second(cache: KeyCache, keys: Counted, clock: Clock) -> None:
    made, token = keys.create(GRANT)

    for _ in range(5):
        assert cache.check(token) == made
    assert keys.asked == 1
    clock.now += FRESH
    assert cache.check(token) is not None and keys.asked == 2


def test_a_revoke_bites_within_a_second(cache: KeyCache, keys: Counted, clock: Clock) -> None:
    made, token = keys.create(GRANT)
    assert cache.check(token) is not None

    keys.revoke(made.id)
    clock.now += FRESH
    keys.asked = 0

    assert cache.check(token) is None
    assert cache.check(token) is None and keys.asked == 2, "a refusal is not remembered"


def test_a_key_that_expires_while_it_is_remembered_is_refused(
    cache: KeyCache, keys: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = time.time() + 100
    _, token = keys.create(replace(GRANT, expires=end))
    assert cache.check(token) is not None

    monkeypatch.setattr(key_cache.time, "time", lambda: end)

    assert cache.check(token) is None and keys.asked == 1


def test_use_is_noted_once_a_minute(cache: KeyCache, keys: Counted, clock: Clock) -> None:
    made, token = keys.create(GRANT)
    for _ in range(4):
        cache.check(token)
        clock.now += TOUCH_EVERY / 4
    assert keys.touched == 1

    cache.check(token)

    assert keys.touched == 2
    found = keys.find(made.id)
    assert found is not None and found.used is not None


def test_what_is_remembered_is_bounded(
    keys: Counted, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "MOST", 2)
    cache = KeyCache(keys, SIGNER, clock)
    tokens = [keys.create(GRANT)[1] for _ in range(3)]

    for token in tokens:
        cache.check(token)
    cache.check(tokens[2])
    assert keys.asked == 3

    cache.check(tokens[0])
    assert keys.asked == 4, "the oldest gave way"


def test_wrong_tokens_take_one_way_whatever_exists(
    cache: KeyCache, keys: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls with the same sizes: no answer of another class for an id that exists."""
    made, token = keys.create(GRANT)
    revoked, of_revoked = keys.create(GRANT)
    keys.revoke(revoked.id)
    expired, of_expired = keys.create(replace(GRANT, expires=time.time() - 1))
    cache.check(token)
    steps: list[tuple[object, ...]] = []
    compare = hmac.compare_digest

    def recorded(given: bytes, expected: bytes) -> bool:
        steps.append(("compare", len(given), len(expected)))
        return compare(given, expected)

    def found(key_id: str) -> ApiKey | None:
        steps.append(("find", len(key_id)))
        return Counted.find(keys, key_id)

    monkeypatch.setattr(key_cache.hmac, "compare_digest", recorded)
    monkeypatch.setattr(keys, "find", found)
    ways = []
    for wrong in (
        new_token(made.id),
        new_token(revoked.id),
        new_token(expired.id),
        new_token("0" * 16),
        of_revoked,
        of_expired,
    ):
        steps.clear()
        assert cache.check(wrong) is None
        ways.append(list(steps))

    assert ways == [[("find", 16), ("compare", 32, 32)]] * len(ways)


def test_another_secret_is_told_in_the_log(
    keys: Counted, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    made, token = keys.create(GRANT)

    assert KeyCache(keys, Signer("another secret"), clock).check(token) is None

    assert made.id in caplog.text and "TRUTHGPT_KEY_SECRET" in caplog.text
    assert token not in caplog.text


@pytest.fixture
def broken(
    own_redis: RedisServer, store: JobStore, clock: Clock
) -> tuple[KeyCache, str, Callable[[], None]]:
    """A cache that has seen a token, the token, and how to take Redis away."""
    keys = ApiKeys(connect(own_redis.url, 0.2), store.keys, SIGNER)
    _, token = keys.create(GRANT)
    return KeyCache(keys, SIGNER, clock), token, own_redis.stop


def test_redis_away_leaves_known_keys_for_a_while(
    broken: tuple[KeyCache, str, Callable[[], None]], clock: Clock
) -> None:
    cache, token, stop = broken
    assert cache.check(token) is not None

    stop()
    clock.now += OUTAGE - 1
    assert cache.check(token) is not None

    clock.now += 1
    with pytest.raises(StoreUnavailable):
        cache.check(token)


def test_redis_away_says_nothing_of_unknown_keys(
    broken: tuple[KeyCache, str, Callable[[], None]],
) -> None:
    cache, token, stop = broken
    stop()

    with pytest.raises(StoreUnavailable):
        cache.check(token)
    assert cache.check("not even a key of ours") is None
