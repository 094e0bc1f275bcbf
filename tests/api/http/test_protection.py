"""What every answer says to browsers, and which of their pages may call."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.services import of
from shared.domain.errors import ConfigError
from shared.settings import Settings, load_settings
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, Rings, Server

OURS = "https://app.example.org"
ALSO_OURS = "http://localhost:3000"


@pytest.fixture
def page(settings: Settings, store: JobStore, rings: Rings) -> Callable[..., dict[str, str]]:
    """What a page of an origin is told, by header name in lower case."""
    shared = settings.model_copy(update={"cors_origins": (OURS, ALSO_OURS)})
    app = create_app(shared, store=store, ring=rings)
    caller = app.test_client()

    def ask(
        origin: str, method: str = "GET", path: str = "/v1/jobs", **headers: str
    ) -> dict[str, str]:
        sent = {
            "Origin": origin,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        response = caller.open(path, method=method, headers=sent)
        return {"status": str(response.status_code)} | {
            name.lower(): value for name, value in response.headers.items()
        }

    of(app).close()
    return ask


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/docs", "/nothing", "/problems/forbidden"])
def test_every_answer_is_protected(anonymous: FlaskClient, path: str) -> None:
    headers = anonymous.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    # The forms of the documentation's page are sent with their origin.
    assert headers["Referrer-Policy"] == ("same-origin" if path == "/docs" else "no-referrer")
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


def test_the_server_does_not_say_what_it_is_made_of(server: Server) -> None:
    for path in ("/health", "/nothing"):
        said = {name.lower(): value for name, value in server.request("GET", path).headers.items()}
        assert "gunicorn" not in str(said).lower() and "python" not in str(said).lower()


@pytest.mark.parametrize("origin", [OURS, ALSO_OURS])
def test_pages_of_these_origins_may_call(page: Callable[..., dict[str, str]], origin: str) -> None:
    asked = page(
        origin,
        "OPTIONS",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization, idempotency-key, content-type",
    )
    answered = page(origin, Authorization=AUTH["Authorization"])
    refused = page(origin)

    assert asked["status"] == "200"
    assert asked["access-control-allow-origin"] == origin
    assert "POST" in asked["access-control-allow-methods"]
    assert "authorization" in asked["access-control-allow-headers"].lower()
    assert (answered["status"], refused["status"]) == ("200", "401")
    for answer in (answered, refused):
        assert answer["access-control-allow-origin"] == origin
        assert answer["vary"] == "Origin"
        assert "Retry-After" in answer["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.org.evil.example",
        "https://evil.example",
        "https://appXexample.org",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://sub.app.example.org",
        "null",
        "*",
    ],
)
def test_pages_of_no_other_origin_may(page: Callable[..., dict[str, str]], origin: str) -> None:
    for answer in (
        page(origin, Authorization=AUTH["Authorization"]),
        page(origin, "OPTIONS", Access_Control_Request_Method="POST"),
    ):
        assert "access-control-allow-origin" not in answer
        assert "access-control-allow-methods" not in answer


@pytest.mark.parametrize(
    "given",
    ["*", "app.example.org", "https://a.example/", "https://*.a.example", "null", "ftp://a"],
)
def test_what_is_no_origin_is_refused_at_start(given: str) -> None:
    with pytest.raises(ConfigError, match="CORS_ORIGINS"):
        load_settings(CORS_ORIGINS=given)


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f" {OURS}, {ALSO_OURS},http://[::1]:80 ")

    assert load_settings().cors_origins == (OURS, ALSO_OURS, "http://[::1]:80")
