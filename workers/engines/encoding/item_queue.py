"""Which texts of which jobs share the next step."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from workers.engines.batching.budget import Budget
from workers.engines.encoding.tokenized_text import TokenizedText

Wish = TypeVar("Wish")


@dataclass(slots=True, eq=False)
class Job(Generic[Wish]):
    """`rows` are the results of the first texts, in order; `wish` is what its params ask for."""

    id: str
    texts: list[TokenizedText]
    wish: Wish
    rows: list[Any] = field(default_factory=list)
    largest_batch: int = 0

    def usage(self) -> dict[str, int]:
        """Tokens of all texts, and the largest batch that one of them was in."""
        tokens = sum(map(len, self.texts))
        return {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "batch_size": self.largest_batch,
        }


@dataclass(frozen=True, slots=True)
class Share(Generic[Wish]):
    """What one job has in a step: its next `count` texts."""

    job: Job[Wish]
    count: int

    @property
    def texts(self) -> list[TokenizedText]:
        done = len(self.job.rows)
        return self.job.texts[done : done + self.count]


class ItemQueue(Generic[Wish]):
    """Jobs of many texts each, oldest first; one that got a share but not its last one goes to the back."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Wish]] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job[Wish]) -> None:
        self._jobs[job.id] = job

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def plan(self, most_jobs: int, budget: Budget) -> list[Share[Wish]]:
        """The oldest texts that fit the budget of tokens, of at most so many jobs; at least one text."""
        shares: list[Share[Wish]] = []
        tokens = 0
        for job in self._jobs.values():
            if len(shares) == most_jobs:
                break
            count = 0
            for text in job.texts[len(job.rows) :]:
                if tokens and tokens + len(text) > budget.now:
                    break
                tokens += len(text)
                count += 1
            if count:
                shares.append(Share(job, count))
            if len(job.rows) + count < len(job.texts):
                break
        if shares:
            budget.spend(tokens, len(shares[0].texts[0]))
        return shares

    def commit(self, job: Job[Wish], rows: list[Any], batch_size: int) -> bool:
        """Note results of a job's next texts; whether they were its last."""
        del self._jobs[job.id]
        job.rows += rows
        job.largest_batch = max(job.largest_batch, batch_size)
        if len(job.rows) < len(job.texts):
            self._jobs[job.id] = job
            return False
        return True
