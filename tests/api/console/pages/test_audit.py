"""The audit page: what was changed in the console stands there, for those whom it concerns."""

import time
from collections.abc import Callable

from flask import Flask

from shared.store.api_keys import Scope
from tests.api.conftest import AUTH
from tests.api.console.conftest import Browser

ABSENT = "job_" + "0" * 32
HOSTILE = "<script>alert(1)</script>"


def test_a_change_in_the_console_tells_its_session_and_what_came_of_it(
    app: Flask, browser: Browser
) -> None:
    made = browser.post("/console/keys", part="x", tenant="acme", **{"scope:jobs:read": "on"})
    assert made.status_code == 200
    browser.post(f"/console/jobs/{ABSENT}/cancel")

    (refused, key, signed_in) = app.test_client().get("/v1/admin/audit", headers=AUTH).json["data"]
    assert (refused["action"], refused["outcome"]) == ("job.cancel", "job_not_found")
    assert (key["action"], key["via"], key["note"]) == ("key.create", "console", "acme: jobs:read")
    assert signed_in["action"] == "session.begin"
    assert key["session"] == signed_in["session"] and key["session"] == refused["session"]
    page = browser.get("/console/audit").text
    assert key["targets"][0] in page and "acme: jobs:read" in page and "job_not_found" in page
    assert key["session"] in page and "127.0.0.1" in page


def test_a_call_that_the_console_passes_on_is_one_of_the_console(browser: Browser) -> None:
    browser.client.post(
        f"/console/api/v1/jobs/{ABSENT}/cancel", headers={"X-CSRF-Token": browser.csrf}
    )

    (change, _) = browser.get("/console/api/v1/admin/audit").json["data"]
    assert (change["action"], change["via"], change["key_id"]) == (
        "job.cancel",
        "console",
        "default",
    )


def test_it_is_filtered_and_says_where_nothing_fits(browser: Browser) -> None:
    browser.post(f"/console/jobs/{ABSENT}/cancel")

    assert ABSENT in browser.get("/console/audit?action=job.cancel", part="audit-rows").text
    span = f"after={int(time.time() * 1000) - 60_000}&before={int(time.time() * 1000) + 60_000}"
    assert ABSENT in browser.get(f"/console/audit?{span}").text
    for query in (
        "action=key.revoke",
        "by=x",
        "target=x",
        "tenant=x",
        "before=1",
        "after=9999999999999",
    ):
        assert "No change here fits" in browser.get(f"/console/audit?{query}").text, query
    assert browser.get("/console/audit?action=absent").status_code == 422
    assert browser.get("/console/audit?cursor=absent").status_code == 422
    assert browser.get("/console/audit?after=yesterday").status_code == 422


def test_a_tenant_s_administrator_sees_its_own_alone_and_others_nothing(
    browser: Browser, signed_in_with: Callable[..., Browser]
) -> None:
    acme, writer = signed_in_with(Scope.ADMIN, tenant="acme"), signed_in_with(Scope.JOBS_WRITE)
    theirs, ours = "job_" + "1" * 32, "job_" + "2" * 32
    acme.post(f"/console/jobs/{theirs}/cancel")
    browser.post(f"/console/jobs/{ours}/cancel")

    page = acme.get("/console/audit").text
    assert theirs in page and ours not in page and 'id="tenant"' not in page
    assert acme.get("/console/audit?tenant=default").status_code == 403
    both = browser.get("/console/audit").text
    assert theirs in both and ours in both
    assert writer.get("/console/audit").status_code == 403
    assert 'href="/console/audit"' not in writer.get("/console/playground").text


def test_hostile_strings_are_text(browser: Browser) -> None:
    said = {"User-Agent": HOSTILE}
    browser.client.post(f"/console/jobs/{ABSENT}/cancel", data={"csrf": browser.csrf}, headers=said)

    page = browser.get(f"/console/audit?target={ABSENT}").text
    assert HOSTILE not in page and "&lt;script&gt;" in page
