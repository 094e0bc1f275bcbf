"""What one job costs the others whose input makes the model fail, at the worst moment: after its work."""

from abc import abstractmethod
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from bench.engines.driving import Failed, drive
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common
from bench.engines.workload import sentences
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from shared.domain.models.catalog_file import DEFAULT_CATALOGUE
from workers.engines.base import Engine, Work
from workers.engines.one_shot import OneShot, OneShotModel
from workers.engines.text_generation.engine import TextGeneration
from workers.host.isolation import Isolation

WIDTH = 32
POISON = "poison"
TOKENS = 16
SIZE, DEPTH = 512, 24


@dataclass(frozen=True, slots=True)
class Ran:
    """Jobs that succeeded, jobs that ended as `poison_input`, and the seconds that all took."""

    good: int
    bad: int
    seconds: float


class Subject(Protocol):
    name: str
    settings: str

    @abstractmethod
    def run(self, jobs: int, *, poisoned: bool) -> Ran:
        """So many jobs at once; with `poisoned`, the middle one makes each step with it fail."""


class Texts:
    """demo-llama; the step raises once the forward pass is done."""

    name = "text generation"
    settings = (
        f"demo-llama, fp32, one thread, {WIDTH} slots, {TOKENS} tokens each, no shared prefixes"
    )

    def __init__(self) -> None:
        spec = ModelSpec(
            name="demo-llama",
            engine="text-generation",
            path=DEFAULT_CATALOGUE.parent / "demo-llama",
            device="cpu",
            threads=1,
            batch=Batch(max_size=WIDTH, prefix_reuse=False),
        )
        self._engine = TextGeneration(spec)
        self._capacity = self._engine.load().capacity
        self._engine._runner = _Fragile(self._engine._runner)

    def run(self, jobs: int, *, poisoned: bool) -> Ran:
        """See `Subject.run`."""
        prompts: list[Any] = list(sentences(jobs))
        return _run(
            self._engine,
            self._capacity,
            prompts,
            {"max_new_tokens": TOKENS},
            poisoned=jobs // 2 if poisoned else None,
            continues=True,
        )


class _Fragile:
    """A runner that computes and then fails, where the poisoned sequence takes part."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def run(self, chunks: Items[Any]) -> Any:
        ran = self._runner.run(chunks)
        if any(chunk.sequence.id == POISON for chunk in chunks):
            raise RuntimeError("the model fails on this input")
        return ran

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class _Layers(OneShotModel):
    """A stack of matrix products. A call costs about as much as 15 rows before the first of them."""

    def load(self, device: torch.device) -> None:  # noqa: ARG002
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self._layers = [torch.randn(SIZE, SIZE) / SIZE**0.5 for _ in range(DEPTH)]

    @torch.inference_mode()
    def predict(self, inputs: list[Any]) -> Items[Any]:
        rows = torch.full((len(inputs), SIZE), 0.5)
        for layer in self._layers:
            rows = torch.tanh(rows @ layer)
        if POISON in inputs:
            raise RuntimeError("the model fails on this input")
        return rows[:, :4].tolist()


class Rows:
    """A one-shot model; `predict` raises once its rows are computed."""

    name = "one-shot"
    settings = f"{DEPTH} products [n, {SIZE}] x [{SIZE}, {SIZE}], fp32, one thread"

    def __init__(self) -> None:
        spec = ModelSpec(
            name="rows",
            engine=f"{__name__}:{_Layers.__name__}",
            device="cpu",
            threads=1,
            batch=Batch(max_size=WIDTH),
            limits=Limits(),
        )
        self._engine = OneShot(spec, _Layers())
        self._capacity = self._engine.load().capacity

    def run(self, jobs: int, *, poisoned: bool) -> Ran:
        """See `Subject.run`."""
        inputs: list[Any] = [f"row {number}" for number in range(jobs)]
        if poisoned:
            inputs[jobs // 2] = POISON
        return _run(
            self._engine,
            self._capacity,
            inputs,
            {},
            poisoned=jobs // 2 if poisoned else None,
            continues=False,
        )


def _run(
    engine: Engine,
    capacity: int,
    inputs: Items[Any],
    params: dict[str, Any],
    *,
    poisoned: int | None,
    continues: bool,
) -> Ran:
    works = [
        Work(POISON if number == poisoned else str(number), content, params, seed=0)
        for number, content in enumerate(inputs)
    ]
    driven = drive(Isolation(engine, continues=continues), works, capacity, {POISON})
    if any(code != "poison_input" for code in driven.broke.values()):
        raise Failed(f"the poisoned job ended as {driven.broke}")
    return Ran(len(driven.ended), len(driven.broke), driven.seconds)


def poison(plan: Plan, scratch: Path) -> Part:  # noqa: ARG001
    """One job that makes its model fail, among many in full batches, and the same jobs without it."""
    series, ratios, alike = [], [], []
    for subject in (Texts(), Rows()):
        rates: dict[str, list[float]] = {"all good": [], "one poisoned": []}
        spared = 0
        for _ in range(plan.rounds):
            for name, values in rates.items():
                ran = subject.run(plan.poisoned, poisoned=name == "one poisoned")
                values.append(ran.good / ran.seconds)
                spared += ran.good == plan.poisoned - ran.bad and ran.bad == (name != "all good")
                print(f"poison  {subject.name}, {name}: {values[-1]:,.1f} good jobs/s", flush=True)
        series += [Series(f"{subject.name}, {n}", "good jobs/s", v) for n, v in rates.items()]
        lost = common(rates["one poisoned"], rates["all good"])
        ratios.append(Ratio(f"{subject.name}, good jobs/s / all good", "≥ 0.95", lost))
        figure = f"{subject.name}: runs in which the culprit alone failed, as poison_input"
        alike.append(Alike(figure, spared, 2 * plan.rounds))
    return Part(
        "poison",
        f"One poisoned job among {plan.poisoned:,}, batches of {WIDTH}",
        series=series,
        ratios=ratios,
        alike=alike,
        settings=[f"{s.name}: {s.settings}" for s in (Texts, Rows)],
    )
