"""Signing in and out, preferences, assets."""

from collections.abc import Callable
from typing import Any

from flask import Flask

from api.console.pages import sign_in
from shared.settings.sign_in_ticket import issue_ticket
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, TOKEN
from tests.api.console.conftest import Browser


def test_a_session_has_a_cookie_that_scripts_and_other_sites_do_not_get(app: Flask) -> None:
    answer = Browser(app).client.post("/console/sign-in", data={"token": f" {TOKEN}\r\n"})

    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/console" in cookie
    assert "Secure" not in cookie and TOKEN not in cookie
    assert answer.headers["Location"] == "/console"


def test_over_https_the_cookie_never_travels_in_the_clear(app: Flask) -> None:
    answer = app.test_client().post(
        "/console/sign-in", data={"token": TOKEN}, base_url="https://localhost"
    )

    assert "Secure" in answer.headers["Set-Cookie"]


def test_one_goes_on_to_pages_of_the_console_alone(app: Flask) -> None:
    for following, leads_to in (
        ("/console/jobs?status=failed", "/console/jobs?status=failed"),
        ("//evil.example", "/console"),
        ("https://evil.example/console", "/console"),
        ("/consoles", "/console"),
        ("/console/\\evil.example", "/console"),
        ("/console/\r\nX: y", "/console"),
        ("", "/console"),
    ):
        answer = Browser(app).client.post(
            "/console/sign-in", data={"token": TOKEN, "next": following}
        )
        assert answer.headers["Location"] == leads_to, following


def test_a_wrong_key_is_told_and_opens_nothing(app: Flask) -> None:
    browser = Browser(app)

    answer = browser.client.post(
        "/console/sign-in", data={"token": "wrong", "next": "/console/jobs"}
    )

    assert answer.status_code == 401 and "Set-Cookie" not in answer.headers
    assert "not a valid key" in answer.text and 'value="/console/jobs"' in answer.text
    assert browser.get("/console/jobs").status_code == 303


def test_a_printed_link_signs_in_once(app: Flask) -> None:
    ticket = issue_ticket(TOKEN)
    browser = Browser(app)

    assert (
        browser.client.post("/console/sign-in/ticket", data={"ticket": ticket}).status_code == 303
    )
    assert browser.get("/console/jobs").status_code == 200
    again = Browser(app).client.post("/console/sign-in/ticket", data={"ticket": ticket})
    assert again.status_code == 401 and "has been used" in again.text


def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(
    app: Flask, browser: Browser
) -> None:
    kept = browser.client.get_cookie("truthgpt_console", path="/console")
    assert kept is not None

    answer = browser.post("/console/sign-out")

    assert answer.headers["Location"] == "/console/sign-in"
    thief = Browser(app)
    thief.client.set_cookie("truthgpt_console", kept.value, path="/console")
    assert thief.get("/console/jobs").status_code == 303


def test_signing_in_again_ends_the_session_before(
    app: Flask, browser: Browser, store: JobStore
) -> None:
    browser.sign_in()

    names = list(store.redis.scan_iter(f"{store.keys.prefix}:console-session:*"))
    assert len(names) == 1


def test_language_and_theme_are_the_browser_s_own_or_chosen(browser: Browser) -> None:
    assert '<html lang="en"' in browser.get("/console/jobs").text
    spanish = browser.get("/console/jobs", **{"Accept-Language": "es-AR,es;q=0.9,en;q=0.5"}).text
    assert '<html lang="es"' in spanish and "Trabajos" in spanish

    browser.post("/console/preferences", language="es", theme="dark", next="/console/jobs")
    chosen = browser.get("/console/jobs").text
    assert '<html lang="es" data-theme="dark"' in chosen
    browser.post("/console/preferences", language="xx", theme='"><script>')
    assert '<html lang="es" data-theme="dark"' in browser.get("/console/jobs").text


def test_a_form_that_is_not_one_is_refused(app: Flask) -> None:
    client = app.test_client()

    assert client.post("/console/sign-in", json={"token": TOKEN}).status_code == 415
    many = "&".join(f"a{n}=1" for n in range(100))
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert client.post("/console/sign-in", data=many, **form).status_code == 422
    assert client.post("/console/sign-in", data=b"token=%ff", **form).status_code == 422
    assert client.post("/console/sign-in", data=b"x" * 70_000, **form).status_code == 413


def sign_ins(app: Flask, query: str = "") -> list[dict[str, Any]]:
    answer = app.test_client().get(f"/v1/admin/audit?{query}", headers=AUTH)
    rows: list[dict[str, Any]] = answer.json["data"]
    return rows


def test_who_signs_in_is_written_down_whatever_the_key_may_do(
    app: Flask, signed_in_with: Callable[..., Browser]
) -> None:
    signed_in_with(Scope.JOBS_READ, tenant="acme")
    link = {"ticket": issue_ticket(TOKEN)}
    app.test_client().post("/console/sign-in/ticket", data=link, headers={"User-Agent": "x"})

    by_link, acme = sign_ins(app)
    assert (acme["action"], acme["outcome"], acme["tenant"]) == ("session.begin", "done", "acme")
    assert acme["session"] and acme["key_id"] and acme["via"] == "console"
    assert (by_link["key_id"], by_link["note"]) == ("default", sign_in.BY_LINK)
    assert (by_link["user_agent"], by_link["address"]) == ("x", "127.0.0.1")


def test_refused_sign_ins_are_written_down_so_many_of_an_address(app: Flask, keys: ApiKeys) -> None:
    key, token = keys.create(Grant("acme", frozenset({Scope.JOBS_READ})))
    keys.revoke(key.id)
    client = app.test_client()
    client.post("/console/sign-in", data={"token": token})
    client.post("/console/sign-in/ticket", data={"ticket": "x"})
    (link, ended) = sign_ins(app)
    assert (ended["action"], ended["outcome"]) == ("session.refuse", "unauthorized")
    assert (ended["targets"], ended["key_id"], ended["tenant"]) == ([key.id], "", "default")
    assert (link["targets"], link["note"]) == ([], sign_in.BY_LINK)

    for _ in range(2 * sign_in.WRITTEN_DOWN.quota):
        assert client.post("/console/sign-in", data={"token": "wrong"}).status_code == 401
    assert len(sign_ins(app, "action=session.refuse")) == sign_in.WRITTEN_DOWN.quota
