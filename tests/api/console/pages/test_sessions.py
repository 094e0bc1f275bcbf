"""Sessions: where a key is signed in, and its end everywhere."""

from collections.abc import Callable

import pytest
from flask import Flask

from api.console import sessions
from shared.store.api_keys import ApiKeys, Grant, Scope
from tests.api.conftest import AUTH, TOKEN
from tests.api.console.conftest import Browser

HOSTILE = "<img src=x onerror=alert(1)>"


def test_one_sees_where_one_s_key_is_signed_in_and_signs_out_everywhere(app: Flask) -> None:
    here, there = Browser(app), Browser(app)
    there.client.environ_base["HTTP_USER_AGENT"] = HOSTILE
    here.sign_in()
    there.sign_in()

    page = here.get("/console/sessions").text
    assert page.count("this one") == 1 and page.count("127.0.0.1") == 2
    assert HOSTILE not in page and "&lt;img src=x" in page
    answer = here.post("/console/sessions/end")

    assert answer.headers["Location"] == "/console/sign-in"
    for browser in (here, there):
        assert browser.get("/console/jobs").status_code == 303
    assert "127.0.0.1" in Browser(app).sign_in().get("/console/sessions").text


def test_a_key_of_any_scope_may_and_only_its_own_sessions_end(
    app: Flask, browser: Browser, keys: ApiKeys
) -> None:
    _, token = keys.create(Grant("acme", frozenset({Scope.METRICS})))
    theirs = Browser(app).sign_in(token)

    assert theirs.get("/console/sessions").status_code == 200
    assert theirs.post("/console/sessions/end", key="default").status_code == 403
    assert theirs.post("/console/sessions/end").status_code == 303
    assert browser.get("/console/jobs").status_code == 200


def test_the_server_s_administrator_signs_a_key_out_everywhere(
    app: Flask, browser: Browser, keys: ApiKeys, signed_in_with: Callable[..., Browser]
) -> None:
    key, token = keys.create(Grant("acme", frozenset({Scope.JOBS_READ})))
    theirs = [Browser(app).sign_in(token) for _ in range(2)]
    assert browser.get(f"/console/keys/{key.id}").text.count("127.0.0.1") == 2

    ended = browser.post("/console/sessions/end", key=key.id)

    assert ended.headers["Location"] == f"/console/keys/{key.id}"
    assert [one.get("/console/jobs").status_code for one in theirs] == [303, 303]
    assert "Nobody is signed in with this key" in browser.get(f"/console/keys/{key.id}").text
    assert browser.get("/console/jobs").status_code == 200
    (change, *_) = app.test_client().get("/v1/admin/audit", headers=AUTH).json["data"]
    assert (change["action"], change["targets"]) == ("sessions.end", [key.id])
    other = signed_in_with(Scope.ADMIN, tenant="other")
    assert other.post("/console/sessions/end", key=key.id).status_code == 403


def test_whose_key_has_too_many_sessions_loses_the_oldest(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_OF_KEY", 2)
    made = [Browser(app).sign_in(TOKEN) for _ in range(4)]

    assert made[-1].get("/console/sessions").text.count("127.0.0.1") == 2
    answers = [browser.get("/console/jobs").status_code for browser in made]
    assert sorted(answers) == [200, 200, 303, 303] and answers[-1] == 200
