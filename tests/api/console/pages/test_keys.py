"""Keys: made with their limits, shown once, revoked at once; by the server's administrator alone."""

import re
import time
from collections.abc import Callable

import pytest
from flask import Flask

from shared.store.api_keys import ApiKeys, Scope
from tests.api.console.conftest import Browser


def make(browser: Browser, part: str | None = "keys-list", **fields: str) -> str:
    answer = browser.post("/console/keys", part=part, **fields)
    assert answer.status_code == 200, answer.text
    found = re.search(r'<pre id="new-token">([^<]+)</pre>', answer.text)
    assert found is not None
    return found[1]


def test_a_key_is_made_as_it_was_asked_for_and_shown_once(
    app: Flask, browser: Browser, keys: ApiKeys
) -> None:
    limits = {"rpm": "30", "rph": "", "max_queued": "5", "max_bytes": "1048576", "days": "2"}
    scopes = {"scope:jobs:read": "on", "scope:jobs:write": "on"}

    token = make(browser, tenant=" acme ", **limits, **scopes)

    (key,) = keys.all()
    grant = key.grant
    assert (grant.tenant, grant.rpm, grant.rph, grant.max_queued) == ("acme", 30, None, 5)
    assert grant.scopes == {Scope.JOBS_READ, Scope.JOBS_WRITE} and grant.max_bytes == 2**20
    assert grant.expires is not None and 0 <= time.time() + 2 * 86400 - grant.expires < 60
    assert token not in browser.get("/console/keys").text
    listed = app.test_client().get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert listed.status_code == 200


def test_a_revoked_key_is_shown_as_such_and_opens_nothing(app: Flask, browser: Browser) -> None:
    token = make(browser, part=None, tenant="acme", **{"scope:jobs:read": "on"})
    theirs = Browser(app).sign_in(token)
    key_id = token.split("_")[1]

    part = browser.post(f"/console/keys/{key_id}/revoke", part="keys-list").text

    assert 'class="chip revoked"' in part and f"/console/keys/{key_id}/revoke" not in part
    assert theirs.get("/console/jobs").status_code == 303


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tenant": "a b", "scope:jobs:read": "on"}, "tenant"),
        ({"tenant": "a"}, "at least one"),
        ({"tenant": "a", "scope:jobs:read": "on", "rpm": "0"}, "rpm"),
        ({"tenant": "a", "scope:jobs:read": "on", "rpm": "1e3"}, "rpm"),
        ({"tenant": "a", "scope:jobs:read": "on", "days": "9999"}, "expires"),
    ],
)
def test_what_cannot_be_a_key_is_refused(
    browser: Browser, keys: ApiKeys, fields: dict[str, str], said: str
) -> None:
    answer = browser.post("/console/keys", part="keys-list", **fields)

    assert answer.status_code == 422 and said in answer.text
    assert keys.all() == []


def test_a_key_that_is_gone_cannot_be_revoked(browser: Browser) -> None:
    assert browser.post("/console/keys/0123456789abcdef/revoke", part="x").status_code == 422


def test_a_key_is_replaced_and_the_old_one_goes_on_for_a_while(
    app: Flask, browser: Browser, keys: ApiKeys
) -> None:
    token = make(browser, tenant="acme", rpm="7", **{"scope:jobs:read": "on"})
    old = token.split("_")[1]
    page = browser.get(f"/console/keys/{old}").text
    assert "acme" in page and "7 jobs a minute" in page and "No job has ended" in page

    part = browser.post(f"/console/keys/{old}/rotate", part="key", overlap="3600").text

    found = re.search(r'<pre id="new-token">([^<]+)</pre>', part)
    assert found is not None
    new = keys.find(found[1].split("_")[1])
    assert new is not None and (new.grant.tenant, new.grant.rpm) == ("acme", 7)
    for one in (token, found[1]):
        listed = app.test_client().get("/v1/jobs", headers={"Authorization": f"Bearer {one}"})
        assert listed.status_code == 200
    assert found[1] not in browser.get(f"/console/keys/{new.id}").text
    assert browser.post(f"/console/keys/{old}/rotate", part="key", overlap="5").status_code == 422


def test_a_key_is_changed_and_the_form_shows_what_it_has(browser: Browser, keys: ApiKeys) -> None:
    token = make(
        browser, tenant="acme", rpm="7", days="2", note="reports", **{"scope:jobs:read": "on"}
    )
    key_id = token.split("_")[1]
    page = browser.get(f"/console/keys/{key_id}").text
    assert 'value="7"' in page and 'value="reports"' in page and 'name="never"' in page

    fields = {"rpm": "", "rph": "90", "max_queued": "", "max_bytes": "0", "days": "", "note": " x "}
    part = browser.post(f"/console/keys/{key_id}/update", part="key", **fields).text

    assert "The key is changed" in part and "90 jobs an hour" in part
    key = keys.find(key_id)
    assert key is not None
    assert (key.grant.rpm, key.grant.rph, key.grant.max_bytes) == (None, 90, 0)
    assert key.grant.note == "x" and key.grant.expires is not None
    answer = browser.post(f"/console/keys/{key_id}/update", never="on", **fields)
    assert answer.headers["Location"] == f"/console/keys/{key_id}"
    key = keys.find(key_id)
    assert key is not None and key.grant.expires is None
    for wrong in ({"rpm": "0"}, {"max_bytes": "-1"}, {"days": "9999"}, {"note": "x" * 201}):
        answer = browser.post(f"/console/keys/{key_id}/update", part="key", **{**fields, **wrong})
        assert answer.status_code == 422, wrong
    browser.post(f"/console/keys/{key_id}/revoke")
    assert browser.post(f"/console/keys/{key_id}/update", part="key", **fields).status_code == 409


def test_what_has_ended_has_no_buttons(browser: Browser) -> None:
    key_id = make(browser, tenant="acme", **{"scope:jobs:read": "on"}).split("_")[1]

    part = browser.post(f"/console/keys/{key_id}/revoke", part="key").text

    assert 'class="chip revoked"' in part and "<button" not in part
    assert (
        browser.post(f"/console/keys/{key_id}/rotate", part="key", overlap="0").status_code == 422
    )
    assert browser.get("/console/keys/0123456789abcdef").status_code == 404


def test_nobody_but_the_server_s_administrator_sees_keys(
    signed_in_with: Callable[..., Browser],
) -> None:
    for scopes, tenant in (((Scope.JOBS_READ, Scope.JOBS_WRITE), "default"), ((Scope.ADMIN,), "x")):
        other = signed_in_with(*scopes, tenant=tenant)
        assert 'href="/console/keys"' not in other.get("/console/jobs").text
        assert other.get("/console/keys").status_code == 403
        answer = other.post("/console/keys", tenant="x", **{"scope:admin": "on"})
        assert answer.status_code == 403


def test_a_tenant_s_keys_are_found(browser: Browser) -> None:
    make(browser, tenant="one", **{"scope:jobs:read": "on"})
    make(browser, tenant="two", **{"scope:jobs:read": "on"})

    page = browser.get("/console/keys?tenant=two").text

    assert ">two<" in page and ">one<" not in page
