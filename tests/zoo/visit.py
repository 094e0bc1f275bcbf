"""One model of the zoo through the engine, beside what transformers' `generate` makes of it alone."""

import copy
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from tests.engine_driver import Ran, drive, resumed
from tests.zoo.models import VOCABULARY, Model, tokenizer
from workers.engines.base import Work
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.engine import TextGeneration

SHORT = ((35, 10), (1, 8), (18, 7), (9, 9), (26, 1))
LONG = (*SHORT, (60, 30), (2, 60), (47, 20), (24, 12), (5, 40), (23, 14), (31, 3))
"""Texts as (tokens of the prompt, new tokens): more than there are slots, some cut into chunks."""


@dataclass(frozen=True, slots=True)
class Visit:
    """`batching` is packed, static or refused, `reason` why; `wrong` are texts that differ, at most all."""

    batching: str
    reason: str
    texts: int = 0
    wrong: tuple[str, ...] = ()


def visit(model: Model, sizes: tuple[tuple[int, int], ...] = SHORT, *, long: bool = False) -> Visit:
    """Greedy texts in company; with `long` some jobs are canceled and all are taken up again as well."""
    # Threads of tiny products wait for one another longer than they compute.
    torch.set_num_threads(1)
    rng = random.Random(0)
    prompts = [[rng.randrange(VOCABULARY) for _ in range(length)] for length, _ in sizes]
    made = model.make()
    # Some models remember what they have read, so each text has a fresh one.
    alone = {
        str(n): words(generate(copy.deepcopy(made), prompt, count))
        for n, (prompt, (_, count)) in enumerate(zip(prompts, sizes, strict=True))
    }
    engine = TextGeneration(_spec())
    try:
        placement = Placement(torch.device("cpu"), torch.float32, tokens=160)
        info = engine.serve(tokenizer(), made, placement)
    except ConfigError as error:
        return Visit("refused", error.detail)
    works = [
        Work(str(n), words(prompt), {"max_new_tokens": count}, seed=0)
        for n, (prompt, (_, count)) in enumerate(zip(prompts, sizes, strict=True))
    ]
    ran = drive(engine, works)
    texts = {work.id: ran.text(work.id) for work in works}
    wrong = [
        f"{n}: {text} | alone: {alone[n]}"
        for n, text in texts.items()
        if text.split() != alone[n].split()
    ]
    if long:
        wrong += _taken_up_again(engine, works, ran)
    return Visit(info.details["batching"], info.details["reason"], len(texts), tuple(wrong))


@torch.inference_mode()
def generate(model: Any, prompt: list[int], count: int) -> list[int]:
    """The reference: one prompt at a time through transformers' own loop."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )
    found: list[int] = output[0, len(prompt) :].tolist()
    return found


def words(tokens: list[int]) -> str:
    return " ".join(f"w{token}" for token in tokens)


def _taken_up_again(engine: TextGeneration, works: list[Work], ran: Ran) -> list[str]:
    """Every job again from the middle of its text, beside jobs that are canceled half-way."""
    again = []
    for work in works:
        pieces = ran.pieces.get(work.id, [])
        again.append(resumed(work, pieces[: len(pieces) // 2]))
    for number, work in enumerate(works[:3]):
        engine.admit(Work(f"canceled {number}", work.content, {"max_new_tokens": 40}, seed=0))
    for _ in range(3):
        engine.step()
    for work in again[:4]:
        engine.admit(work)
    for number in range(3):
        engine.cancel(f"canceled {number}")
    second = drive(engine, again[4:])
    return [
        f"{work.id} resumed: {second.text(work.id)} | at once: {ran.text(work.id)}"
        for work in works
        if second.text(work.id) != ran.text(work.id)
    ]


def _spec() -> ModelSpec:
    return ModelSpec(
        name="tiny",
        engine="text-generation",
        path=Path("/nowhere"),
        batch=Batch(max_size=4, token_budget=24),
        limits=Limits(max_prompt_tokens=96, max_new_tokens=64),
        threads=1,
        device="cpu",
    )
