"""Under which scheme and host a job's URLs are told."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.services import of
from shared.domain.errors import ConfigError
from shared.settings import Settings, load_settings
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, Rings

FROM = "203.0.113.9"
Caller = Callable[..., FlaskClient]


@pytest.fixture
def caller(settings: Settings, store: JobStore, rings: Rings) -> Caller:
    """A client of an app with other settings, that calls from an address."""

    def made(address: str = "127.0.0.1", **changed: str) -> FlaskClient:
        parsed = Settings(**{"REDIS_URL": settings.redis_url, **changed})
        fields = {"trusted_proxies": parsed.trusted_proxies, "public_url": parsed.public_url}
        app = create_app(settings.model_copy(update=fields), store=store, ring=rings)
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
        of(app).close()
        return client

    return made


def base_of(client: FlaskClient, **headers: str) -> str:
    """Where a new job is said to be, which all of its URLs agree on."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    made = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}, headers=sent)
    assert made.status_code == 202
    job: Any = made.json
    base: str = made.headers["Location"].partition("/v1/jobs/")[0]
    assert all(url.startswith(f"{base}/v1/jobs/{job['id']}") for url in job["urls"].values())
    return base


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"X_Forwarded_Proto": "https"}, "https://api.example.org"),
        ({"X_Forwarded_Proto": "HTTPS"}, "https://api.example.org"),
        ({"X_Forwarded_Proto": "http"}, "http://api.example.org"),
        ({"X_Forwarded_Proto": "gopher"}, "http://api.example.org"),
        ({"X_Forwarded_Proto": ""}, "http://api.example.org"),
        ({"X_Forwarded_Host": "front.example"}, "http://front.example"),
        (
            {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "front.example:8443"},
            "https://front.example:8443",
        ),
        # What the client claims stands before what its proxy has appended.
        ({"X_Forwarded_Proto": "http, https"}, "https://api.example.org"),
        ({"X_Forwarded_Host": "evil.example, front.example"}, "http://front.example"),
        ({"X_Forwarded_Host": "<script>"}, "http://localhost:80"),
    ],
)
def test_a_trusted_proxy_says_how_it_was_reached(
    caller: Caller, headers: dict[str, str], base: str
) -> None:
    client = caller(TRUSTED_PROXIES="127.0.0.1")

    found = base_of(client, Host="api.example.org", X_Forwarded_For=FROM, **headers)

    assert found == base


def test_of_several_trusted_proxies_the_outermost_counts(caller: Caller) -> None:
    client = caller(TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8")
    forwarded = f"9.9.9.9, {FROM}, 10.0.0.7"

    for proto, host in (
        ("https, http", "front.example, inner.example"),
        ("gopher, https, http", "evil.example, front.example, inner.example"),
        ("https", "front.example"),
    ):
        found = base_of(
            client, X_Forwarded_For=forwarded, X_Forwarded_Proto=proto, X_Forwarded_Host=host
        )
        assert found == "https://front.example"


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8"])
def test_nobody_else_is_believed(caller: Caller, trusted: str) -> None:
    client = caller(FROM, TRUSTED_PROXIES=trusted)

    found = base_of(client, X_Forwarded_Proto="https", X_Forwarded_Host="evil.example")

    assert found == "http://localhost"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.example.org", "https://api.example.org"),
        ("https://api.example.org/", "https://api.example.org"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ("https://example.org/inference/v2/", "https://example.org/inference/v2"),
    ],
)
def test_a_public_url_goes_over_everything(caller: Caller, url: str, base: str) -> None:
    client = caller(TRUSTED_PROXIES="127.0.0.1", TRUTHGPT_PUBLIC_URL=url)

    assert base_of(client, Host="inner", X_Forwarded_Proto="http", X_Forwarded_Host="x") == base


@pytest.mark.parametrize(
    "url",
    [
        *("example.org", "ftp://example.org", "https://", "https://a b", "https://u:p@example.org"),
        *("https://example.org?x=1", "https://example.org#x", "https://example.org/<x>"),
        "https://example.org//x",
    ],
)
def test_a_public_url_that_is_none_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(ConfigError, match="TRUTHGPT_PUBLIC_URL"):
        load_settings(TRUTHGPT_PUBLIC_URL=url)
