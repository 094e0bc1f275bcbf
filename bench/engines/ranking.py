"""A cross-encoder of MiniLM's size: this project's engine beside CrossEncoder.predict at its best."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench.engines import encoding
from bench.engines.driving import Failed, drive
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common
from bench.engines.workload import sentences
from shared.domain.models.catalog import Limits, ModelSpec
from workers.engines.base import Work
from workers.engines.ranking.engine import Ranking

PAIRS = 64
WIDTHS = (1, 8, 16, 32, 64)
CLOSE = 1e-4
"""Largest difference of scores that count as the same."""
Pair = tuple[str, str]
Score = Callable[[Sequence[Pair]], list[float]]


def ranking(plan: Plan, scratch: Path) -> Part:
    """64 pairs of mixed length, a job a pair, as they come from many clients."""
    folder = save_ranker(scratch / "ranker")
    queries, documents = sentences(PAIRS, middle=8, seed=1), sentences(PAIRS, middle=40)
    pairs = list(zip(queries, documents, strict=True))
    subjects: dict[str, Score] = {"truthgpt-inference": _ours(folder)}
    model = _cross_encoder(folder)
    for width in WIDTHS:
        subjects[f"CrossEncoder.predict, batches of {width}"] = _theirs(model, width)
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    scores: dict[str, list[float]] = {}
    for score in subjects.values():
        score(pairs[:8])
    for _ in range(plan.rounds + 1):
        for name, score in subjects.items():
            # Of the processor: nobody else's work counts, and both sides have one thread.
            began = time.process_time()
            scores[name] = score(pairs)
            rates[name].append(len(pairs) / (time.process_time() - began))
            print(f"ranking  {name}: {rates[name][-1]:,.1f} pairs/s", flush=True)
    own, *others = subjects
    best = max(others, key=lambda name: max(rates[name]))
    near = sum(
        abs(mine - other) < CLOSE for mine, other in zip(scores[own], scores[best], strict=True)
    )
    return Part(
        "ranking",
        f"A cross-encoder of MiniLM's size, fp32, one thread, {PAIRS} pairs of mixed length",
        series=[
            Series(name, "pairs/s of processor time", values) for name, values in rates.items()
        ],
        ratios=[Ratio(f"pairs/s / {best}", "≥ 1.5", common(rates[own], rates[best]))],
        alike=[Alike(f"scores within {CLOSE} of those of CrossEncoder", near, PAIRS)],
        settings=[
            "truthgpt-inference: Engine.admit and step, a job a pair",
            "CrossEncoder.predict of sentence-transformers sorts pairs by length; its best batch size counts",
        ],
    )


def save_ranker(folder: Path) -> Path:
    """MiniLM with a random head for one score."""
    torch.manual_seed(0)
    source = str(encoding.minilm())
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def _ours(folder: Path) -> Score:
    spec = ModelSpec(
        name="ranker",
        engine="ranking",
        path=folder,
        device="cpu",
        dtype="float32",
        threads=encoding.THREADS,
        limits=Limits(max_prompt_tokens=encoding.LIMIT),
    )
    engine = Ranking(spec)
    info = engine.load()
    if info.details["batching"] != "packed":
        raise Failed(f"the engine does not pack: {info.details['reason']}")

    def score(pairs: Sequence[Pair]) -> list[float]:
        works = [Work(str(n), [list(pair)], {}, seed=0) for n, pair in enumerate(pairs)]
        driven = drive(engine, works, info.capacity)
        return [driven.outputs[work.id]["scores"][0] for work in works]

    return score


def _cross_encoder(folder: Path) -> Any:
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        raise Failed("the package sentence-transformers is not installed") from None
    return CrossEncoder(str(folder), device="cpu", max_length=encoding.LIMIT)


def _theirs(model: Any, width: int) -> Score:
    def score(pairs: Sequence[Pair]) -> list[float]:
        torch.set_num_threads(encoding.THREADS)
        found: list[float] = model.predict(
            list(pairs), batch_size=width, show_progress_bar=False
        ).tolist()
        return found

    return score
