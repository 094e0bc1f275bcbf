"""Tokens of API keys: made, digested, told apart.

A token is `tgk_<key id>_<32 random bytes>`. Redis holds its HMAC-SHA256 under a secret that Redis does not
know (`shared.settings.key_secret`): who reads Redis cannot call, who writes to it cannot make a key.
"""

import hashlib
import hmac
import re
import secrets

_TOKEN = re.compile(r"tgk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class Signer:
    """Makes and digests tokens under one secret."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"truthgpt api key v1", hashlib.sha256)
        self.name = hmac.digest(self._key, b"name", hashlib.sha256).hex()[:8]

    def digest(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode("utf-8", "replace"), hashlib.sha256)


def new_token(key_id: str) -> str:
    return f"tgk_{key_id}_{secrets.token_urlsafe(32)}"


def key_id_of(token: str) -> str | None:
    """The id that a token names, None where it is none of ours in form."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None
