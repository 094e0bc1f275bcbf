"""Signatures of webhooks by Standard Webhooks 1.0, on the way out and on the way in."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from shared.domain.errors import JobsError

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64
MAX_SECRETS = 8
MAX_SIGNATURES = 16
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
HOW = "make one with: echo whsec_$(openssl rand -base64 32)"

_ID = re.compile(r"[!-~]{1,255}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class InvalidSignature(JobsError):
    code = "invalid_signature"


def parse_secrets(value: str) -> tuple[bytes, ...]:
    """The keys in a comma-separated list of secrets, the newest first.

    A secret is base64 of 24 to 64 bytes, with or without `whsec_`, as every library of the standard
    reads it. Raises `ValueError`, which never shows a secret.
    """
    words = [word.strip() for word in value.split(",") if word.strip()]
    if len(words) > MAX_SECRETS:
        raise ValueError(f"at most {MAX_SECRETS} secrets may be active")
    return tuple(_key(word, place) for place, word in enumerate(words, 1))


def _key(word: str, place: int) -> bytes:
    encoded = word.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"secret {place} is not base64; {HOW}") from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(
            f"secret {place} has {len(key)} bytes, not {MIN_BYTES} to {MAX_BYTES}; {HOW}"
        )
    return key


def claimed(headers: Mapping[str, str], *, now: float, window: float) -> tuple[str, int, list[str]]:
    """What a message says of itself: its id, when it was sent, its signatures. Nothing of it is proved.

    Raises `InvalidSignature` where no signature could make it good: a header is missing or malformed, or the
    time is not within `window` seconds of `now`.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = lower.get(ID, ""), lower.get(TIMESTAMP, "")
    given = lower.get(SIGNATURE, "").split()
    if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp) and given):
        raise InvalidSignature(f"Send the headers {ID}, {TIMESTAMP} and {SIGNATURE}.")
    moment = int(timestamp)
    if abs(now - moment) > window:
        raise InvalidSignature(
            f"{TIMESTAMP} is more than {window:g} seconds from this server's time. "
            "Sign each attempt anew, and check the clock."
        )
    return message_id, moment, given


class Keyring:
    """The active secrets. Several are active while one takes another's place."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._signers = tuple(Webhook(key) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._signers)

    def headers(self, message_id: str, moment: int, body: bytes) -> dict[str, str]:
        """The three headers of a message sent at `moment` (seconds since 1970), signed by every secret."""
        return {
            ID: message_id,
            TIMESTAMP: str(moment),
            SIGNATURE: " ".join(self._signatures(message_id, moment, body.decode())),
        }

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> str:
        """The id of a message that one of the secrets signed within `window` seconds of `now`.

        Raises `InvalidSignature`.
        """
        message_id, moment, given = claimed(headers, now=now, window=window)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise InvalidSignature("The body is not UTF-8.") from None
        for expected in self._signatures(message_id, moment, text):
            for signature in given[:MAX_SIGNATURES]:
                if hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
                    return message_id
        raise InvalidSignature(
            "No signature fits this body. Sign the raw bytes of the body with a secret that is active here."
        )

    def _signatures(self, message_id: str, moment: int, text: str) -> list[str]:
        at = datetime.fromtimestamp(moment, UTC)
        return [signer.sign(message_id, at, text) for signer in self._signers]
