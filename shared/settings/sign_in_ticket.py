"""A ticket that opens the console once: what `truthgpt up` prints in a link, signed with the server's token.

It is worth the token for a few minutes, so it is shown on a terminal alone and travels in a link's fragment,
which browsers send to nobody. Who redeems one notes its nonce (`api.console.sessions`).
"""

import base64
import hashlib
import hmac
import re
import secrets
import time

LIFETIME = 600
"""Seconds in which a link that signs in can be used."""
_TICKET = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


def issue_ticket(token: str, now: float | None = None) -> str:
    """A ticket for who may see the server's token anyway: `<expiry>.<nonce>.<HMAC-SHA256 of both>`."""
    expiry = int(now if now is not None else time.time()) + LIFETIME
    body = f"{expiry}.{secrets.token_urlsafe(16)}"
    return f"{body}.{_sign(token, body)}"


def nonce_of(token: str, ticket: str, now: float | None = None) -> str | None:
    """What is to be used up of a ticket that is genuine and has not expired; None of any other."""
    match = _TICKET.fullmatch(ticket)
    if match is None:
        return None
    genuine = hmac.compare_digest(_sign(token, f"{match[1]}.{match[2]}"), match[3])
    in_time = int(match[1]) > (now if now is not None else time.time())
    return match[2] if genuine and in_time else None


def _sign(token: str, body: str) -> str:
    key = hmac.digest(token.encode(), b"truthgpt console ticket v1", hashlib.sha256)
    signed = hmac.digest(key, body.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
