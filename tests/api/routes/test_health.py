from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from api.routes.health import About, Health, Readiness
from shared.store.jobs import JobStore


def report(store: JobStore, model: str, state: str, name: str = "w1", **more: bool) -> None:
    said: dict[str, Any] = {"state": state, "engine": {"device": "cpu"}, "active": 0, **more}
    store.beat(model, name, msgspec.json.encode(said), [])


def test_the_root_says_what_this_is(anonymous: FlaskClient) -> None:
    about = About.model_validate(anonymous.get("/").json)

    assert about.name == "truthgpt-inference"
    assert anonymous.get(about.documentation).status_code == 200
    assert anonymous.get(about.openapi).status_code == 200


def test_health_asks_nobody(anonymous: FlaskClient) -> None:
    assert Health.model_validate(anonymous.get("/health").json).status == "ok"


@pytest.mark.parametrize("state", ["ready", "busy"])
def test_one_serving_model_makes_it_ready(
    anonymous: FlaskClient, store: JobStore, state: str
) -> None:
    report(store, "echo", state)
    report(store, "llama", "failed")

    response = anonymous.get("/ready")

    assert response.status_code == 200
    checks = Readiness.model_validate(response.json).checks
    assert checks.redis.ok
    assert checks.models["echo"].ok and checks.models["echo"].workers == 1
    assert not checks.models["llama"].ok
    assert checks.models["own"].state == "offline"


@pytest.mark.parametrize("state", ["starting", "unhealthy", "failed", "odd"])
def test_without_a_serving_model_it_is_not_ready(
    anonymous: FlaskClient, store: JobStore, state: str
) -> None:
    report(store, "echo", state)

    response = anonymous.get("/ready")

    assert response.status_code == 503
    assert response.json["code"] == "model_unavailable"
    assert response.json["checks"]["redis"]["ok"] is True
    assert response.json["checks"]["models"]["echo"]["ok"] is False
    assert "echo is" in response.json["detail"]
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ({"w1": False, "w2": False}, "echo is unhealthy: no worker of it takes doorbells"),
        ({"w1": False, "w2": True}, ""),
    ],
)
def test_it_asks_whether_jobs_are_consumed(
    anonymous: FlaskClient, store: JobStore, said: dict[str, bool], detail: str
) -> None:
    for name, consuming in said.items():
        report(store, "echo", "ready" if consuming else "unhealthy", name, consuming=consuming)

    response = anonymous.get("/ready")

    assert response.status_code == (503 if detail else 200)
    assert response.json["checks"]["models"]["echo"]["consuming"] is not bool(detail)
    assert detail in response.json.get("detail", "")


def test_every_answer_is_marked(anonymous: FlaskClient) -> None:
    for path in ("/", "/nothing", "/v1/jobs", "/docs"):
        headers = anonymous.get(path).headers
        assert headers["X-Request-ID"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        # The forms of the documentation's page are sent with their origin.
        assert headers["Referrer-Policy"] == ("same-origin" if path == "/docs" else "no-referrer")
        assert headers["Cache-Control"] == "no-store"
