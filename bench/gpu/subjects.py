"""The ways to answer a batch of prompts with one model on one device."""

import inspect
import statistics
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from bench.engines.driving import Failed
from bench.engines.llama import as_text, word_tokenizer
from bench.gpu.models import Size
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from workers.engines.base import Finished, Work
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.engine import TextGeneration

PATIENCE = 120.0
PAGE = 256

PAGE_SIZE = next(
    name
    for name in ("page_size", "block_size")
    if name in inspect.signature(ContinuousBatchingConfig).parameters
)
"""Newer releases of transformers call pages what older ones, such as 5.17, call blocks."""

Prompts = Sequence[Sequence[int]]


class Took(msgspec.Struct, frozen=True):
    """Seconds from the prompts to the last token, and of one decode step where that can be told."""

    seconds: float
    step: float | None = None


class Ours:
    """This project's engine, from prompts to pieces of text; it gives the model back on `leave`."""

    name = "truthgpt-inference"

    def __init__(
        self, model: Any, size: Size, placement: Placement, slots: int, prompt: int, new: int
    ) -> None:
        spec = ModelSpec(
            name=size.name,
            engine="text-generation",
            batch=Batch(max_size=slots, prefix_reuse=False),
            limits=Limits(max_prompt_tokens=prompt, max_new_tokens=new),
        )
        self._engine = TextGeneration(spec)
        info = self._engine.serve(word_tokenizer(size.vocabulary), model, placement)
        self.details = dict(info.details)
        if self.details["batching"] != "packed":
            raise Failed(f"the engine does not pack: {self.details['reason']}")
        if self.details["slots"] < slots:
            raise Failed(f"only {self.details['slots']} of {slots} slots fit")

    def answer(self, prompts: Prompts, new: int) -> Took:
        """All prompts at once. A decode step is one that brings a token for each of them."""
        works = [
            Work(str(n), as_text(prompt), {"max_new_tokens": new}, seed=0)
            for n, prompt in enumerate(prompts)
        ]
        steps: list[float] = []
        began = time.perf_counter()
        for work in works:
            self._engine.admit(work)
        while self._engine.pending():
            before = time.perf_counter()
            step = self._engine.step()
            if len(step.pieces) == len(prompts):
                steps.append(time.perf_counter() - before)
            for outcome in step.outcomes:
                if not isinstance(outcome, Finished):
                    raise Failed(f"{outcome.id}: {outcome.code}: {outcome.message}")
        # The first one may have run prompts as well.
        return Took(time.perf_counter() - began, statistics.median(steps[1:]))

    def leave(self) -> None:
        """Give the model its own attention back and the cache's memory free."""
        self._engine._runner.detach()
        del self._engine


class Static:
    """`model.generate`, eager, on prompts of the same length: no padding."""

    name = "generate, static batch"

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device

    @torch.inference_mode()
    def answer(self, prompts: Prompts, new: int) -> Took:
        """All prompts as one batch; a step is what each token after the first two has taken."""
        short = self._run(prompts, 2)
        whole = self._run(prompts, new)
        return Took(whole, max(0.0, whole - short) / (new - 2))

    def _run(self, prompts: Prompts, new: int) -> float:
        ids = torch.tensor(prompts, device=self._device)
        began = time.perf_counter()
        made = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=new,
            max_new_tokens=new,
            do_sample=False,
        ).tolist()
        if any(len(row) != len(prompts[0]) + new for row in made):
            raise Failed(f"{self.name}: not all texts have {new} tokens")
        return time.perf_counter() - began


class Continuous:
    """transformers' own continuous batching, with a cache that holds all that is asked."""

    name = "transformers' continuous batching"

    def __init__(self, model: Any, budget: int) -> None:
        self._model = model
        self._budget = budget

    @torch.inference_mode()
    def answer(self, prompts: Prompts, new: int) -> Took:
        """All prompts at once. Raises `Failed` when it stops before the last one is done."""
        longest = len(prompts[0]) + new
        manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                **{PAGE_SIZE: PAGE},
                num_blocks=len(prompts) * (longest // PAGE + 2),
                max_batch_tokens=self._budget,
                max_requests_per_batch=len(prompts),
            ),
        )
        manager.start()
        try:
            return self._ask(manager, prompts, new)
        finally:
            manager.stop(block=True, timeout=5.0)

    def _ask(self, manager: Any, prompts: Prompts, new: int) -> Took:
        began = time.perf_counter()
        for number, prompt in enumerate(prompts):
            manager.add_request(list(prompt), request_id=str(number), max_new_tokens=new)
        ended = 0
        while ended < len(prompts):
            result = manager.get_result(timeout=1.0)
            late = time.perf_counter() - began > PATIENCE
            if late or (result is None and not manager.is_running()):
                raise Failed(f"{self.name} stopped after {ended} of {len(prompts)} requests")
            if result is not None and result.is_finished():
                if result.error or len(result.generated_tokens) != new:
                    raise Failed(f"{self.name}: {result.error or 'a text is too short'}")
                ended += 1
        return Took(time.perf_counter() - began)
