"""An engine that tells the time: the reader of its stream knows how long each token was under way."""

import time
from dataclasses import dataclass

from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Finished, Piece, Step, Work


@dataclass(slots=True)
class Telling:
    """One job: how many tokens it has said, and how many it is to say."""

    said: int
    wanted: int


class Clock:
    """A step every `step_ms` brings one token for every job at once, as a model's step does.

    A token's text is the time in microseconds at which it was made. `params.tokens` is how many.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._capacity = spec.batch.max_size
        self._seconds = spec.step_ms / 1000
        self._due = 0.0
        self._jobs: dict[str, Telling] = {}

    def load(self) -> EngineInfo:
        return EngineInfo(capacity=self._capacity)

    def admit(self, work: Work) -> None:
        self._jobs[work.id] = Telling(0, int(work.params["tokens"]))

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def step(self) -> Step:
        """Take as long as a model would, then a token for each."""
        now = time.monotonic()
        # Behind time, as after a rest, the beat starts anew.
        self._due = max(self._due + self._seconds, now)
        time.sleep(self._due - now)
        step = Step(batch_size=len(self._jobs))
        for job_id, telling in list(self._jobs.items()):
            telling.said += 1
            stamp = f"{time.time_ns() // 1000} "
            step.pieces.append(Piece(job_id, stamp, (telling.said,)))
            if telling.said >= telling.wanted:
                del self._jobs[job_id]
                step.outcomes.append(Finished(job_id, {"said": telling.said}))
        return step

    def pending(self) -> int:
        return len(self._jobs)

    def batch_delay(self) -> float:
        """A newcomer joins at the next beat anyway."""
        return 0.0
