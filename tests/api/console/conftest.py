"""A browser without a screen: keeps its cookies, sends forms with their token, asks for parts of pages."""

import re
from collections.abc import Callable, Mapping

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import TOKEN


class Browser:
    """Calls an app in this process as a browser does that has one window."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.csrf = ""

    def sign_in(self, token: str = TOKEN) -> "Browser":
        answer = self.client.post("/console/sign-in", data={"token": token})
        assert answer.status_code == 303, answer.text
        page = self.get("/console/nowhere").text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found is not None
        self.csrf = found[1]
        return self

    def get(self, path: str, part: str | None = None, **headers: str) -> TestResponse:
        asks = {"HX-Request": "true", "HX-Target": part} if part is not None else {}
        return self.client.get(path, headers={"Accept": "text/html", **asks, **headers})

    def post(self, path: str, part: str | None = None, **fields: str) -> TestResponse:
        asks = {"HX-Request": "true", "HX-Target": part} if part is not None else {}
        return self.client.post(path, data={"csrf": self.csrf, **fields}, headers=asks)


@pytest.fixture
def browser(app: Flask) -> Browser:
    """One that has signed in with the server's token."""
    return Browser(app).sign_in()


@pytest.fixture
def keys(settings: Settings, store: JobStore) -> ApiKeys:
    return ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))


@pytest.fixture
def signed_in_with(app: Flask, keys: ApiKeys) -> Callable[..., Browser]:
    """A browser that has signed in with a key of these scopes."""

    def made(*scopes: Scope, tenant: str = "default") -> Browser:
        _, token = keys.create(Grant(tenant, frozenset(scopes)))
        return Browser(app).sign_in(token)

    return made


def make(
    app: Flask, token: str = TOKEN, headers: Mapping[str, str] | None = None, **fields: object
) -> str:
    """The id of a job that `POST /v1/jobs` has made."""
    answer = app.test_client().post(
        "/v1/jobs",
        json={"model": "echo", "prompt": "x", **fields},
        headers={"Authorization": f"Bearer {token}", **(headers or {})},
    )
    assert answer.status_code in (200, 202), answer.text
    job_id: str = answer.json["id"]
    return job_id
