"""A user's own model in a few lines: inputs in, as many outputs out.

Batches, streams, checks and faults are done here; the model sees lists.
"""

import logging
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shared.catalog import ModelSpec
from shared.errors import ConfigError, InputRefused, JobsError
from workers.engines.base import Broke, EngineInfo, Finished, Piece, Step, Work
from workers.engines.batch_plan import alike, oldest_first
from workers.engines.budget import Budget
from workers.engines.faults import device_lost, exhausted

if TYPE_CHECKING:
    import torch

WINDOW = 4
"""Batches' worth of jobs that wait inside the engine, to choose from."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class OneShotModel:
    """Base of a model that answers each input at once; name it in the catalogue as `package.module:Class`.

    `options` and `path` are those of the catalogue entry, set before `load`. Inputs are any JSON values;
    a model that minds refuses them by raising `InputRefused` in `cost`, which runs at the door.
    """

    options: Mapping[str, Any] = {}
    path: Path | None = None

    def load(self, device: "torch.device") -> None:
        """Get ready, once. Raises `ConfigError` when the model cannot be served."""

    def cost(self, item: Any) -> float:  # noqa: ARG002 - for those who override it
        """What an input costs, such as its tokens; positive. Inputs of like cost then share a batch.

        `batch.token_budget` bounds a batch's rows times its highest cost.
        """
        return 1.0

    def collate(self, inputs: list[Any]) -> Any:
        """Make a batch of the inputs: what `predict` is given."""
        return inputs

    def predict(self, inputs: Any) -> Sequence[Any]:
        """One output for every input, in order: JSON values, or a tensor or array with a row for each.

        An exception in a row's place fails that job alone: `InputRefused` blames its input, any other
        is an `engine_error`. Raising fails the step, and the job that is to blame is searched for.
        """
        raise NotImplementedError

    def stream(self, item: Any) -> Iterator[Any]:
        """Instead of `predict`: yield JSON values, one a step, each sent at once.

        What the generator returns is the job's output; if nothing, the list of all it yielded.
        """
        raise NotImplementedError


class BadOutput(JobsError):
    """`predict` did not return what it must."""

    code = "engine_error"


@dataclass(slots=True, eq=False)
class Row:
    """A job that waits or, if it streams, runs."""

    id: str
    content: Any
    cost: float
    values: Iterator[Any] | None = None
    said: list[Any] = field(default_factory=list)


class OneShot:
    """Makes a `OneShotModel` an engine."""

    def __init__(self, spec: ModelSpec, model: OneShotModel) -> None:
        kind = type(model)
        self._spec = spec
        self._model = model
        self._streams = kind.stream is not OneShotModel.stream
        self._sorts = kind.cost is not OneShotModel.cost
        if not self._streams and kind.predict is OneShotModel.predict:
            raise ConfigError(
                f"models.{spec.name}.engine: {kind.__name__} has no predict, nor a stream"
            )
        model.options, model.path = spec.options, spec.path
        budget = spec.batch.token_budget
        self.budget = Budget(math.inf if budget == "auto" else float(budget))
        self._rows: dict[str, Row] = {}
        """Oldest first."""

    def load(self) -> EngineInfo:
        # torch takes seconds to import, and nobody needs it before.
        import torch

        from workers.engines.placement import place

        placement = place(self._spec)
        self._inference = torch.inference_mode
        with self._inference():
            self._model.load(placement.device)
        return EngineInfo(
            capacity=WINDOW * self._spec.batch.max_size,
            device=str(placement.device),
            details={"batching": "none, streams" if self._streams else "whole inputs"},
        )

    def admit(self, work: Work) -> None:
        if work.id in self._rows:
            raise InputRefused(f"The job {work.id} is here already.")
        if work.params:
            names = ", ".join(work.params)
            raise InputRefused(f"This model takes no params, got {names}; its input says it all.")
        cost = float(self._model.cost(work.content))
        if not 0 < cost < math.inf:
            raise ValueError(f"cost must be positive and finite, got {cost}")
        self._rows[work.id] = Row(work.id, work.content, cost)

    def cancel(self, job_id: str) -> None:
        row = self._rows.pop(job_id, None)
        if row is not None and isinstance(row.values, Generator):
            try:
                row.values.close()
            except Exception:  # noqa: BLE001 - the job is gone all the same
                _log.exception("closing the stream of %s failed", job_id)

    def step(self) -> Step:
        """One batch through `predict`, or one more value of every stream."""
        if not self._rows:
            return Step()
        with self._inference():
            return self._advance() if self._streams else self._predict()

    def pending(self) -> int:
        return len(self._rows)

    def linger(self) -> float:
        """What arrives meanwhile shares the next batch."""
        return 0.0

    def _predict(self) -> Step:
        waiting = list(self._rows.values())
        plan = alike if self._sorts else oldest_first
        chosen = plan([row.cost for row in waiting], self._spec.batch.max_size, self.budget.now)
        batch = [waiting[index] for index in chosen]
        costs = [row.cost for row in batch]
        self.budget.spend(max(costs) * len(batch) if self._sorts else sum(costs), waiting[0].cost)
        outputs = _checked(
            self._model.predict(self._model.collate([row.content for row in batch])), len(batch)
        )
        usage = {"batch_size": len(batch)}
        ends = [_end(row.id, out, usage) for row, out in zip(batch, outputs, strict=True)]
        # Nothing above has changed anything, and nothing below can fail.
        for row in batch:
            del self._rows[row.id]
        return Step([], ends, len(batch))

    def _advance(self) -> Step:
        rows = list(self._rows.values())[: self._spec.batch.max_size]
        step = Step(batch_size=len(rows))
        for row in rows:
            self._next_value(row, step)
        for end in step.outcomes:
            self.cancel(end.id)
        return step

    def _next_value(self, row: Row, step: Step) -> None:
        try:
            if row.values is None:
                row.values = iter(self._model.stream(row.content))
            value = _plain(next(row.values))
        except StopIteration as stop:
            output = row.said if stop.value is None else stop.value
            step.outcomes.append(_end(row.id, output, {"batch_size": step.batch_size}))
        except (Exception, SystemExit) as error:
            if (lost := device_lost(error)) is not None:
                raise lost from error
            _log.exception("the stream of %s failed", row.id)
            step.outcomes.append(_broke(row.id, error))
        else:
            if (flaw := _flaw(value)) is not None:
                step.outcomes.append(Broke(row.id, "engine_error", flaw))
                return
            row.said.append(value)
            step.pieces.append(Piece(row.id, output=value))


def _checked(outputs: Any, count: int) -> list[Any]:
    """The outputs as a list of `count`. Raises `BadOutput`."""
    rows = _plain(outputs)
    if not isinstance(rows, list | tuple):
        raise BadOutput(f"predict must return a list, it returned {type(outputs).__name__}")
    if len(rows) != count:
        raise BadOutput(f"predict returned {len(rows)} outputs for {count} inputs")
    return list(rows)


def _end(job_id: str, output: Any, usage: Mapping[str, int]) -> Finished | Broke:
    if isinstance(output, Exception):
        return _broke(job_id, output)
    value = _plain(output)
    flaw = _flaw(value)
    return Broke(job_id, "engine_error", flaw) if flaw else Finished(job_id, value, usage)


def _broke(job_id: str, error: BaseException) -> Broke:
    if isinstance(error, InputRefused):
        return Broke(job_id, error.code, error.detail)
    if exhausted(error):
        return Broke(job_id, "out_of_memory", "The model ran out of memory on this job.")
    return Broke(job_id, "engine_error", f"The model failed: {type(error).__name__}: {error}")


def _plain(value: Any) -> Any:
    """Tensors and arrays as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _flaw(value: Any) -> str | None:
    """Why a value cannot be sent, None when it can."""
    try:
        if not _finite(value):
            return "The model's output for this job is not a number (NaN or infinity)."
        _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return f"The model's output is not JSON: {error}"
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_finite, value))
