"""The shapes in which clients send requests: what differs from one to the next, and in how many writes.

A server that remembers request heads is fast for `same` alone. Real clients send `client`: this project's
own client puts a fresh `Idempotency-Key` on every submission, and http.client, httpx and httpx2 write head
and body apart.
"""

import secrets
import uuid
from collections.abc import Callable
from typing import Literal, get_args

Shape = Literal["client", "traced", "same"]
"""`client`: a fresh `Idempotency-Key`, head and body in two writes. `traced`: a fresh W3C `traceparent`, two
writes. `same`: one head for all requests, in one write with its body."""

SHAPES: tuple[Shape, ...] = get_args(Shape)


def fresh_headers(shape: Shape) -> Callable[[], dict[str, str]]:
    """What makes the headers that each submission has to itself."""
    if shape == "client":
        return lambda: {"Idempotency-Key": str(uuid.uuid4())}
    if shape == "traced":
        return lambda: {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
    return dict


def writes(shape: Shape, head: bytes, body: bytes) -> tuple[bytes, ...]:
    """The pieces in which head and body are sent."""
    return (head + body,) if shape == "same" or not body else (head, body)
