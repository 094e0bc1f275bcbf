"""`python -m bench.adapters`: what LoRA adapters cost beside their base: memory of a host, processor time.

Two real engine hosts of one random model of 24 million parameters: one without adapters, one with four of
rank 16 on every linear layer. Both run the like texts in turns, the second also with each text of another
adapter. Processor time is that of the host's process, so that a busy machine matters little.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.command import OFFLINE

os.environ.update(OFFLINE)

import msgspec
import psutil
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from bench.engines.llama import as_text, save_llama
from bench.reporting.table import table
from shared.domain.models.catalog import Adapter, Batch, Limits, ModelSpec
from workers.engine_host.client import EngineClient
from workers.engine_host.events import Cause, EngineState
from workers.host_protocol.messages import Stepped, Submit

GOAL = 1.15
RANK = 16
TEXTS, PROMPT, TOKENS = 16, 32, 48
ROUNDS = 3
PATIENCE = 300.0


class BenchFailed(Exception):
    """A host did not do what it was asked."""


class MeasuredHost:
    """A real engine host, and what it costs."""

    def __init__(self, spec: ModelSpec) -> None:
        self._ended = 0
        self._fault = ""
        self.client = EngineClient(spec, self)
        self._number = 0
        self.client.start()
        self._await(lambda: self.client.info is not None)

    # -- EngineEvents

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        """Count texts that have ended."""
        for outcome in (outcome for step in steps for outcome in step.outcomes):
            self._ended += 1
            if outcome.kind != "finished":
                self._fault = f"a text ended as {outcome.kind}: {outcome.message}"

    def engine_lost(self, reason: str, cause: Cause, culprit: str) -> None:  # noqa: ARG002
        """See `EngineEvents`."""
        self._fault = reason

    def engine_changed(self, state: EngineState, detail: str) -> None:
        """See `EngineEvents`."""
        if state is EngineState.FAILED:
            self._fault = detail

    def run(self, adapters: Sequence[str]) -> float:
        """Milliseconds of processor time for a token of one batch; the n-th text is the n-th adapter's."""
        before, wanted = self._cpu(), self._ended + TEXTS
        self.client.send([self._submit(adapters[n % len(adapters)], n) for n in range(TEXTS)])
        self._await(lambda: self._ended == wanted)
        return (self._cpu() - before) / (TEXTS * TOKENS) * 1000

    def resident(self) -> float:
        """MiB of resident memory."""
        return psutil.Process(self.client.pid).memory_info().rss / 2**20

    def _submit(self, adapter: str, place: int) -> Submit:
        self._number += 1
        # New tokens each time, so that no beginning is known already.
        words = [(self._number * 31 + place * 7 + n) % 1000 for n in range(PROMPT)]
        asked = {"content": as_text(words), "params": {"max_new_tokens": TOKENS}, "seed": 0}
        request = msgspec.json.encode(asked)
        return Submit(f"t{self._number}", request, PATIENCE, "run_timeout", adapter=adapter)

    def _cpu(self) -> float:
        times = psutil.Process(self.client.pid).cpu_times()
        return float(times.user + times.system)

    def _await(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not done() and not self._fault:
            if time.monotonic() > until:
                raise BenchFailed("a host took too long")
            time.sleep(0.01)
        if self._fault:
            raise BenchFailed(self._fault)


def save_adapter(base: Path, folder: Path, seed: int) -> Path:
    """A random adapter of rank `RANK` on every linear layer of the decoder, as peft writes one."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in AutoModelForCausalLM.from_pretrained(base).named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            key = f"base_model.model.{name}"
            shapes = {"A": (RANK, module.in_features), "B": (module.out_features, RANK)}
            for side, shape in shapes.items():
                tensor = torch.randn(shape, generator=generator) * 0.02
                tensors[f"{key}.lora_{side}.weight"] = tensor
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def main() -> int:
    """0 when the goal was reached."""
    options = argparse.ArgumentParser(prog="python -m bench.adapters", description=__doc__)
    options.add_argument("--adapters", type=int, default=4)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    given = options.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder), given.adapters, given.rounds)
    except BenchFailed as failure:
        print(failure, file=sys.stderr)
        return 1


def _measure(folder: Path, count: int, rounds: int) -> int:
    path = save_llama(folder / "base")
    names = [f"adapter-{n}" for n in range(count)]
    limits = Limits(max_prompt_tokens=256, max_new_tokens=256)
    spec = ModelSpec(
        name="base",
        engine="text-generation",
        path=path,
        device="cpu",
        threads=1,
        batch=Batch(max_size=TEXTS),
        limits=limits,
    )
    adapters = tuple(
        Adapter(name=name, path=save_adapter(path, folder / name, n), limits=limits)
        for n, name in enumerate(names)
    )
    alone = MeasuredHost(spec)
    shared = MeasuredHost(spec.model_copy(update={"adapters": adapters}))
    turns: dict[str, list[float]] = {"alone": [], "base": [], "mixed": []}
    try:
        for _ in range(rounds):
            turns["alone"].append(alone.run([""]))
            turns["base"].append(shared.run([""]))
            turns["mixed"].append(shared.run(names))
        memory = alone.resident(), shared.resident()
    finally:
        alone.client.stop()
        shared.client.stop()
    return _report(turns, *memory, count)


def _report(turns: dict[str, list[float]], alone: float, shared: float, count: int) -> int:
    cost = {name: statistics.median(values) for name, values in turns.items()}
    labels = {
        "alone": "a host without adapters",
        "base": f"a host with {count}, texts of the base",
        "mixed": f"a host with {count}, each text of another adapter",
    }
    rows = [
        (
            label,
            f"{alone if name == 'alone' else shared:.0f}",
            f"{cost[name]:.2f}",
            f"{cost[name] / cost['alone']:.2f} x",
        )
        for name, label in labels.items()
    ]
    print(table(("", "MiB resident", "ms of processor a token", "beside none"), rows))
    reached = shared / alone
    sign = "reached" if reached <= GOAL else "missed"
    print(f"\nmemory {reached:.3f} x, goal <= {GOAL:g} x: {sign}")
    return 0 if reached <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
