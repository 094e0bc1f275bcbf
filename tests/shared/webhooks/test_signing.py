"""Signatures, held against the official library of Standard Webhooks."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.webhooks.signing import InvalidSignature, Keyring, parse_secrets

OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
BODY = '{"type":"job.completed","data":{"text":"grün"}}'.encode()
NOW = 1_790_000_000


def keyring(*secrets: str) -> Keyring:
    return Keyring(parse_secrets(",".join(secrets)))


def signed(
    secret: str, *, at: int = NOW, body: bytes = BODY, name: str = "msg_1"
) -> dict[str, str]:
    """Headers as the official library makes them."""
    signature = Webhook(secret).sign(name, datetime.fromtimestamp(at, UTC), body.decode())
    return {
        "Webhook-Id": name,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": signature,
    }


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_the_official_library_accepts_every_active_secret(secret: str) -> None:
    headers = keyring(NEW, OLD).headers("msg_1", int(time.time()), BODY)

    assert len(headers["webhook-signature"].split()) == 2
    Webhook(secret).verify(BODY, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers, json_parse=False)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_what_the_official_library_signs_is_accepted(secret: str) -> None:
    found = keyring(NEW, OLD).verify(signed(secret), BODY, now=NOW, window=300)
    assert found == "msg_1"


@pytest.mark.parametrize("off", [-301, 301, -86_400, 86_400])
def test_a_timestamp_outside_the_window_is_refused_both_ways(off: int) -> None:
    with pytest.raises(InvalidSignature, match="clock"):
        keyring(NEW).verify(signed(NEW, at=NOW + off), BODY, now=NOW, window=300)
    assert keyring(NEW).verify(signed(NEW, at=NOW + off), BODY, now=NOW, window=abs(off)) == "msg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Id": "msg_2"},
        {"Webhook-Id": ""},
        {"Webhook-Id": "a b"},
        {"Webhook-Id": "x" * 300},
        {"Webhook-Timestamp": str(NOW + 1)},
        {"Webhook-Timestamp": "nan"},
        {"Webhook-Timestamp": f"{NOW}.0"},
        {"Webhook-Timestamp": "9" * 40},
        {"Webhook-Timestamp": ""},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1"},
        {"Webhook-Signature": "v1,"},
        {"Webhook-Signature": "v1,é"},
        {"Webhook-Signature": "v1," + "A" * 44},
        {"Webhook-Signature": signed(OTHER)["Webhook-Signature"]},
        {"Webhook-Signature": signed(NEW)["Webhook-Signature"].replace("v1,", "v1a,")},
    ],
)
def test_anything_else_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        keyring(NEW).verify({**signed(NEW), **change}, BODY, now=NOW, window=300)


@pytest.mark.parametrize("body", [BODY + b" ", b"", b"\xff\xfe"])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        keyring(NEW).verify(signed(NEW), body, now=NOW, window=300)


def test_one_good_signature_among_others_is_enough_but_not_after_hundreds() -> None:
    good = signed(NEW)["Webhook-Signature"]
    few = {**signed(NEW), "Webhook-Signature": f"v2,abc {good}"}
    many = {**signed(NEW), "Webhook-Signature": " ".join(["v1,abc"] * 500 + [good])}

    assert keyring(NEW).verify(few, BODY, now=NOW, window=300) == "msg_1"
    with pytest.raises(InvalidSignature):
        keyring(NEW).verify(many, BODY, now=NOW, window=300)


def test_a_secret_may_come_without_its_prefix_or_padding() -> None:
    assert (
        parse_secrets(OLD) == parse_secrets(OLD.removeprefix("whsec_").rstrip("=")) == (b"o" * 32,)
    )
    assert parse_secrets(f" {NEW} , {OLD},") == (b"n" * 32, b"o" * 32)
    assert not keyring("")


@pytest.mark.parametrize(
    "secret", ["hunter2-hunter2-hunter2-hunter2", "whsec_c2g=", "c2hvcnQ=", OLD + "é", "A" * 100]
)
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="secret 2") as refused:
        parse_secrets(f"{NEW},{secret}")
    assert secret not in str(refused.value)
    with pytest.raises(ValueError, match="at most"):
        parse_secrets(",".join([NEW] * 9))
