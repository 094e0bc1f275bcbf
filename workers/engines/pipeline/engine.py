"""The pipeline engine: any task of transformers' pipelines that takes tensors and gives JSON."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import torch

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work
from workers.engines.batching.batch_wait import Arrivals, StepCost, wait
from workers.engines.batching.intake import Intake
from workers.engines.faults import of_the_engine
from workers.engines.outputs import failed, outcome
from workers.engines.pipeline.model import Prepared, load_pipeline

WINDOW = 4
"""Batches' worth of jobs that wait inside the engine, made ready while the model runs."""

MOST_ON_CPU = 8
"""Inputs of a pass there: more do not make one cheaper, what is between the layers only leaves the cache."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A job that is ready. Those with one `key` share a batch. `came` is by `time.monotonic`."""

    id: str
    prepared: Prepared
    key: bytes
    came: float


class PipelineEngine:
    """Makes inputs ready as they come, and runs those that are alike together."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._most = spec.batch.max_size
        self.taken: Sequence[str] = ()
        # Nearly every image and sound is read there, and what is not read in time leaves a batch small.
        self._intake: Intake[Prepared] = Intake(self._begin, yields=False)
        self._rows: dict[str, Row] = {}
        """Prepared inputs by job, the oldest first."""
        self._cost = StepCost()
        self._arrivals = Arrivals()
        self._free_since = 0.0

    def load(self) -> EngineInfo:
        """See `Engine.load`."""
        self._pipeline = load_pipeline(self._spec)
        placement, task = self._pipeline.placement, self._pipeline.task
        if placement.device.type == "cpu":
            self._most = min(self._most, MOST_ON_CPU)
        parts: dict[str, Any] = {
            "tasks": [task.name],
            "input": task.medium,
            "params": sorted(task.params),
            "labels": self._pipeline.labels,
        }
        if task.medium == "audio":
            parts["sampling_rate"] = self._pipeline.rate
        batching = "stacked, inputs of one shape" if task.batches else "alone"
        return EngineInfo(
            capacity=WINDOW * self._spec.batch.max_size,
            device=str(placement.device),
            dtype=placement.dtype_name,
            details={"batching": batching, "parts": parts},
        )

    def admit(self, work: Work) -> None:
        if work.id in self._rows or work.id in self._intake:
            raise InputRefused(f"The job {work.id} is here already.")
        content, params = work.content, dict(work.params)
        size = len(content) if isinstance(content, str) else _characters(content)
        self._intake.admit(work, size, partial(self._pipeline.prepare, content, params))

    def _begin(self, work: Work, prepared: Prepared) -> None:
        now = time.monotonic()
        self._arrivals.came(now)
        key = msgspec.json.encode(prepared.forward, enc_hook=repr, order="sorted")
        self._rows[work.id] = Row(work.id, prepared, key, now)

    def cancel(self, job_id: str) -> None:
        self._intake.cancel(job_id)
        self._rows.pop(job_id, None)

    @torch.inference_mode()
    def step(self) -> Step:
        """The oldest inputs that may share a batch."""
        self.taken = ()
        self._intake.take_in()
        waiting = list(self._rows.values())
        alike = [row for row in waiting if row.key == waiting[0].key]
        batch = alike[: self._most]
        self.taken = [row.id for row in batch]
        if not batch:
            return Step(outcomes=[*self._intake.refusals()])
        started = time.monotonic()
        found = self._pipeline.run([row.prepared for row in batch])
        ends = [
            self._end(row, outputs, len(batch)) for row, outputs in zip(batch, found, strict=True)
        ]
        self._free_since = time.monotonic()
        self._cost.ran(len(batch), self._free_since - started)
        for row in batch:
            del self._rows[row.id]
        return Step([], [*self._intake.refusals(), *ends], len(batch))

    def pending(self) -> int:
        return len(self._rows) + len(self._intake)

    def batch_delay(self) -> float:
        """See `workers.engines.batching.batch_wait`."""
        if not self._rows:
            return self._intake.batch_delay(busy=False)
        now = time.monotonic()
        oldest = next(iter(self._rows.values()))
        return wait(
            len(self._rows),
            self._most,
            self._cost,
            self._arrivals,
            waited=now - max(oldest.came, self._free_since),
            limit=self._spec.batch.flush_timeout_ms / 1000,
            now=now,
        )

    def _end(self, row: Row, outputs: list[Any], size: int) -> Finished | Failed:
        """A job's outcome; what goes wrong in reading its output is its own."""
        try:
            return outcome(row.id, self._pipeline.read(row.prepared, outputs), {"batch_size": size})
        except Exception as error:
            if of_the_engine(error):
                raise
            _log.exception("reading the output of %s failed", row.id)
            return failed(row.id, error)


def _characters(content: Any) -> int:
    found = content.values() if isinstance(content, dict) else ()
    return sum(len(value) for value in found if isinstance(value, str))
