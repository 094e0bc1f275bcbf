"""A client's connection as the worker sees it: what it waits for, since when, and what it sends together."""

import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

HEAD_SECONDS = 5.0
"""How long a request's line and headers may take from their first byte, however they drip."""
STALLED_SECONDS = 60.0
"""A client that takes nothing of its answer for so long is cut off."""


class Connection:
    """A client's socket that knows when it began to wait for a request, and when one began to come.

    As a context it lasts while the head of a request is read. All else is the socket's. `common` is for the
    worker: what the environments of its requests have in common.
    """

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.send = sock.send
        self.settimeout = sock.settimeout
        self.gettimeout = sock.gettimeout
        self.common: dict[str, Any] | None = None
        self._held = b""
        self._body: Within | None = None
        self._waits_since: float | None = time.monotonic()
        self._began: float | None = None
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def __enter__(self) -> None:
        self._waits_since = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waits_since = self._began = None

    def recv(self, *args: Any) -> bytes:
        """As `socket.recv`. Notes when a request began to come."""
        try:
            data: bytes = self.sock.recv(*args)
        except OSError:
            # gevent breaks off a read where another greenlet ends the input.
            if not self._ended:
                raise
            return b""
        if self._waits_since is not None and self._began is None:
            self._began = time.monotonic()
        return data

    def hold(self, data: bytes) -> None:
        """Send this with what is sent next."""
        self._held += data

    def release(self) -> None:
        """Send what is held, if nothing has been sent since."""
        if self._held:
            self.sendall(b"")

    def sendall(self, data: bytes) -> None:
        """Send what is held, and this behind it. Raises `TimeoutError` where the client stalls."""
        held, self._held = self._held, b""
        whole = held + data if held else data
        try:
            # Most answers go at once, without a timer and without a look at the size of the kernel's buffer.
            sent = self.send(whole, 0, 0.0)
        except BlockingIOError:
            sent = 0
        if sent < len(whole):
            self._send_waiting(memoryview(whole)[sent:])

    def _send_waiting(self, rest: memoryview) -> None:
        before = self.gettimeout()
        self.settimeout(STALLED_SECONDS)
        try:
            self.sock.sendall(rest)
        finally:
            self.settimeout(before)

    def within(self, seconds: float) -> "Within":
        """For a read of the whole body: it ends after so many seconds, however the body drips."""
        self._body = Within(self, seconds)
        return self._body

    def has_body(self) -> None:
        """Nothing more is read of the body."""
        self._body = None

    def overdue(self, now: float, keepalive: float) -> bool:
        """Whether its request has not begun within `keepalive` seconds, or has not come in time.

        A body that has not is told so.
        """
        if self._body is not None:
            return self._body.overdue(now)
        if self._began is not None:
            return now - self._began > HEAD_SECONDS
        return self._waits_since is not None and now - self._waits_since > keepalive

    @property
    def idle(self) -> bool:
        """Whether it waits for a request of which nothing has come."""
        return self._waits_since is not None and self._began is None

    def end_input(self) -> None:
        """Make whoever reads from it find its end."""
        self._ended = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)


class Within:
    """The time that a body has to arrive, while it is read. Raises `TimeoutError` where it did not."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds
        self._late = False

    def overdue(self, now: float) -> bool:
        """Whether the time is over. Whoever asks ends the input then, and with it the read."""
        self._late = now > self._until
        return self._late

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self._connection.has_body()
        if self._late:
            raise TimeoutError
