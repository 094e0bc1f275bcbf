"""A tenant's signing secrets: its own alone, rotated, and never in Redis or a log."""

import base64
import logging
import math
import time

import pytest
from standardwebhooks import Webhook

from shared.domain.errors import ConfigError
from shared.store.jobs import JobStore
from shared.webhooks.secrets import WebhookSecrets
from shared.webhooks.signing import Keyring, parse_secrets
from tests.receivers import SECRET

SERVER = "the server's own secret"
FALLBACK = Keyring(parse_secrets(SECRET))


def secrets_of(store: JobStore, server: str = SERVER) -> WebhookSecrets:
    return WebhookSecrets(store.redis, store.keys, lambda: server, FALLBACK)


@pytest.fixture
def secrets(store: JobStore) -> WebhookSecrets:
    return secrets_of(store)


def signed_by(keyring: Keyring, *candidates: str) -> list[str]:
    """Those of the secrets that a message of this keyring verifies under."""
    now = int(time.time())
    headers = keyring.headers("msg_1", now, b"{}")
    fitting = []
    for secret in candidates:
        own = Keyring([base64.b64decode(secret.removeprefix("whsec_"))])
        if set(own.headers("msg_1", now, b"{}")["webhook-signature"].split()) & set(
            headers["webhook-signature"].split(" ")
        ):
            Webhook(secret).verify(b"{}", headers)
            fitting.append(secret)
    return fitting


def test_without_one_of_its_own_the_servers_sign(secrets: WebhookSecrets) -> None:
    assert secrets.keyring("acme") is FALLBACK
    assert secrets.all("acme") == []


def test_a_secret_is_the_tenants_own(secrets: WebhookSecrets) -> None:
    _, acme = secrets.rotate("acme", 0)
    _, other = secrets.rotate("other", 0)

    assert acme != other and len(base64.b64decode(acme.removeprefix("whsec_"))) == 32
    assert signed_by(secrets.keyring("acme"), acme, other, SECRET) == [acme]
    assert signed_by(secrets.keyring("other"), acme, other, SECRET) == [other]


def test_rotation_signs_with_both_for_a_while(store: JobStore, secrets: WebhookSecrets) -> None:
    first, old = secrets.rotate("acme", 0)
    second, new = secrets.rotate("acme", 3600)
    assert signed_by(secrets.keyring("acme"), old, new) == [old, new]
    ends = {known.id: known.ends for known in secrets.all("acme")}
    assert ends[second.id] == math.inf
    assert time.time() + 3500 < ends[first.id] <= time.time() + 3600

    secrets.rotate("acme", 10**6)
    assert {known.id: known.ends for known in secrets.all("acme")}[first.id] == ends[first.id]

    secrets.revoke("acme", first.id)
    secrets.revoke("acme", first.id)
    assert signed_by(secrets_of(store).keyring("acme"), old, new) == [new]
    with pytest.raises(ConfigError):
        secrets.revoke("other", second.id)


def test_the_active_ones_are_bounded(secrets: WebhookSecrets) -> None:
    made = [secrets.rotate("acme", 3600)[0] for _ in range(8)]
    with pytest.raises(ConfigError, match="revoke"):
        secrets.rotate("acme", 3600)
    secrets.revoke("acme", made[0].id)
    secrets.rotate("acme", 0)
    assert sum(known.active(time.time()) for known in secrets.all("acme")) == 1


@pytest.mark.parametrize("tenant", ["", "a b", "a:b", "x" * 65])
def test_a_tenant_has_a_tenants_name(secrets: WebhookSecrets, tenant: str) -> None:
    with pytest.raises(ConfigError, match="tenant"):
        secrets.rotate(tenant, 0)


def test_redis_does_not_know_it(store: JobStore, secrets: WebhookSecrets) -> None:
    made, text = secrets.rotate("acme", 0)
    raw = base64.b64decode(text.removeprefix("whsec_"))
    held = store.redis.hgetall(store.keys("webhook-secrets", "acme"))
    for value in (*held, *held.values()):  # type: ignore[union-attr]
        assert text[6:].encode() not in value and raw not in value
        assert raw.hex().encode() not in value
    assert text not in repr(made)
    # Whoever copies an entry to another tenant, or makes one up, gets a secret that nobody knows.
    store.redis.hset(store.keys("webhook-secrets", "other"), mapping=held)  # type: ignore[arg-type]
    assert signed_by(secrets.keyring("other"), text) == []


@pytest.mark.parametrize("server", ["another secret altogether", None])
def test_where_it_cannot_be_made_again_nothing_is_signed(
    store: JobStore, caplog: pytest.LogCaptureFixture, server: str | None
) -> None:
    _, text = secrets_of(store).rotate("acme", 0)

    def missing() -> str:
        raise ConfigError("TRUTHGPT_API_TOKEN: not set")

    here = WebhookSecrets(
        store.redis, store.keys, missing if server is None else lambda: server, FALLBACK
    )
    with caplog.at_level(logging.ERROR):
        assert not here.keyring("acme"), "and not by the server's, which others know"
    assert "acme" in caplog.text and text not in caplog.text
    assert here.keyring("other") is FALLBACK


def test_the_secret_that_a_tenant_is_told_signs_its_predictions(secrets: WebhookSecrets) -> None:
    standing = secrets.told("t")
    assert standing == secrets.told("t") != secrets.told("u")
    assert signed_by(secrets.told_keyring("t"), standing, SECRET) == [standing]

    _, own = secrets.rotate("t", 60)

    assert secrets.told("t") == own
    assert signed_by(secrets.told_keyring("t"), standing, own) == [own]
