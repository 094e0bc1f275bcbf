"""What only a CUDA device can show. Without one all of this is skipped, and the last lines say so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from shared.domain.models.catalog import Batch, Limits
from tests.engine_driver import Ran, drive
from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.trial import TOLERANCE

if not torch.cuda.is_available():
    pytest.skip(
        "NO CUDA DEVICE: graphs, bfloat16 on the device and its memory are NOT tested here",
        allow_module_level=True,
    )
CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for bfloat16 kernels that want aligned heads."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 1024}
    return save_causal(tmp_path_factory.mktemp("wide"), **LLAMA | sizes)


def loaded(path: Path, *, graphs: bool = True, **options: Any) -> TextGeneration:
    fields = {
        "batch": Batch(max_size=8, token_budget=64),
        "limits": Limits(max_prompt_tokens=96, max_new_tokens=512),
        "device": "cuda:0",
    }
    engine = TextGeneration(text_spec(path, **fields | options))
    info = engine.load()
    assert info.details["batching"] == "packed", info.details["reason"]
    assert info.details["cuda_graphs"] > 0
    if not graphs:
        engine._runner.step_down()  # type: ignore[attr-defined]
    return engine


def works(count: int, **params: Any) -> list[Work]:
    text = "The quick brown fox jumps over the lazy dog and then it runs away. "
    rules = {"max_new_tokens": 24} | params
    return [Work(str(n), text[: 5 + 9 * n % 60], rules, seed=n) for n in range(count)]


def texts(ran: Ran) -> dict[str, str]:
    return {job: ran.text(job) for job in ran.outcomes}


@pytest.mark.parametrize("params", [{}, {"temperature": 0.8, "top_p": 0.9, "logprobs": True}])
def test_graphs_say_what_steps_without_them_say(folder: Path, params: dict[str, Any]) -> None:
    eager = loaded(folder, graphs=False, dtype="float32")

    replayed = drive(loaded(folder, dtype="float32"), works(12, **params))

    assert texts(replayed) == texts(drive(eager, works(12, **params)))


def test_float32_on_the_device_says_what_the_cpu_says(folder: Path) -> None:
    on_cpu = TextGeneration(text_spec(folder))
    on_cpu.load()

    on_cuda = drive(loaded(folder, dtype="float32"), works(6))

    assert texts(on_cuda) == texts(drive(on_cpu, works(6)))


def test_a_text_grows_through_every_window(folder: Path) -> None:
    work = Work("x", "a", {"max_new_tokens": 500}, 0)

    replayed = drive(loaded(folder, dtype="float32"), [work])

    assert replayed.text("x") == drive(loaded(folder, graphs=False, dtype="float32"), [work]).text(
        "x"
    )


def test_bfloat16_is_what_auto_means_and_its_logits_are_inside_the_tolerance(folder: Path) -> None:
    engine = loaded(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).to(CUDA).eval()
    cache = engine._runner._cache  # type: ignore[attr-defined]
    assert {tensor.dtype for tensor in (*cache.keys, *cache.values)} == {torch.bfloat16}
    run, errors = engine._runner.run, []

    def compared(chunks: Any) -> Any:
        rows, logits = run(chunks)
        for row, found in zip(rows, logits, strict=True):
            ids = torch.tensor([row.sequence.tokens], device=CUDA)
            right = model(input_ids=ids).logits[0, row.position].float()
            errors.append(float((found - right).pow(2).mean().sqrt() / right.std()))
        return rows, logits

    engine._runner.run = compared  # type: ignore[method-assign]
    drive(engine, works(4))

    assert len(errors) == 4 * 24
    assert max(errors) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 0.8, "top_k": 20, "frequency_penalty": 0.5}]
)
def test_a_step_waits_for_the_device_once(
    folder: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(folder)
    for work in works(8, **params):
        engine.admit(work)
    engine.step()
    waits = 0
    synchronize = torch.cuda.Stream.synchronize

    def counted(stream: Any) -> None:
        nonlocal waits
        waits += 1
        synchronize(stream)

    monkeypatch.setattr(torch.cuda.Stream, "synchronize", counted)
    steps = 0
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            engine.step()
            steps += 1
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert waits == steps == 10
    drive(engine)


def test_a_cache_takes_no_more_than_its_share_of_what_is_free(folder: Path) -> None:
    free = torch.cuda.mem_get_info(CUDA)[0]
    engine = loaded(
        folder,
        batch=Batch(max_size=4096, token_budget=64),
        limits=Limits(max_prompt_tokens=500, max_new_tokens=500),
    )
    cache = engine._runner._cache  # type: ignore[attr-defined]
    size = sum(t.numel() * t.itemsize for t in (*cache.keys, *cache.values))

    assert size < 0.85 * free
    assert torch.cuda.mem_get_info(CUDA)[0] > 0
    assert texts(drive(engine, works(8)))
