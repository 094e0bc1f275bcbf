"""An engine without a model: it streams its prompt back, word by word. For tests, demos and benchmarks."""

import re
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Finished, Piece, Step, Work

WORD = re.compile(r"\S+\s*|\s+")
LONGEST_NAP = 0.02
"""Seconds. A slow pace must not keep the host's loop from cancels and new jobs."""
LONGEST_TEXT = 16 * 1024 * 1024
"""Characters of one answer."""


@dataclass(slots=True)
class Recital:
    """One job. `said` counts characters of the prompt's repetitions; `ends` are its words' ends."""

    id: str
    prompt: str
    repeat: int
    pace: float
    said: int
    due: float
    ends: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) * self.repeat

    def next_word(self) -> tuple[str, int]:
        """What comes next, up to the end of its word, and that word's index."""
        round_, at = divmod(self.said, len(self.prompt))
        word = bisect_right(self.ends, at)
        return self.prompt[at : self.ends[word]], round_ * len(self.ends) + word


class Echo:
    """Streams one word a step at the job's own pace; with a pace of 0, everything in one piece.

    The token id of a piece is the index of its first word.
    """

    def __init__(self, spec: ModelSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace_ms = spec.step_ms
        self._capacity = spec.batch.max_size
        self._clock = clock
        self._jobs: dict[str, Recital] = {}

    def load(self) -> EngineInfo:
        return EngineInfo(capacity=self._capacity, continues=True)

    def admit(self, work: Work) -> None:
        prompt = work.content
        if not isinstance(prompt, str):
            raise InputRefused(f"The prompt must be a string, not {type(prompt).__name__}.")
        repeat = int(work.params.get("repeat", 1))
        if len(prompt) * repeat > LONGEST_TEXT:
            raise InputRefused(f"The answer would be longer than {LONGEST_TEXT} characters.")
        step_ms = work.params.get("step_ms")
        pace = (self._pace_ms if step_ms is None else step_ms) / 1000
        self._jobs[work.id] = Recital(
            id=work.id,
            prompt=prompt,
            repeat=repeat,
            pace=pace,
            said=len(work.text),
            due=self._clock() + pace if pace else 0.0,
            ends=[match.end() for match in WORD.finditer(prompt)] if pace else [],
        )

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def step(self) -> Step:
        """Advance every job that is due; nap until one is, but never for long."""
        due = self._due()
        pieces: list[Piece] = []
        outcomes: list[Finished] = []
        for job in due:
            if job.said < job.length:
                pieces.append(self._say(job))
            if job.said >= job.length:
                del self._jobs[job.id]
                output = {"text": job.prompt * job.repeat, "finish_reason": "stop"}
                outcomes.append(Finished(job.id, output, {"batch_size": len(due)}))
        return Step(pieces, [*outcomes], len(due))

    def pending(self) -> int:
        return len(self._jobs)

    def batch_delay(self) -> float:
        """No step is dearer than the wait for company."""
        return 0.0

    def _due(self) -> list[Recital]:
        if not self._jobs:
            return []
        earliest = min(job.due for job in self._jobs.values())
        if earliest == 0.0:
            return [job for job in self._jobs.values() if job.due == 0.0]
        nap = min(earliest - self._clock(), LONGEST_NAP)
        if nap > 0:
            time.sleep(nap)
        now = self._clock()
        return [job for job in self._jobs.values() if job.due <= now]

    def _say(self, job: Recital) -> Piece:
        if not job.pace:
            text = (job.prompt * job.repeat)[job.said :]
            job.said = job.length
            return Piece(job.id, text, (0,))
        text, word = job.next_word()
        job.said += len(text)
        job.due += job.pace
        return Piece(job.id, text, (word,))
