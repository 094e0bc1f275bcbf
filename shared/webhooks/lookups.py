"""Looking up host names without a time limit of their own, so that none of them holds up anybody else.

The C library takes no timeout: a name whose servers do not answer holds its thread for as long as the
system's resolver is patient. So look-ups have threads of their own (never those that gevent keeps for all its
work), at most so many at once, and a tenant has one more only while it has fewer than are free: whatever one
tenant asks for, half of them are left, and half of those when a second does the same.
"""

import _thread
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from shared.domain.errors import TryLater

SECONDS = 3.0
"""The longest wait for a look-up, its turn included."""
MOST = 64
"""Look-ups that may hang at once in a process."""
SHORTEST_PAUSE, PAUSE = 0.001, 0.016
"""Seconds between two looks whether a look-up has ended, or there is room for one."""
RETRY_SECONDS = 5

Resolve = Callable[[str, int], Sequence[str]]

_FOREVER = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Unresolved(Exception):
    """A name has no address. `passing`: the name service did not answer, which may pass."""

    def __init__(self, host: str, *, passing: bool) -> None:
        super().__init__(f"{host} does not resolve")
        self.passing = passing


class LookupsBusy(TryLater):
    """So many look-ups of the tenant's hang that it gets no further one."""

    code = "webhook_lookups_busy"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Look-ups of your webhooks' host names hang, so that of {host[:80]} has to wait. "
            "Try again later, or leave the webhook out.",
            RETRY_SECONDS,
        )


def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver has for a name. Raises `Unresolved`."""
    try:
        found = _getaddrinfo()(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        passing = not (isinstance(error, socket.gaierror) and error.errno in _FOREVER)
        raise Unresolved(host, passing=passing) from None
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class Lookups:
    """The look-ups of one process. Safe to share between threads, and between greenlets of one thread."""

    def __init__(self, resolve: Resolve, *, seconds: float = SECONDS, most: int = MOST) -> None:
        self._resolve = resolve
        self._seconds = seconds
        self._most = most
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int, tenant: str) -> Sequence[str]:
        """What a name resolves to, within the time limit.

        Raises `Unresolved`, `LookupsBusy` where the tenant's share is used up for all that time.
        """
        deadline = time.monotonic() + self._seconds
        while not self._take(tenant):
            if time.monotonic() >= deadline:
                raise LookupsBusy(host)
            time.sleep(PAUSE)
        outcome: list[Sequence[str] | Exception] = []

        def look() -> None:
            try:
                outcome.append(self._resolve(host, port))
            except Exception as error:  # noqa: BLE001 - raised again by the caller
                outcome.append(error)
            finally:
                self._give_back(tenant)

        try:
            _start_thread()(look, ())
        except BaseException:
            self._give_back(tenant)
            raise
        # A look now and then: a thread of the system's cannot safely wake a greenlet of a loop that may be
        # gone.
        pause = SHORTEST_PAUSE
        while not outcome and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)
        if not outcome:
            raise Unresolved(host, passing=True)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _take(self, tenant: str) -> bool:
        with self._lock:
            if self._held[tenant] >= self._most - self._held.total():
                return False
            self._held[tenant] += 1
            return True

    def _give_back(self, tenant: str) -> None:
        with self._lock:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]


def _getaddrinfo() -> Any:
    """Python's own: that of gevent would take one of the threads that it keeps for everything."""
    gevent = _gevent()
    return socket.getaddrinfo if gevent is None else gevent.get_original("socket", "getaddrinfo")


def _start_thread() -> Any:
    """What starts a thread of the system's, wherever threads are greenlets."""
    gevent = _gevent()
    return (
        _thread.start_new_thread
        if gevent is None
        else gevent.get_original("_thread", "start_new_thread")
    )


def _gevent() -> Any:
    gevent = sys.modules.get("gevent.monkey")
    return gevent if gevent is not None and gevent.is_module_patched("socket") else None
