"""The embedding engine: one vector for each text, as many tokens in a step as pay."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from functools import partial

import msgspec
import torch
from torch.nn import functional

from shared.domain.catalog import ModelSpec
from shared.domain.errors import InputRefused
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.batching.calibration import calibrate
from workers.engines.batching.intake import Intake
from workers.engines.batching.reader import LONG
from workers.engines.embedding.model import load_model
from workers.engines.embedding.pooling import pool
from workers.engines.embedding.sentence_text import TokenizedText

STEPS = {"cuda": (1024, 2048, 4096, 8192, 16_384, 32_768), "cpu": (64, 128, 256, 512, 1024)}
"""Tokens in one step, from which the warm-up chooses. More than pay only make newcomers wait."""
TRIAL_TEXT = 32
"""Tokens of each text that the warm-up encodes."""


@dataclass(slots=True, eq=False)
class Job:
    """`vectors` are those of the first texts, in order. `normalize` is None where the model decides."""

    id: str
    texts: list[TokenizedText]
    normalize: bool | None
    vectors: list[list[float]] = field(default_factory=list)
    largest_batch: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one job has in a step: its next `count` texts."""

    job: Job
    count: int

    @property
    def texts(self) -> list[TokenizedText]:
        done = len(self.job.vectors)
        return self.job.texts[done : done + self.count]


class Embedding:
    """Any encoder of transformers in a local directory, with sentence-transformers' settings if any."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.taken: Items[str] = ()
        self._intake = Intake(self._begin)
        self._jobs: dict[str, Job] = {}
        """Oldest first; a job that got a share but not its last one goes to the back."""

    @torch.inference_mode()
    def load(self) -> EngineInfo:
        """Read the model and find out how many texts may share a step."""
        self._model = load_model(self._spec)
        self._encoder = self._model.encoder
        budget = self._spec.batch.token_budget
        if budget == "auto":
            budget, _ = calibrate(
                self._trial, STEPS.get(self._model.placement.device.type, STEPS["cpu"])
            )
        self.budget = Budget(budget)
        self._bounds = self._model.reader.bounds(self._model.limit)
        self._encode = self._model.reader.counting()
        return EngineInfo(
            # The next batch waits inside, so that it starts the moment the last one ends.
            capacity=2 * self._spec.batch.max_size,
            device=str(self._model.placement.device),
            dtype=self._model.placement.dtype_name,
            details={
                "batching": self._model.batching,
                "reason": self._model.reason or "packed vectors equal plain ones",
                "pooling": "+".join(self._model.pooling),
                "prompt": self._model.recipe.default_prompt,
                "max_tokens": self._model.limit,
                "token_budget": budget,
                "prompt_bounds": msgspec.to_builtins(self._bounds),
            },
        )

    def admit(self, work: Work) -> None:
        if work.id in self._jobs or work.id in self._intake:
            raise InputRefused(f"The job {work.id} is here already.")
        texts = [work.content] if isinstance(work.content, str) else work.content
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise InputRefused("The input must be a string or a list of strings.")
        prompt = self._model.prompt(work.params.get("prompt_name"))
        self._intake.admit(work, sum(map(len, texts)), partial(self._tokens, texts, prompt))

    def _tokens(self, texts: list[str], prompt: str) -> list[TokenizedText]:
        """Touches nothing but the tokenizer, so any thread may call it. Raises `InputRefused`."""
        for number, text in enumerate(texts):
            if len(text) > LONG:
                self._bounds.check([text])
                if self._encode is not None:
                    self._check_length(number, len(self._encode(text, True)))
        encoded = self._model.reader.read(texts, prompt)
        self._check(encoded)
        return encoded

    def _begin(self, work: Work, encoded: list[TokenizedText]) -> None:
        wanted = work.params.get("normalize")
        self._jobs[work.id] = Job(work.id, encoded, None if wanted is None else bool(wanted))

    def cancel(self, job_id: str) -> None:
        self._intake.cancel(job_id)
        self._jobs.pop(job_id, None)

    @torch.inference_mode()
    def step(self) -> Step:
        """One forward pass over the oldest texts that fit the token budget."""
        self.taken = ()
        self._intake.take_in()
        shares = self._plan()
        self.taken = [share.job.id for share in shares]
        if not shares:
            return Step(outcomes=[*self._intake.refusals()])
        texts = [text for share in shares for text in share.texts]
        hidden = self._encoder.encode(texts)
        pooled = self._pool(hidden, texts)
        vectors = torch.split(pooled, [share.count for share in shares])
        ready = [self._rows(share, part) for share, part in zip(shares, vectors, strict=True)]
        step = Step(outcomes=[*self._intake.refusals()], batch_size=len(shares))
        for share, rows in zip(shares, ready, strict=True):
            self._commit(share.job, rows, step)
        return step

    def pending(self) -> int:
        return len(self._jobs) + len(self._intake)

    def batch_delay(self) -> float:
        """What arrives meanwhile shares the next step; only texts that are being read are waited for."""
        return self._intake.batch_delay(busy=bool(self._jobs))

    def _trial(self, tokens: int) -> None:
        """A step of so many tokens, to its end."""
        length = min(TRIAL_TEXT, self._model.limit)
        token = min(1, self._model.vocabulary - 1)
        texts = [TokenizedText([token] * length)] * max(1, tokens // length)
        self._pool(self._encoder.encode(texts), texts).tolist()

    def _plan(self) -> list[Share]:
        shares: list[Share] = []
        tokens = 0
        for job in self._jobs.values():
            if len(shares) == self._spec.batch.max_size:
                break
            count = 0
            for text in job.texts[len(job.vectors) :]:
                if tokens and tokens + len(text) > self.budget.now:
                    break
                tokens += len(text)
                count += 1
            if count:
                shares.append(Share(job, count))
            if len(job.vectors) + count < len(job.texts):
                break
        if shares:
            self.budget.spend(tokens, len(shares[0].texts[0]))
        return shares

    def _pool(self, hidden: Items[torch.Tensor], texts: Items[TokenizedText]) -> torch.Tensor:
        """Token vectors of n texts to [n, width] in float32."""
        return torch.stack(
            [
                pool(tokens, self._model.pooling, text.skip)
                for tokens, text in zip(hidden, texts, strict=True)
            ]
        )

    def _rows(self, share: Share, pooled: torch.Tensor) -> list[list[float]] | None:
        """The job's vectors as numbers, None when one of them is not a number.

        What the model itself normalizes is cut afterwards, as sentence-transformers does.
        """
        if not bool(torch.isfinite(pooled).all()):
            return None
        if self._model.recipe.normalize and share.job.normalize is None:
            pooled = functional.normalize(pooled, dim=1)
        pooled = pooled[:, : self._model.recipe.truncate]
        if share.job.normalize:
            pooled = functional.normalize(pooled, dim=1)
        rows: list[list[float]] = pooled.tolist()
        return rows

    def _commit(self, job: Job, rows: list[list[float]] | None, step: Step) -> None:
        del self._jobs[job.id]
        if rows is None:
            message = "The model's output for this job is not a number (NaN or infinity)."
            step.outcomes.append(Failed(job.id, "engine_error", message))
            return
        job.vectors += rows
        job.largest_batch = max(job.largest_batch, step.batch_size)
        if len(job.vectors) < len(job.texts):
            self._jobs[job.id] = job
            return
        tokens = sum(map(len, job.texts))
        usage = {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "batch_size": job.largest_batch,
        }
        output = {"embeddings": job.vectors, "dimensions": len(job.vectors[0])}
        step.outcomes.append(Finished(job.id, output, usage))

    def _check(self, texts: list[TokenizedText]) -> None:
        for number, text in enumerate(texts):
            if not text.ids:
                raise InputRefused(f"Text {number} has no tokens.")
            self._check_length(number, len(text))
            if max(text.ids) >= self._model.vocabulary:
                raise InputRefused(f"Text {number} has tokens outside the model's vocabulary.")
            if len(text) <= text.skip:
                raise InputRefused(f"Text {number} has no tokens but those of the prompt.")

    def _check_length(self, number: int, tokens: int) -> None:
        if tokens > self._model.limit:
            raise InputRefused(
                f"Text {number} has {tokens} tokens; this model takes {self._model.limit}.",
                code="prompt_too_long",
            )
