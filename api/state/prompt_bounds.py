"""What a model cannot take, as its workers tell: such a request is refused before anything is stored."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from shared.domain.errors import InputRefused, StoreUnavailable
from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.accepted import Accepted, accepted_by
from shared.domain.requests.params import TEXT_ENGINES
from shared.domain.requests.prompt_bounds import PromptBounds, bounds_of, text_of
from shared.store.jobs import JobStore

FRESH = 5.0
"""Seconds between two looks at what a model's workers tell."""


class _Told(NamedTuple):
    """What one worker says of the prompts that its model takes."""

    bounds: PromptBounds
    accepted: Accepted | None

    def check(self, content: Any, params: Mapping[str, Any]) -> None:
        """Raises `InputRefused` for a prompt that is surely too long, or parameters that are not taken."""
        self.bounds.check_content(content)
        if self.accepted is not None:
            self.accepted.check(content, params)


class KnownBounds:
    """The bounds of the models, each at most `FRESH` seconds old. Safe to share between threads."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, list[_Told]]] = {}
        """By model; bounded by the catalogue."""

    def check(self, spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> None:
        """Raise `InputRefused` for what no worker's model can take: a prompt, a text of a list or a chat that
        is too long, with the widest bound; token ids that it does not have; a chat that it cannot show.

        Where no worker lives, or one tells nothing, nothing is known: its engine will check it. Texts that
        `params` want cut can be of any length.
        """
        if params.get("truncate"):
            return
        if not _may_exceed(content, spec.limits.max_prompt_tokens) and not (
            spec.engine in TEXT_ENGINES and _asks(content, params)
        ):
            return
        refused: InputRefused | None = None
        for told in self._of(spec.name):
            try:
                told.check(content, params)
            except InputRefused as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    def _of(self, model: str) -> list[_Told]:
        now = self._clock()
        with self._lock:
            seen, known = self._known.get(model, (now - FRESH, []))
        if now - seen < FRESH:
            return known
        try:
            workers = self._store.status(model).workers.values()
        except StoreUnavailable:
            # The job cannot be stored either, and its refusal says why.
            return []
        reports = [report for report in workers if report.get("engine")]
        bounds = [bounds_of(report) for report in reports]
        found = {
            _Told(one, accepted_by(report))
            for one, report in zip(bounds, reports, strict=True)
            if one is not None
        }
        known = sorted(
            found if all(bounds) else (),
            key=lambda told: (told.bounds.bytes or 0, told.bounds.words or 0),
        )
        with self._lock:
            self._known[model] = (now, known)
        return known


def _asks(content: Any, params: Mapping[str, Any]) -> bool:
    """Whether the request has what not every model can do."""
    return not isinstance(content, str) or bool(
        params.get("stop_token_ids") or params.get("logit_bias")
    )


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
    return sum(len(text_of(content)) for content in said) > tokens
