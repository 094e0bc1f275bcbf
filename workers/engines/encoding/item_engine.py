"""An engine that computes something of each of a job's texts, as many tokens in a step as pay."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.batching.calibration import calibrate
from workers.engines.batching.intake import Intake
from workers.engines.encoding.item_queue import ItemQueue, Job, Share
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.loading.placement import Placement

STEPS = {"cuda": (1024, 2048, 4096, 8192, 16_384, 32_768), "cpu": (64, 128, 256, 512, 1024)}
"""Tokens in one step, from which the warm-up chooses. More than pay only make newcomers wait."""
TRIAL_TEXT = 32
"""Tokens of each text that the warm-up runs."""

Wish = TypeVar("Wish")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Wish]):
    """A job's input, checked but not tokenised: `size` characters, which `read` makes tokens of.

    Any thread may call `read`, which raises `InputRefused`.
    """

    wish: Wish
    size: int
    read: Callable[[], list[TokenizedText]]


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Wish]):
    """What an engine says of the model that it has read. `wish` is that of a job without params.

    `limit` is its longest text, `vocabulary` how many token ids it knows.
    """

    placement: Placement
    limit: int
    vocabulary: int
    wish: Wish
    details: Mapping[str, Any]


class ItemEngine(ABC, Generic[Wish]):
    """Batches, budgets, long inputs and outcomes. A subclass has the model."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.taken: Sequence[str] = ()
        self._intake: Intake[Job[Wish]] = Intake(self._begin)
        self._queue: ItemQueue[Wish] = ItemQueue()

    @abstractmethod
    def load_model(self) -> Loaded[Wish]:
        """Read the model. Raises `ConfigError`."""

    @abstractmethod
    def ask(self, work: Work) -> Asked[Wish]:
        """Check a job's input and params. Raises `InputRefused`."""

    @abstractmethod
    def compute(self, texts: Sequence[TokenizedText], wishes: Sequence[Wish]) -> list[torch.Tensor]:
        """What the model gives for each text, in float32."""

    @abstractmethod
    def rows(
        self, wish: Wish, texts: Sequence[TokenizedText], found: Sequence[torch.Tensor]
    ) -> list[Any]:
        """A job's results of some of its texts as JSON values, of what `compute` gave."""

    @abstractmethod
    def output(self, job: Job[Wish]) -> Any:
        """The output of a job that has all its rows."""

    @torch.inference_mode()
    def load(self) -> EngineInfo:
        """Read the model and find out how many texts may share a step."""
        loaded = self.load_model()
        budget = self.spec.batch.token_budget
        if budget == "auto":
            kind = loaded.placement.device.type
            # Where one thread does it all, its own time leaves out what a busy machine does meanwhile.
            alone = kind == "cpu" and torch.get_num_threads() == 1
            clock = time.thread_time if alone else time.perf_counter
            sizes = STEPS.get(kind, STEPS["cpu"])
            budget, _ = calibrate(partial(self._trial, loaded), sizes, clock)
        self.budget = Budget(budget)
        return EngineInfo(
            # The next batch waits inside, so that it starts the moment the last one ends.
            capacity=2 * self.spec.batch.max_size,
            device=str(loaded.placement.device),
            dtype=loaded.placement.dtype_name,
            details={**loaded.details, "token_budget": budget},
        )

    def admit(self, work: Work) -> None:
        if work.id in self._queue or work.id in self._intake:
            raise InputRefused(f"The job {work.id} is here already.")
        asked = self.ask(work)
        self._intake.admit(work, asked.size, lambda: Job(work.id, asked.read(), asked.wish))

    def _begin(self, work: Work, job: Job[Wish]) -> None:  # noqa: ARG002  the intake's signature
        self._queue.add(job)

    def cancel(self, job_id: str) -> None:
        self._intake.cancel(job_id)
        self._queue.cancel(job_id)

    @torch.inference_mode()
    def step(self) -> Step:
        """One pass over the oldest texts that fit the token budget."""
        self.taken = ()
        self._intake.take_in()
        shares = self._queue.plan(self.spec.batch.max_size, self.budget)
        self.taken = [share.job.id for share in shares]
        if not shares:
            return Step(outcomes=[*self._intake.refusals()])
        texts = [text for share in shares for text in share.texts]
        wishes = [share.job.wish for share in shares for _ in range(share.count)]
        found = iter(self.compute(texts, wishes))
        ready = [self._ready(share, [next(found) for _ in share.texts]) for share in shares]
        step = Step(outcomes=[*self._intake.refusals()], batch_size=len(shares))
        for share, rows in zip(shares, ready, strict=True):
            self._commit(share.job, rows, step)
        return step

    def pending(self) -> int:
        return len(self._queue) + len(self._intake)

    def batch_delay(self) -> float:
        """What arrives meanwhile shares the next step; only texts that are being read are waited for."""
        return self._intake.batch_delay(busy=bool(self._queue))

    def _trial(self, loaded: Loaded[Wish], tokens: int) -> None:
        """A step of so many tokens, to its end."""
        length = max(1, min(TRIAL_TEXT, loaded.limit))
        token = min(1, loaded.vocabulary - 1)
        texts = [TokenizedText([token] * length)] * max(1, tokens // length)
        self.rows(loaded.wish, texts, self.compute(texts, [loaded.wish] * len(texts)))

    def _ready(self, share: Share[Wish], found: list[torch.Tensor]) -> list[Any] | None:
        """The job's results, None when one of them is not a number."""
        if not all(bool(torch.isfinite(one).all()) for one in found):
            return None
        return self.rows(share.job.wish, share.texts, found)

    def _commit(self, job: Job[Wish], rows: list[Any] | None, step: Step) -> None:
        if rows is None:
            self._queue.cancel(job.id)
            message = "The model's output for this job is not a number (NaN or infinity)."
            step.outcomes.append(Failed(job.id, "engine_error", message))
        elif self._queue.commit(job, rows, step.batch_size):
            step.outcomes.append(Finished(job.id, self.output(job), job.usage()))
