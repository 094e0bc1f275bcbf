"""Rate limits over HTTP: the headers, the refusal, who is counted, what is not limited."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.http.gate import LIGHT
from api.services import of
from shared.domain.errors import ConfigError, StoreUnavailable
from shared.hooks import Hooks
from shared.settings import Settings
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, Rings

ECHO = {"model": "echo", "prompt": "hello"}
LLAMA = {"model": "llama", "prompt": "twelve bytes", "params": {"max_new_tokens": 7}}
ITEM = re.compile(r'"([^"]+)"((?:;[a-z]+=(?:\d+|"[^"]*"))*)')


class Refusals(Hooks):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def request_limited(self, method: str, endpoint: str, policy: str) -> None:
        self.seen.append((f"{method} {endpoint}", policy))


Limited = Callable[..., FlaskClient]


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def limited(
    settings: Settings, store: JobStore, rings: Rings, refusals: Refusals
) -> Iterator[Limited]:
    """Makes an app with other limits and gives a client of it, with the token."""
    apps = []

    def make(*, token: bool = True, **changes: Any) -> FlaskClient:
        app = create_app(settings.model_copy(update=changes), store=store, ring=rings)
        apps.append(app)
        of(app).observers.add(refusals)
        client = app.test_client()
        if token:
            client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
        return client

    yield make
    for app in apps:
        of(app).close()


def items(header: str) -> dict[str, dict[str, str]]:
    """A structured field list of strings with parameters (RFC 9651)."""
    found = {}
    for part in header.split(", "):
        match = ITEM.fullmatch(part)
        assert match is not None, part
        pairs = (pair.partition("=") for pair in match[2].split(";") if pair)
        found[match[1]] = {name: value for name, _, value in pairs}
    return found


def test_every_answer_that_a_limit_touched_says_how_one_stands(limited: Limited) -> None:
    client = limited(rate_rpm=5, rate_rph=50)

    answers = [client.post("/v1/jobs", json=ECHO) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert items(answers[-1].headers["RateLimit-Policy"]) == {
        "submit": {"q": "5", "w": "60"},
        "submit-hour": {"q": "50", "w": "3600"},
    }
    state = items(answers[-1].headers["RateLimit"])
    assert (state["submit"]["r"], state["submit-hour"]["r"]) == ("2", "47")
    assert 0 < int(state["submit"]["t"]) <= 61 and 0 < int(state["submit-hour"]["t"]) <= 3660


def test_also_a_refused_body_was_touched(limited: Limited) -> None:
    answer = limited(rate_rpm=5).post("/v1/jobs", json={"model": "nobody", "prompt": "x"})

    assert answer.status_code == 404
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "4"


def test_above_the_limit_is_429(limited: Limited, store: JobStore, refusals: Refusals) -> None:
    client = limited(rate_rpm=2)
    for _ in range(2):
        client.post("/v1/jobs", json=ECHO)

    answer = client.post("/v1/infer", json=ECHO)

    assert (answer.status_code, answer.json["code"]) == (429, "rate_limited")
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Retry-After"] == items(answer.headers["RateLimit"])["submit"]["t"]
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "0"
    assert len(answer.headers.getlist("Retry-After")) == 1
    assert refusals.seen == [("POST /v1/infer", "submit")]
    assert store.status("echo").waiting == 2


def test_polling_is_not_charged_to_submissions(limited: Limited) -> None:
    client = limited(rate_rpm=1)
    job = client.post("/v1/jobs", json=ECHO).json

    polls = [client.get(f"/v1/jobs/{job['id']}") for _ in range(10)]

    assert {poll.status_code for poll in polls} == {200}
    assert list(items(polls[0].headers["RateLimit-Policy"])) == ["other"]
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 429


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/docs", "/openapi.json"])
def test_probes_and_documentation_are_never_limited(limited: Limited, path: str) -> None:
    client = limited(rate_rpm=1, token=False)

    answers = [client.get(path) for _ in range(3)]

    assert 429 not in {answer.status_code for answer in answers}
    assert "RateLimit" not in answers[0].headers


def test_wrong_tokens_count_for_their_address_and_for_nobody_else(limited: Limited) -> None:
    client = limited(rate_rpm=2, token=False)
    wrong = {"Authorization": "Bearer guess"}

    codes = [client.get("/v1/jobs", headers=wrong).status_code for _ in range(3)]

    assert codes == [401, 401, 429]
    assert client.get("/v1/jobs", headers=AUTH).status_code == 200
    elsewhere = client.get("/v1/jobs", headers=wrong, environ_base={"REMOTE_ADDR": "203.0.113.9"})
    assert elsewhere.status_code == 401


def test_addresses_behind_a_trusted_proxy_count_apart(limited: Limited, settings: Settings) -> None:
    trusting = Settings(TRUSTED_PROXIES="127.0.0.1").trusted_proxies
    client = limited(rate_rpm=1, trusted_proxies=trusting, token=False)

    def ask(address: str) -> int:
        return client.get("/v1/jobs", headers={"X-Forwarded-For": address}).status_code

    assert [ask("198.51.100.1"), ask("198.51.100.2"), ask("198.51.100.1")] == [401, 401, 429]


def test_a_ticket_counts_for_the_address_of_its_reader(limited: Limited) -> None:
    client = limited(rate_rpm=1)
    job = client.post("/v1/jobs", json=ECHO).json
    client.post(f"/v1/jobs/{job['id']}/cancel")
    path = job["urls"]["events"].partition("/v1/")[2]
    client.environ_base.pop("HTTP_AUTHORIZATION")

    codes = [client.get(f"/v1/{path}").status_code for _ in range(11)]

    assert codes == [200] * 10 + [429]


def test_tokens_are_charged_beside_requests(limited: Limited, refusals: Refusals) -> None:
    client = limited(rate_tpm=25)

    answers = [client.post("/v1/jobs", json=LLAMA) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    policies = items(answers[0].headers["RateLimit-Policy"])
    assert policies["tokens"] == {"q": "25", "qu": '"tokens"', "w": "60"}
    assert items(answers[1].headers["RateLimit"])["tokens"]["r"] == "5"
    assert refusals.seen == [("POST /v1/jobs", "tokens")]
    assert client.post("/v1/jobs", json=ECHO).status_code == 202, "an echo has no tokens"


def test_an_endpoint_may_have_a_limit_of_its_own(limited: Limited) -> None:
    client = limited(rate_endpoints={"GET /v1/models": 1})

    assert [client.get("/v1/models").status_code for _ in range(2)] == [200, 429]
    assert client.get("/v1/jobs").status_code == 200


def test_a_limit_for_no_endpoint_is_refused_at_start(limited: Limited) -> None:
    with pytest.raises(ConfigError, match=r"RATE_LIMIT_ENDPOINTS.*GET /v1/nothing"):
        limited(rate_endpoints={"GET /v1/nothing": 1})


def test_without_redis_the_process_limits_alone(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited(rate_other_rpm=1, redis_url="redis://127.0.0.1:1/0")

    codes = [client.get("/v1/jobs").status_code for _ in range(2)]

    assert codes == [200, 429]


def test_a_job_and_its_charge_are_one_call(limited: Limited, store: JobStore) -> None:
    client = limited(rate_rpm=5, rate_rph=50, rate_tpm=1000)
    client.post("/v1/jobs", json=LLAMA)

    def calls() -> int:
        stats: Any = store.redis.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    before = calls()
    answer = client.post("/v1/jobs", json=LLAMA)

    assert calls() - before == 1
    assert set(items(answer.headers["RateLimit"])) == {"submit", "submit-hour", "tokens"}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/infer"])
def test_what_makes_no_job_is_charged_too(limited: Limited, path: str) -> None:
    client = limited(rate_rpm=2)

    codes = [client.post(path, json=ECHO | {"model": "nobody"}).status_code for _ in range(3)]

    assert codes == [404, 404, 429]


def test_a_repeated_submission_is_charged(limited: Limited) -> None:
    client = limited(rate_rpm=2)
    headers = {"Idempotency-Key": "k"}

    codes = [client.post("/v1/jobs", json=ECHO, headers=headers).status_code for _ in range(3)]

    assert codes == [202, 200, 429]


def test_above_the_limit_a_heavy_body_is_not_even_read(limited: Limited) -> None:
    client = limited(rate_rpm=1)
    client.post("/v1/jobs", json=ECHO)

    body = io.BytesIO(b" " * (LIGHT + 1))
    answer = client.post("/v1/jobs", input_stream=body, content_type="application/json")

    assert answer.status_code == 429
    assert body.tell() == 0


def test_nothing_is_charged_twice_when_its_job_cannot_be_made(
    limited: Limited, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited(rate_rpm=5)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("Redis did not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_send", away)
        answer = client.post("/v1/jobs", json=ECHO)

    assert answer.status_code == 503
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "4"
    answer = client.post("/v1/jobs", json=ECHO)
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "3"


def test_an_answer_about_nothing_says_how_one_stands_too(limited: Limited) -> None:
    client = limited(rate_other_rpm=5)

    answer = client.get(f"/v1/jobs/job_{'0' * 32}")

    assert answer.status_code == 404
    assert items(answer.headers["RateLimit"])["other"]["r"] == "4"


def test_a_refusal_of_the_store_is_charged_and_says_how_one_stands(
    limited: Limited,
) -> None:
    client = limited(rate_rpm=5, tenant_max_queued=1)
    client.post("/v1/jobs", json=ECHO)

    answer = client.post("/v1/jobs", json=ECHO)

    assert (answer.status_code, answer.json["code"]) == (503, "tenant_queue_full")
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "3"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/infer", "/v1/infer/stream"])
def test_a_key_that_was_used_with_another_body_is_charged(limited: Limited, path: str) -> None:
    client = limited(rate_rpm=5)
    client.post("/v1/jobs", json=ECHO, headers={"Idempotency-Key": "k"})

    other = ECHO | {"prompt": "another"}
    answer = client.post(path, json=other, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_mismatch")
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "3"


def test_a_stream_says_how_one_stands_with_requests_and_tokens(limited: Limited) -> None:
    client = limited(rate_rpm=5, rate_tpm=1000)
    headers = {"Idempotency-Key": "k"}
    job = client.post("/v1/jobs", json=LLAMA, headers=headers).json
    client.post(f"/v1/jobs/{job['id']}/cancel")

    answer = client.post("/v1/infer/stream", json=LLAMA, headers=headers)

    assert answer.status_code == 200 and answer.headers["Idempotent-Replayed"] == "true"
    state = items(answer.headers["RateLimit"])
    assert (state["submit"]["r"], state["tokens"]["r"]) == ("3", "980")
    answer.close()


def test_a_stream_above_the_limit_writes_no_reader_down(limited: Limited, store: JobStore) -> None:
    client = limited(rate_rpm=1)
    client.post("/v1/jobs", json=ECHO)

    assert client.post("/v1/infer/stream", json=ECHO).status_code == 429
    assert not list(store.redis.scan_iter(store.keys("readers", "*")))


def test_what_cannot_be_waited_for_is_charged_once(
    limited: Limited, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel on which the end would be told is away, so no job is made."""
    client = limited(rate_rpm=5)

    def away(_: str) -> None:
        raise StoreUnavailable("The event channel does not answer.")

    monkeypatch.setattr(of(client.application).hub, "expect", away)
    answer = client.post("/v1/infer", json=ECHO)

    assert answer.status_code == 503
    assert items(answer.headers["RateLimit"])["submit"]["r"] == "4"
    assert store.listing("default") == ([], None)
