"""`truthgpt webhooks secrets`: made by one process, signed with by another, shown once."""

import json
import logging
from functools import partial

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from cli.webhook_secrets import secrets as command
from shared.settings import Settings, key_secret
from shared.store.jobs import JobStore
from shared.webhooks.secrets import WebhookSecrets
from shared.webhooks.signing import Keyring
from tests.api.conftest import app, catalogue, client, rings, settings
from tests.cli.test_keys import server
from tests.shared.webhooks.test_secrets import signed_by

__all__ = ["app", "catalogue", "client", "rings", "server", "settings"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def test_a_secret_from_its_making_to_its_end(server: Settings, store: JobStore) -> None:
    secret = partial(key_secret, server)
    sender = WebhookSecrets(store.redis, store.keys, secret, Keyring(()))
    assert "WEBHOOK_HMAC_SECRET" in run("list", "--tenant", "acme").stdout

    first = run("rotate", "--tenant", "acme")
    assert first.stdout.startswith("whsec_") and first.stdout.count("\n") == 1
    assert "not shown again" in first.stderr
    second = json.loads(run("rotate", "--tenant", "acme", "--overlap", "1h", "--json").stdout)
    both = [first.stdout.strip(), second["secret"]]
    assert signed_by(sender.keyring("acme"), *both) == both

    listed = run("list", "--tenant", "acme", "--json").stdout
    rows = json.loads(listed)["data"]
    assert [row["state"] for row in rows] == ["active", "active"]
    assert rows[0]["ends_at"] is not None and rows[1]["ends_at"] is None
    shown = listed + run("list", "--tenant", "acme").stdout
    assert not any(text.removeprefix("whsec_") in shown for text in both)

    assert run("revoke", "--tenant", "acme", rows[0]["id"]).exit_code == 0
    assert signed_by(sender.keyring("acme"), *both) == both[1:]


def test_nothing_of_it_is_logged(server: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        text = run("rotate", "--tenant", "acme").stdout.strip()
    assert text.removeprefix("whsec_") not in caplog.text


def test_with_it_a_tenant_has_webhooks_where_the_server_has_no_secret(
    server: Settings, client: FlaskClient
) -> None:
    body = {"model": "echo", "prompt": "x", "webhook": {"url": "https://192.0.2.1:9000/"}}
    assert client.post("/v1/jobs", json=body).json["code"] == "webhook_secret_missing"
    run("rotate", "--tenant", "default")
    assert client.post("/v1/jobs", json=body).json["code"] == "webhook_refused"
