"""What cannot fit a model, as its workers tell: such a request is refused before anything is stored."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from shared.domain.catalog import ModelSpec
from shared.domain.errors import InputRefused, StoreUnavailable
from shared.domain.prompt_bounds import PromptBounds, bounds_of
from shared.store.jobs import JobStore

FRESH = 5.0
"""Seconds between two looks at what a model's workers tell."""


class KnownBounds:
    """The bounds of the models, each at most `FRESH` seconds old. Safe to share between threads."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, list[PromptBounds]]] = {}
        """By model; bounded by the catalogue."""

    def check(self, spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> None:
        """Raise `InputRefused` for a prompt, a text of a list or a chat that no worker's model can take, with
        the widest bound.

        Where no worker lives, or one tells nothing, nothing is known: its engine will count the tokens.
        Texts that `params` want cut can be of any length.
        """
        if params.get("truncate") or not _may_exceed(content, spec.limits.max_prompt_tokens):
            return
        refused: InputRefused | None = None
        for bounds in self._of(spec.name):
            try:
                bounds.check_content(content)
            except InputRefused as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    def _of(self, model: str) -> list[PromptBounds]:
        now = self._clock()
        with self._lock:
            seen, bounds = self._known.get(model, (now - FRESH, []))
        if now - seen < FRESH:
            return bounds
        try:
            workers = self._store.status(model).workers.values()
        except StoreUnavailable:
            # The job cannot be stored either, and its refusal says why.
            return []
        told = [bounds_of(report) for report in workers if report.get("engine")]
        found = {one for one in told if one is not None} if all(told) else set()
        bounds = sorted(found, key=lambda one: (one.bytes or 0, one.words or 0))
        with self._lock:
            self._known[model] = (now, bounds)
        return bounds


def _may_exceed(content: Any, tokens: int) -> bool:
    """Whether a bound could be exceeded: no token is shorter than a character's part of it."""
    if isinstance(content, str):
        return len(content) > tokens
    if isinstance(content, list):
        return any(isinstance(text, str) and len(text) > tokens for text in content)
    messages = content.get("messages") if isinstance(content, Mapping) else None
    if not isinstance(messages, list):
        return False
    said = [message.get("content") for message in messages if isinstance(message, Mapping)]
    return sum(len(text) for text in said if isinstance(text, str)) > tokens
