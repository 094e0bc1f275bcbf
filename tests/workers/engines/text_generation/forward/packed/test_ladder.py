"""Decode steps in fixed shapes, run eagerly here: the same code that is captured as graphs on CUDA."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.models.catalog import Batch, Limits
from tests.engine_driver import Ran, drive
from tests.tiny_models import LLAMA, LONGROPE, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.packed import ladder, packing
from workers.engines.text_generation.forward.packed.attention import SlotAttention
from workers.engines.text_generation.forward.packed.ladder import Ladder, Shape, bucket_sizes
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

SLOTS = 6
CPU = torch.device("cpu")


@pytest.fixture
def climbing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines use fixed shapes as on CUDA, with short windows."""
    monkeypatch.setattr(packing, "fixed_shapes", lambda _: True)
    monkeypatch.setattr(ladder, "SHORTEST_WINDOW", 20)


def loaded(path: Path, **options: Any) -> TextGeneration:
    batch = Batch(max_size=SLOTS, token_budget=40)
    limits = Limits(max_prompt_tokens=96, max_new_tokens=64)
    engine = TextGeneration(text_spec(path, batch=batch, limits=limits, **options))
    engine.load()
    return engine


def works(**params: Any) -> list[Work]:
    prompt = "The quick brown fox jumps over the lazy dog and runs. "
    return [
        Work(str(n), prompt[: 3 + n * 11 % 50], {"max_new_tokens": 3 + n * 7 % 40} | params, n)
        for n in range(14)
    ]


def texts(ran: Ran) -> dict[str, Any]:
    return {job: ran.finished(job).output for job in ran.outcomes}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("LlamaConfig", LLAMA),
        ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400}),
        ("Phi3Config", LLAMA | {"pad_token_id": 0}),
        ("Phi3Config", LONGROPE),
        ("GptOssConfig", LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 12}),
        ("Gemma2Config", LLAMA | {"head_dim": 16, "sliding_window": 12}),
    ],
)
def test_texts_are_those_of_the_steps_without_fixed_shapes(
    config: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_causal(tmp_path, config, **options)
    mixed = [*works()[:7], *works(temperature=0.9, top_p=0.9, logprobs=True)[7:]]
    expected = drive(loaded(path), mixed)
    monkeypatch.setattr(packing, "fixed_shapes", lambda _: True)
    monkeypatch.setattr(ladder, "SHORTEST_WINDOW", 20)
    engine = loaded(path)
    climbed = engine._runner._ladder  # type: ignore[attr-defined]
    assert climbed is not None
    used: Counter[Shape] = Counter()
    choose = climbed.shape_for

    def counted(chunks: Any) -> Shape:
        used[choose(chunks)] += 1
        return choose(chunks)  # type: ignore[no-any-return]

    monkeypatch.setattr(climbed, "shape_for", counted)

    ran = drive(engine, mixed)

    assert {job: out["text"] for job, out in texts(ran).items()} == {
        job: out["text"] for job, out in texts(expected).items()
    }
    assert len(used) >= 4
    assert {shape.gather for shape in used} == {False, True}


def test_idle_rows_harm_no_slot(climbing: None, llama: Path) -> None:
    engine = loaded(llama)
    cache = engine._runner._cache  # type: ignore[attr-defined]
    [long, *others] = works()
    drive(engine, others)
    engine.admit(long)
    engine.step()
    kept = [tensor[:SLOTS].clone() for tensor in (*cache.keys, *cache.values)]
    [running] = engine._scheduler._running

    engine.step()

    for before, now in zip(kept, (*cache.keys, *cache.values), strict=True):
        changed = (before != now[:SLOTS]).any(-1).any(1).nonzero().tolist()
        assert changed == [[running.slot, running.cached - 1]]


def test_a_shape_that_is_wrong_is_not_used(
    climbing: None, llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ladder.Ladder, "run", lambda self, chunks: torch.zeros(len(chunks), 400))

    engine = loaded(llama)

    assert engine._runner._ladder is None  # type: ignore[attr-defined]
    assert "without CUDA graphs: logits are off" in caplog.text


def test_a_shape_that_cannot_be_captured_is_not_used(
    climbing: None, llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Ladder) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    expected = texts(drive(loaded(llama), works()))
    monkeypatch.setattr(ladder.Ladder, "warm_up", fails)

    assert texts(drive(loaded(llama), works())) == expected
    assert "when stream is capturing" in caplog.text


def test_rungs_double_and_end_with_the_most() -> None:
    assert bucket_sizes(1, 32) == [1, 2, 4, 8, 16, 32]
    assert bucket_sizes(1, 6) == [1, 2, 4, 6]
    assert bucket_sizes(256, 160) == [160]


@given(st.integers(1, 40), st.data())
def test_every_step_fits_a_shape_that_is_there(slots: int, data: st.DataObject) -> None:
    lengths = st.integers(1, 1000)
    taken = data.draw(st.sets(st.integers(0, slots - 1), min_size=1))
    chunks = [
        Chunk(Sequence(str(slot), [1] * 1001, 1, 1, Sampling(0)), slot, data.draw(lengths) - 1, 1)
        for slot in sorted(taken)
    ]
    made = Ladder(None, SlotAttention(None), slots, 1000, CPU)  # type: ignore[arg-type]

    shape = made.shape_for(chunks)

    assert shape in made.shapes()
    assert shape.window >= max(chunk.end for chunk in chunks)
    assert shape.rows >= (len(chunks) if shape.gather else max(taken) + 1)
    assert shape.rows < 4 * len(chunks) or not shape.gather
