"""Grammars of requests, compiled before anything is stored, on threads that serve nobody else."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from cachetools import LRUCache

from shared.domain.errors import InvalidRequest, TryLater
from shared.grammars.calls import calls_grammar
from shared.grammars.refusal import GrammarRefused

THREADS = 2
SECONDS = 1.0
"""The longest wait for a check, its turn included; what is let in takes tens of milliseconds at most."""
REMEMBERED = 1024
"""Grammars whose check is remembered, by digest."""
RETRY_SECONDS = 2
FREE = (None, "auto", "none")
"""Choices of tools that force no call."""

Check = Callable[[Mapping[str, Any]], None]


class GrammarsBusy(TryLater):
    """Other grammars are being checked, or this one takes too long."""

    code = "grammars_busy"

    def __init__(self) -> None:
        super().__init__("The grammar could not be checked in time. Try again.", RETRY_SECONDS)


class Grammars:
    """The check of grammars in one process. Safe to share between threads, and between greenlets."""

    def __init__(self, check: Check | None = None, *, seconds: float = SECONDS) -> None:
        self._check = check
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: LRUCache[bytes, tuple[Any, ...] | None] = LRUCache(REMEMBERED)
        """None for a grammar that can be enforced, else what its refusal is made of."""
        self._run: Run | None = None

    def check(self, params: Mapping[str, Any], content: Any = None) -> None:
        """Raise `GrammarRefused` where the checked params have a grammar that cannot be enforced, or a chat
        must call a tool whose parameters cannot be, and `GrammarsBusy` where that cannot be told in time.
        """
        grammar = params.get("grammar")
        if isinstance(content, Mapping) and content.get("tool_choice") not in FREE:
            if grammar:
                raise InvalidRequest(
                    "Give a grammar, or a tool_choice that forces a call, not both."
                )
            grammar = calls_grammar(content, "hermes")
        if not grammar:
            return
        name = hashlib.sha256(msgspec.json.encode(grammar)).digest()
        with self._lock:
            known = name in self._known
            refusal = self._known.get(name)
        if not known:
            refusal = self._checked(grammar)
            with self._lock:
                self._known[name] = refusal
        if refusal is not None:
            raise GrammarRefused(*refusal)

    def _checked(self, grammar: Mapping[str, Any]) -> tuple[Any, ...] | None:
        with self._lock:
            if self._run is None:
                self._run = _beside_the_loop(self._seconds)
            run = self._run
        check = self._check or _by_llguidance()
        return run(lambda: _refusal(check, grammar))


class Run(Protocol):
    """Calls a function, perhaps on another thread. Raises `GrammarsBusy` when it does not come back."""

    def __call__(self, work: Callable[[], tuple[Any, ...] | None]) -> tuple[Any, ...] | None: ...


def _beside_the_loop(seconds: float) -> Run:
    """Where gevent serves, one thread would keep all other requests waiting."""
    from gevent import Timeout, monkey
    from gevent.lock import BoundedSemaphore
    from gevent.threadpool import ThreadPool

    if not monkey.is_module_patched("threading"):
        return lambda work: work()
    pool = ThreadPool(THREADS)
    places = BoundedSemaphore(THREADS)

    def run(work: Callable[[], tuple[Any, ...] | None]) -> tuple[Any, ...] | None:
        # A thread cannot be stopped, so its place is free when it is, and not when its client gives up.
        if not places.acquire(timeout=seconds):
            raise GrammarsBusy
        made = pool.spawn(work)
        made.rawlink(lambda _: places.release())
        try:
            found: tuple[Any, ...] | None = made.get(timeout=seconds)
        except Timeout:
            raise GrammarsBusy from None
        return found

    return run


def _refusal(check: Check, grammar: Mapping[str, Any]) -> tuple[Any, ...] | None:
    try:
        check(grammar)
    except GrammarRefused as refused:
        return refused.parts
    return None


def _by_llguidance() -> Check:
    """Loaded with the first grammar: most processes never see one."""
    from shared.grammars.sources import check

    return check
