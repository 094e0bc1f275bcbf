"""What this thread or greenlet works on, for whoever tells of it: log lines, doorbells, spans.

The API begins a context with each request. Where one thread serves many jobs at once there is nothing to
bind; such code names the job where it speaks (`extra=` of `logging`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

TRACEPARENT = "traceparent"
"""The field with the W3C trace context that work done now belongs to."""

_NOTHING: Mapping[str, str] = {}
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=_NOTHING)


def begin(**fields: str) -> None:
    """Forget what was bound before and bind these; empty ones are left out."""
    _bound.set({name: value for name, value in fields.items() if value} if fields else _NOTHING)


def bind(**fields: str) -> None:
    """Bind more, until the next `begin`."""
    _bound.set({**_bound.get(), **fields})


def bound() -> Mapping[str, str]:
    """All fields that are bound where this is called, for the log's records."""
    return _bound.get()


def traceparent() -> str:
    """The bound trace context, '' where there is none."""
    return _bound.get().get(TRACEPARENT, "")


@contextmanager
def binding(**fields: str) -> Iterator[None]:
    """Bind these alone inside a block."""
    token = _bound.set({name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _bound.reset(token)
