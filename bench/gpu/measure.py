"""Measures all models in all batches, in every way, one after the other on the same device."""

import gc
import random
from collections.abc import Callable
from typing import Any

import torch

from bench.engines.driving import Failed
from bench.gpu.models import Size, bytes_read, make
from bench.gpu.result import Plan, Row
from bench.gpu.roofline import Bandwidth, tokens_per_second
from bench.gpu.subjects import Continuous, Ours, Prompts, Static, Took
from workers.engines.loading.placement import Placement

FIRST_TOKEN = 2


def measure(
    plan: Plan, size: Size, placement: Placement, bound: Bandwidth
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of one model, and what our engine says of itself. Raises `Failed` when ours fails."""
    model = make(size, placement.device, placement.dtype)
    weights = bytes_read(model, size)
    gauge = Gauge(plan, size, placement, bound, weights)
    ours = Ours(model, size, placement, max(plan.batches), plan.prompt, plan.new)
    rows = [gauge.row(batch, ours.name, ours.answer) for batch in plan.batches]
    details = ours.details
    ours.leave()
    _free(placement.device)
    others = (Static(model, placement.device), Continuous(model, plan.budget))
    for subject in others:
        for batch in plan.batches:
            rows.append(_or_fault(gauge, batch, subject))
        _free(placement.device)
    del model, others
    _free(placement.device)
    return rows, details


class Gauge:
    """Turns what a batch took into rates and shares of what the bandwidth allows."""

    def __init__(
        self, plan: Plan, size: Size, placement: Placement, bound: Bandwidth, weights: int
    ) -> None:
        self._plan = plan
        self._size = size
        self._dtype = placement.dtype
        self._bound = bound
        self._weights = weights

    def row(self, batch: int, name: str, answer: Callable[[Prompts, int], Took]) -> Row:
        """One round to warm up, then those that count."""
        took = []
        for turn in range(self._plan.rounds + 1):
            found = answer(self._prompts(batch, turn), self._plan.new)
            took += [found] if turn else []
        decode = [batch / each.step for each in took if each.step]
        row = Row(
            self._size.name,
            batch,
            name,
            [batch * self._plan.new / each.seconds for each in took],
            decode,
            self._shares(batch, decode, self._bound.measured),
            self._shares(batch, decode, self._bound.nominal),
        )
        print(f"{row.size} x {batch}  {name}: {row.rates[-1]:,.0f} tokens/s", flush=True)
        return row

    def _shares(self, batch: int, decode: list[float], gbs: float | None) -> list[float]:
        if gbs is None:
            return []
        context = self._plan.prompt + self._plan.new / 2
        most = tokens_per_second(gbs, batch, context, self._weights, self._size, self._dtype)
        return [rate / most for rate in decode]

    def _prompts(self, batch: int, turn: int) -> list[list[int]]:
        chance = random.Random(turn)
        words = range(FIRST_TOKEN, self._size.vocabulary)
        return [chance.choices(words, k=self._plan.prompt) for _ in range(batch)]


def _or_fault(gauge: Gauge, batch: int, subject: Static | Continuous) -> Row:
    """A row, or why another one's way did not work: that ends no run of ours."""
    try:
        return gauge.row(batch, subject.name, subject.answer)
    except (Failed, RuntimeError, TypeError, ValueError, AttributeError) as fault:
        print(f"{gauge._size.name} x {batch}  {subject.name}: {fault}", flush=True)
        return Row(gauge._size.name, batch, subject.name, fault=str(fault)[:300])


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
