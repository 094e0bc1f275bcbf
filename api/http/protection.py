"""What every answer says to browsers, and which pages of other origins may call."""

from flask import Flask
from flask_cors import CORS

from api.http.reply import Answered

PROTECTION = (
    ("X-Content-Type-Options", "nosniff"),
    # The URLs of events carry tickets; they must not travel on as referrers, nor stay in caches.
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
ASKED = (
    *("Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
    *("Prefer", "X-Request-ID", "traceparent"),
)
"""Request headers that a page of another origin may send."""
TOLD = (
    *("Idempotent-Replayed", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "X-Request-ID"),
)
"""Response headers that it may read."""


def protect(answer: Answered, request_id: str) -> None:
    """Add the headers that every answer has, of which the view may have chosen some itself."""
    answer.headers["X-Request-ID"] = request_id
    for name, value in PROTECTION:
        answer.headers.setdefault(name, value)


def share(app: Flask, origins: tuple[str, ...]) -> None:
    """Let pages of these origins call, and no others. Credentials of browsers are never asked for."""
    if origins:
        CORS(
            app,
            origins=list(origins),
            methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=list(ASKED),
            expose_headers=list(TOLD),
            max_age=600,
        )
