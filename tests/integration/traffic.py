"""What a server sees in a bad hour, in seconds: two tenants, failures, a breaker, webhooks, refusals."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from client import Client
from shared.redis.connection import connect
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.keys import Keys
from tests.conftest import eventually
from tests.integration.stack import TOKEN, Stack
from tests.receivers import SECRET, receiver, status

WORDS = "the quick brown fox jumps over the lazy dog "
SETTINGS = {
    "WEBHOOK_HMAC_SECRET": SECRET,
    "WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
    "RATE_LIMIT_ENDPOINTS": "GET /v1/stats=1",
}
"""What a stack needs for this."""


def catalogue(folder: Path) -> str:
    """A model that is well, and `ill`, which fails while `folder` has a file of that name."""
    return f"""
models:
  echo: {{engine: echo, batch: {{max_size: 16}}}}
  ill:
    engine: tests.workers.ailing:Ailing
    breaker: {{failure_threshold: 3, timeout_sec: 1, max_timeout_sec: 1}}
    retries: {{max_attempts: 2}}
    options: {{folder: "{folder}", capacity: 1}}
"""


def everyday(client: Client, jobs: int = 5) -> None:
    """Jobs that succeed, no two alike, and a request for what is not there."""
    for _ in range(jobs):
        client.infer("echo", WORDS + secrets.token_hex(8), params={"step_ms": 5})
    missing = httpx.get(f"{client.base_url}/v1/nothing")
    assert missing.status_code == 404


def a_bad_hour(stack: Stack, folder: Path) -> None:
    """A worker of `ill` must be at work."""
    with stack.client() as client, other_tenant(stack) as acme:
        everyday(client)
        everyday(acme)
        _webhooks(client)
        _refusals(stack)
        _failures(client, folder)


@contextmanager
def other_tenant(stack: Stack) -> Iterator[Client]:
    redis = connect(stack.redis.url, 5.0)
    grant = Grant("acme", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    _, token = ApiKeys(redis, Keys("truthgpt"), Signer(TOKEN)).create(grant)
    redis.close()
    with Client(stack.url, token, timeout=30) as client:
        yield client


def _webhooks(client: Client) -> None:
    """One that is delivered, and one that its receiver does not want."""
    for answer, outcome in ((204, "delivered"), (410, "dead")):
        with receiver(status(answer)) as there:
            webhook = {"url": there.url, "events": ["completed"]}
            job = client.submit("echo", WORDS, webhook=webhook)
            eventually(lambda: [d.status for d in client.deliveries(job.id)] == [outcome])  # noqa: B023


def _refusals(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answers = [httpx.get(f"{stack.url}/v1/stats", headers=headers).status_code for _ in range(2)]
    assert answers == [200, 429]


def _failures(client: Client, folder: Path) -> None:
    """A job that fails after a retry, and one that opens the breaker and outlives it."""
    (folder / "ill").touch()
    failed = client.submit("ill", "first").wait(60)
    assert (failed.status, failed.attempt) == ("failed", 2)
    # Each input counts once against the engine, however often it fails.
    *_, waits = [client.submit("ill", f"another {n}") for n in range(3)]
    eventually(lambda: _breaker(client)["opened"], what="the breaker opens")
    (folder / "ill").unlink()
    assert waits.wait(60).status == "succeeded"
    assert _breaker(client)["state"] == "closed"


def _breaker(client: Client) -> dict[str, object]:
    [model] = [model for model in client.models() if model.name == "ill"]
    return dict(model.raw["breaker"])
