"""Sessions: what Redis knows of them, what ends them, what cannot be forged."""

import time

import pytest

from api.console.sessions import IDLE, LIFETIME, Sessions
from shared.settings.sign_in_ticket import issue_ticket
from shared.store.jobs import JobStore
from tests.api.conftest import TOKEN

KEY = "0123456789abcdef"


@pytest.fixture
def sessions(store: JobStore) -> Sessions:
    return Sessions(store.redis, store.keys, TOKEN)


def test_a_session_is_found_until_it_is_ended(sessions: Sessions) -> None:
    made = sessions.begin(KEY)

    assert sessions.find(made.cookie) == made
    assert made.csrf not in made.cookie
    sessions.end(made.cookie)
    assert sessions.find(made.cookie) is None


def test_redis_knows_no_cookie_and_forgets_a_session_that_is_not_used(
    sessions: Sessions, store: JobStore
) -> None:
    made = sessions.begin(KEY)
    (name,) = store.redis.scan_iter(f"{store.keys.prefix}:console-session:*")

    stored = name + store.redis.get(name)
    assert not any(part.encode() in stored for part in (*made.cookie.split("."), made.csrf))
    store.redis.expire(name, 5)
    assert sessions.find(made.cookie)
    assert IDLE - 5 <= store.redis.ttl(name) <= IDLE


def test_the_sessions_of_a_key_are_listed_until_they_end(
    sessions: Sessions, store: JobStore
) -> None:
    first = sessions.begin(KEY, "192.0.2.1", "Firefox")
    second = sessions.begin(KEY, "192.0.2.2", "Safari")
    other = sessions.begin("default")
    now = int(time.time())

    listed = {one.id: one for one in sessions.of_key(KEY)}
    assert listed.keys() == {first.id, second.id}
    assert (listed[first.id].address, listed[second.id].agent) == ("192.0.2.1", "Safari")
    assert all(now + IDLE - 60 < one.ends <= now + IDLE + 60 for one in listed.values())

    sessions.end(first.cookie)
    assert [one.id for one in sessions.of_key(KEY)] == [second.id]
    store.redis.delete(store.keys("console-session", sessions.of_key(KEY)[0].name))
    assert sessions.of_key(KEY) == []
    assert store.redis.hlen(store.keys("console-sessions", KEY)) == 0
    assert sessions.end_all("default") == 1 and sessions.find(other.cookie) is None


@pytest.mark.parametrize(
    ("agent", "shown"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox, Linux",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge, Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Version/18 Safari/605.1", "Safari, macOS"),
        ("curl/8.14.1", "curl/8.14.1"),
        ("", ""),
    ],
)
def test_a_browser_is_told_by_its_name(sessions: Sessions, agent: str, shown: str) -> None:
    sessions.begin(KEY, "192.0.2.1", agent)

    assert sessions.of_key(KEY)[0].browser == shown


def test_a_session_ends_after_a_day_however_busy(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sessions.begin(KEY)

    monkeypatch.setattr("time.time", lambda: made.began + LIFETIME - 1.0)
    assert sessions.find(made.cookie)
    monkeypatch.setattr("time.time", lambda: made.began + LIFETIME)
    assert sessions.find(made.cookie) is None


def test_nobody_changes_whose_session_it_is_or_since_when(sessions: Sessions) -> None:
    made = sessions.begin(KEY)
    key_id, began, secret = made.cookie.split(".")

    forged = (
        f"default.{began}.{secret}",
        f"{'f' * 16}.{began}.{secret}",
        f"{key_id}.{int(began) + 60}.{secret}",
        f"{key_id}.{began}.{secret[::-1]}",
        "",
        "default",
    )
    assert [sessions.find(cookie) for cookie in forged] == [None] * len(forged)


def test_another_token_of_the_server_ends_all_sessions(sessions: Sessions, store: JobStore) -> None:
    made = sessions.begin("default")

    assert Sessions(store.redis, store.keys, "a-new-token-for-tests").find(made.cookie) is None


def test_a_link_signs_in_once(sessions: Sessions) -> None:
    ticket = issue_ticket(TOKEN)

    assert sessions.redeem(ticket)
    assert not sessions.redeem(ticket)
    assert not sessions.redeem(issue_ticket("another-token-for-tests"))
    assert sessions.redeem(issue_ticket(TOKEN))
