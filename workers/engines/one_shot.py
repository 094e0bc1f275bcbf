"""An engine for a user's own model in a few lines: a batch of inputs in, as many outputs out.

Batches, streams, checks and faults are done here; the model sees lists.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Piece, Step, Work
from workers.engines.batching.batch_plan import alike, around, oldest_first
from workers.engines.batching.batch_wait import Arrivals, StepCost, wait
from workers.engines.batching.budget import Budget
from workers.engines.faults import Unprepared, device_lost, of_the_engine
from workers.engines.outputs import BadOutput, checked, failed, outcome, snapshot

if TYPE_CHECKING:
    import torch

WINDOW = 4
"""Batches' worth of jobs that wait inside the engine, to choose from."""

_log = logging.getLogger(__name__)


class OneShotModel:
    """Base of a model that answers each input at once; name it in the catalogue as `package.module:Class`.

    `options` and `path` are those of the catalogue entry, set before `load`. Inputs are any JSON values;
    a model that minds refuses them by raising `InputRefused` in `cost`, which runs on admission. Each call
    gets inputs of its own, so it may change them.
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

        Numbers, arrays and tensors of numpy, torch and their like may stand anywhere inside an output.
        An exception in a row's place fails that job alone: `InputRefused` blames its input, any other
        is an `engine_error`. Raising fails the step, and the job that is to blame is searched for.
        """
        raise NotImplementedError

    def stream(self, item: Any) -> Iterator[Any]:
        """Instead of `predict`: yield JSON values, one a step, each sent at once.

        What the generator returns is the job's output; if nothing, the list of all it yielded.
        """
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Row:
    """A job that waits or, if it streams, runs. `came` is by `time.monotonic`."""

    work: Work
    cost: float
    came: float
    values: Iterator[Any] | None = None
    said: list[Any] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.work.id

    def input(self) -> Any:
        """The job's input as it was stored, whatever the model did to the one that it got before."""
        return self.work.anew().content


class OneShot:
    """Makes a `OneShotModel` an engine."""

    def __init__(
        self, spec: ModelSpec, model: OneShotModel, clock: Callable[[], float] = time.monotonic
    ) -> None:
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
        self.taken: Sequence[str] = ()
        self._rows: dict[str, Row] = {}
        """Jobs that have items left, by id, the oldest first."""
        self._clock = clock
        self._cost = StepCost()
        self._arrivals = Arrivals()
        self._free_since = 0.0
        self._jumped = False
        """The last batch was not built around the oldest job."""

    def load(self) -> EngineInfo:
        # torch takes seconds to import, and nobody needs it before.
        import torch

        from workers.engines.loading.placement import place

        placement = place(self._spec)
        if len(placement.devices) > 1:
            where = f"models.{self._spec.name}.device"
            raise ConfigError(f"{where}: this engine runs on one device, got {self._spec.device!r}")
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
        cost = float(self._model.cost(work.anew().content)) if self._sorts else 1.0
        if not 0 < cost < math.inf:
            raise ValueError(f"cost must be positive and finite, got {cost}")
        now = self._clock()
        self._arrivals.came(now)
        self._rows[work.id] = Row(work, cost, now)

    def cancel(self, job_id: str) -> None:
        row = self._rows.pop(job_id, None)
        if row is not None and isinstance(row.values, Generator):
            try:
                row.values.close()
            except BaseException:  # noqa: BLE001 - the job is gone all the same
                _log.exception("closing the stream of %s failed", job_id)

    def step(self) -> Step:
        """One batch through `predict`, or one more value of every stream."""
        self.taken = ()
        if not self._rows:
            return Step()
        with self._inference():
            return self._advance() if self._streams else self._predict()

    def pending(self) -> int:
        return len(self._rows)

    def batch_delay(self) -> float:
        """See `workers.engines.batching.batch_wait`; a stream can be joined at any step."""
        if self._streams or not self._rows:
            return 0.0
        now = self._clock()
        oldest = next(iter(self._rows.values()))
        return wait(
            len(self._rows),
            self._spec.batch.max_size,
            self._cost,
            self._arrivals,
            waited=now - max(oldest.came, self._free_since),
            limit=self._spec.batch.flush_timeout_ms / 1000,
            now=now,
        )

    def _predict(self) -> Step:
        waiting = list(self._rows.values())
        started = self._clock()
        first, most = 0, self._spec.batch.max_size
        if not self._jumped:  # else the oldest could be passed over for ever
            first, most = around([row.work.expires for row in waiting], started, self._cost, most)
        plan = alike if self._sorts else oldest_first
        chosen = plan([row.cost for row in waiting], most, self.budget.now, first)
        batch = [waiting[index] for index in chosen]
        self.taken = [row.id for row in batch]
        costs = [row.cost for row in batch]
        self.budget.spend(
            max(costs) * len(batch) if self._sorts else sum(costs), waiting[first].cost
        )
        outputs = checked(self._model.predict(self._collated(batch)), len(batch))
        usage = {"batch_size": len(batch)}
        ends = [outcome(row.id, out, usage) for row, out in zip(batch, outputs, strict=True)]
        # Nothing above has changed anything, and nothing below can fail.
        self._jumped = first != 0
        self._free_since = self._clock()
        self._cost.ran(len(batch), self._free_since - started)
        for row in batch:
            del self._rows[row.id]
        return Step([], ends, len(batch))

    def _collated(self, batch: Sequence[Row]) -> Any:
        try:
            return self._model.collate([row.input() for row in batch])
        except InputRefused:
            raise
        except BaseException as error:
            if of_the_engine(error):
                raise
            raise Unprepared(type(error).__name__) from error

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
                row.values = iter(self._model.stream(row.input()))
            value = snapshot(next(row.values))
        except StopIteration as stop:
            output = row.said if stop.value is None else stop.value
            step.outcomes.append(outcome(row.id, output, {"batch_size": step.batch_size}))
        except BadOutput as error:
            step.outcomes.append(Failed(row.id, error.code, error.detail))
        except BaseException as error:
            if (lost := device_lost(error)) is not None:
                raise lost from error
            _log.exception("the stream of %s failed", row.id)
            step.outcomes.append(failed(row.id, error))
        else:
            row.said.append(value)
            step.pieces.append(Piece(row.id, output=value))
