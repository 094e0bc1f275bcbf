"""The ways in which one Llama can answer many requests: this project's engine, and transformers' own."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaForCausalLM

from bench.engines.driving import Failed, drive
from bench.engines.llama import as_text
from bench.engines.workload import Demand, batches, useful_tokens
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from workers.engines.base import EngineInfo, Work
from workers.engines.text_generation.engine import TextGeneration

SLOTS = 32
THREADS = 1
PATIENCE = 300.0


class Answered(msgspec.Struct, frozen=True):
    """Tokens by request, and when each was complete, in seconds from the common start.

    Of this project's engine also when each had its first token, and how many tokens of prompts were
    not run since another prompt began alike.
    """

    tokens: list[list[int]]
    ended: list[float]
    seconds: float
    began: list[float] = []
    cached: int = 0

    def rate(self, asked: Sequence[Demand]) -> float:
        """Useful tokens a second."""
        return useful_tokens(asked) / self.seconds

    @property
    def mean_first(self) -> float:
        return sum(self.began) / len(self.began)

    @property
    def mean_completion(self) -> float:
        return sum(self.ended) / len(self.ended)


class Generator(Protocol):
    name: str
    settings: str

    @abstractmethod
    def answer(self, asked: Sequence[Demand]) -> Answered:
        """All requests, at once. Raises `Failed`."""


def packed_engine(
    folder: Path, slots: int, limits: Limits, *, reuse: bool = False, dtype: str = "float32"
) -> tuple[TextGeneration, EngineInfo]:
    """This project's engine with the model of a directory. Raises `Failed` unless it packs."""
    spec = ModelSpec(
        name="measured",
        engine="text-generation",
        path=folder,
        device="cpu",
        dtype=dtype,
        threads=THREADS,
        batch=Batch(max_size=slots, prefix_reuse=reuse),
        limits=limits,
    )
    engine = TextGeneration(spec)
    info = engine.load()
    if info.details["batching"] != "packed":
        raise Failed(f"the engine does not pack: {info.details['reason']}")
    return engine, info


class Packed:
    """This project's engine, from prompts to pieces of text, without queue and network.

    Without prefix reuse, unless it is what is measured: rounds ask the same prompts again.
    """

    def __init__(
        self, folder: Path, slots: int = SLOTS, *, reuse: bool = False, dtype: str = "float32"
    ) -> None:
        self.name = "truthgpt-inference" + (f", {dtype}" if dtype != "float32" else "")
        limits = Limits(max_prompt_tokens=256, max_new_tokens=256)
        self._engine, info = packed_engine(folder, slots, limits, reuse=reuse, dtype=dtype)
        self._capacity, details = info.capacity, info.details
        self.settings = (
            f"Engine.admit and step; {details['slots']} slots, {details['token_budget']} tokens a step; "
            "prompts tokenized and answers detokenized within the measured time"
        )

    def answer(self, asked: Sequence[Demand]) -> Answered:
        """See `Generator.answer`."""
        works = [
            Work(str(n), as_text(demand.prompt), {"max_new_tokens": demand.wanted}, seed=0)
            for n, demand in enumerate(asked)
        ]
        driven = drive(self._engine, works, self._capacity)
        return Answered(
            [driven.tokens[work.id] for work in works],
            [driven.ended[work.id] for work in works],
            driven.seconds,
            [driven.began[work.id] for work in works],
            driven.cached_tokens,
        )


class Static:
    """`model.generate` on `width` requests at a time, as they came, padded on the left.

    A batch runs until its longest answer is there; its requests are complete when it is. A width of 1
    is one request after the other, without padding.
    """

    def __init__(self, model: Any, width: int) -> None:
        self.name = f"generate, batches of {width}" if width > 1 else "generate, one by one"
        self.settings = "model.generate with its own cache and sdpa attention, greedy"
        self._model = model
        self._width = width

    @torch.inference_mode()
    def answer(self, asked: Sequence[Demand]) -> Answered:
        """See `Generator.answer`."""
        torch.set_num_threads(THREADS)
        tokens: list[list[int]] = []
        ended: list[float] = []
        began = time.perf_counter()
        for batch in batches(asked, self._width):
            longest = max(len(demand.prompt) for demand in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, demand in enumerate(batch):
                ids[row, longest - len(demand.prompt) :] = torch.tensor(demand.prompt)
                mask[row, longest - len(demand.prompt) :] = 1
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(demand.wanted for demand in batch),
                do_sample=False,
            )[:, longest:].tolist()
            tokens += [row[: demand.wanted] for row, demand in zip(made, batch, strict=True)]
            ended += [time.perf_counter() - began] * len(batch)
        return Answered(tokens, ended, time.perf_counter() - began)


class Continuous:
    """transformers' own continuous batching, with a cache that holds all that is asked."""

    PAGE = 32
    STEP_TOKENS = 256

    def __init__(self, model: Any) -> None:
        self.name = "transformers' continuous batching"
        self.settings = (
            f"ContinuousBatchingManager, {SLOTS} requests a batch, {self.STEP_TOKENS} tokens a step, "
            f"pages of {self.PAGE}, paged sdpa attention"
        )
        self._model = model

    @torch.inference_mode()
    def answer(self, asked: Sequence[Demand]) -> Answered:
        """See `Generator.answer`."""
        torch.set_num_threads(THREADS)
        longest = max(len(demand.prompt) + demand.wanted for demand in asked)
        manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=self.PAGE,
                num_blocks=SLOTS * (longest // self.PAGE + 2),
                max_batch_tokens=self.STEP_TOKENS,
                max_requests_per_batch=SLOTS,
            ),
        )
        manager.start()
        try:
            return self._ask(manager, asked)
        finally:
            manager.stop(block=True, timeout=5.0)

    def _ask(self, manager: Any, asked: Sequence[Demand]) -> Answered:
        tokens: dict[str, list[int]] = {}
        ended: dict[str, float] = {}
        began = time.perf_counter()
        for number, demand in enumerate(asked):
            manager.add_request(
                list(demand.prompt), request_id=str(number), max_new_tokens=demand.wanted
            )
        while len(ended) < len(asked):
            result = manager.get_result(timeout=1.0)
            now = time.perf_counter() - began
            if result is None and (not manager.is_running() or now > PATIENCE):
                raise Failed(f"{self.name} stopped after {len(ended)} of {len(asked)} requests")
            if result is not None and result.is_finished():
                if result.error:
                    raise Failed(f"{self.name}: {result.error}")
                tokens[result.request_id] = list(result.generated_tokens)
                ended[result.request_id] = now
        names = [str(number) for number in range(len(asked))]
        return Answered([tokens[n] for n in names], [ended[n] for n in names], max(ended.values()))


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself: elsewhere it is slower than float32."""
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported and "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def read_plain(folder: Path) -> Any:
    """The model as transformers loads it, in float32."""
    return LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
