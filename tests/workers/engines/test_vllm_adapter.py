"""The vLLM engine against a stand-in with the same API: texts, ends, cancels, faults, arguments."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.catalog import Batch, Limits, ModelSpec
from shared.errors import ConfigError, InputRefused
from tests import fake_vllm
from tests.engine_driver import drive, resumed
from tests.tiny_models import byte_level_tokenizer, text_spec
from workers.engines.base import Broke, Work
from workers.engines.faults import DeviceLost
from workers.engines.registry import build
from workers.engines.vllm_adapter import Vllm, engine_arguments
from workers.host.isolation import Isolation

PROMPTS = ["The quick brown fox", "a", "naïve café 🎉", "def main(argv)"]


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", fake_vllm.sampling_params)  # type: ignore[arg-type]
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


@pytest.fixture
def engine(llama: Path) -> Vllm:
    engine = build(text_spec(llama, engine="vllm", batch=Batch(max_size=3)))
    assert isinstance(engine, Vllm)
    engine.load()
    return engine


def work(job_id: str, prompt: Any = PROMPTS[0], **params: Any) -> Work:
    return Work(job_id, prompt, {"max_new_tokens": 12} | params, seed=7)


def expected(prompt: str, length: int) -> str:
    """What the stand-in's model says, up to its end token."""
    tokenizer = byte_level_tokenizer()
    ids = tokenizer(prompt)["input_ids"]
    made: list[int] = []
    while len(made) < length:
        token = fake_vllm.next_token([*ids, *made])
        if token == tokenizer.eos_token_id:
            break
        made.append(token)
    text: str = tokenizer.decode(made, skip_special_tokens=True)
    return text.rstrip("\ufffd")


def test_it_says_what_it_is(llama: Path) -> None:
    info = build(text_spec(llama, engine="vllm")).load()

    assert info.continues and info.capacity == 5
    assert info.details == {
        "batching": "vllm",
        "vllm": "0.0-fake",
        "slots": 4,
        "prompt_bounds": {"tokens": 96, "bytes": 96 * 19},
    }


@pytest.mark.parametrize("prompt", PROMPTS)
def test_texts_are_whole_and_stream_piece_by_piece(engine: Vllm, prompt: str) -> None:
    ran = drive(engine, [work("a", prompt)])

    assert ran.text("a") == ran.streamed("a") == expected(prompt, 12)
    assert all(piece.text and piece.token_ids for piece in ran.pieces["a"])


def test_more_jobs_than_places_share_the_batch(engine: Vllm) -> None:
    ran = drive(engine, [work(str(n), PROMPTS[n % 4]) for n in range(7)])

    for n in range(7):
        assert ran.text(str(n)) == expected(PROMPTS[n % 4], 12)
        usage = ran.finished(str(n)).usage
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["batch_size"] <= 3


def test_the_end_token_ends_a_text_and_is_not_part_of_it(engine: Vllm) -> None:
    ids = byte_level_tokenizer()(PROMPTS[0])["input_ids"]
    second = fake_vllm.next_token([*ids, fake_vllm.next_token(ids)])
    ran = drive(engine, [work("a", stop_token_ids=[second])])

    output = ran.finished("a").output
    assert output["finish_reason"] == "stop"
    assert output["text"] == expected(PROMPTS[0], 1)
    assert ran.finished("a").usage["completion_tokens"] == 1


def test_a_stop_string_ends_it_here_and_in_vllm(engine: Vllm) -> None:
    whole = expected(PROMPTS[0], 12)
    stop = whole[3:5]
    ran = drive(engine, [work("a", stop=[stop])])

    assert ran.finished("a").output == {
        "text": whole[: whole.index(stop)],
        "finish_reason": "stop",
    }
    assert engine._engine.requests == {}


def test_a_resumed_text_ends_as_the_uninterrupted_one(engine: Vllm) -> None:
    whole = drive(engine, [work("a", PROMPTS[2])])
    pieces = whole.pieces["a"]
    for cut in range(len(pieces) + 1):
        ran = drive(engine, [resumed(work("a", PROMPTS[2]), pieces[:cut])])
        assert ran.finished("a").output == whole.finished("a").output
        assert ran.finished("a").usage["completion_tokens"] == 12


def test_a_cancel_frees_the_request_and_the_id(engine: Vllm) -> None:
    engine.admit(work("a"))
    engine.step()
    engine.cancel("a")
    engine.cancel("unknown")

    assert engine.pending() == 0 and engine._engine.requests == {}
    assert drive(engine, [work("a")]).text("a") == expected(PROMPTS[0], 12)


def test_an_idle_engine_does_not_ask_vllm(engine: Vllm) -> None:
    engine._engine.fault = RuntimeError("not to be asked")
    step = engine.step()

    assert (step.pieces, step.outcomes, step.batch_size) == ([], [], 0)


@pytest.mark.parametrize("content", [7, "", "x" * 2000])
def test_bad_input_is_refused_at_the_door(engine: Vllm, content: Any) -> None:
    with pytest.raises(InputRefused):
        engine.admit(work("a", content))
    assert engine.pending() == 0


def test_what_vllm_refuses_is_refused(engine: Vllm) -> None:
    engine._engine.args.max_model_len = 1
    with pytest.raises(InputRefused, match="longer than max_model_len"):
        engine.admit(work("a"))
    with pytest.raises(InputRefused, match="no logprobs"):
        engine.admit(work("a", logprobs=True))
    assert engine.pending() == 0


def test_parameters_reach_vllm(engine: Vllm) -> None:
    drive(engine, [work("a", temperature=0.7, top_p=0.9, top_k=5, min_p=0.1)])
    [params] = engine._engine.params

    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.7, 0.9, 5, 0.1)
    assert (params.seed, params.max_tokens) == (7, 12)


def test_a_job_that_vllm_gives_up_is_an_engine_error(engine: Vllm) -> None:
    engine._engine.ends_with = "abort"
    [end] = drive(engine, [work("a")]).outcomes.values()

    assert isinstance(end, Broke) and end.code == "engine_error" and "abort" in end.message


def test_a_dead_engine_ends_the_host(engine: Vllm) -> None:
    engine._engine.fault = fake_vllm.EngineDeadError("core died")
    engine.admit(work("a"))

    with pytest.raises(DeviceLost, match="core died"):
        engine.step()


def test_a_passing_fault_passes(engine: Vllm) -> None:
    isolation = Isolation(engine, continues=True)
    engine._engine.fault = RuntimeError("once")
    ran = drive(isolation, [work("a"), work("b", PROMPTS[1])])

    assert ran.text("a") == expected(PROMPTS[0], 12)


def spec(path: Path, **fields: Any) -> ModelSpec:
    return ModelSpec(
        name="m", engine="vllm", path=path, limits=Limits(max_prompt_tokens=96), **fields
    )


def test_the_catalogue_becomes_vllm_s_arguments(tmp_path: Path) -> None:
    found = engine_arguments(
        spec(
            tmp_path,
            device=["cuda:0", "cuda:1"],
            dtype="bfloat16",
            memory_share=0.4,
            batch=Batch(max_size=8, token_budget=512),
            options={"max_num_seqs": 9},
        ),
        tmp_path,
        256,
    )

    assert found == {
        "model": str(tmp_path),
        "dtype": "bfloat16",
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_model_len": 256,
        "max_num_seqs": 9,
        "max_num_batched_tokens": 512,
        "gpu_memory_utilization": 0.4,
        "tensor_parallel_size": 2,
        "disable_log_stats": True,
        "enable_prefix_caching": True,
    }


def test_options_cannot_undo_what_keeps_us_safe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code: may not be set"):
        engine_arguments(spec(tmp_path, options={"trust_remote_code": True}), tmp_path, 256)


@pytest.mark.parametrize("options", [{"no_such_argument": 1}, {"gpu_memory_utilization": 1.5}])
def test_what_vllm_cannot_serve_is_a_config_error(llama: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="vLLM cannot serve"):
        build(text_spec(llama, engine="vllm", options=options)).load()


def test_without_vllm_it_says_what_to_do(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="name that interpreter under `python`"):
        build(text_spec(llama, engine="vllm")).load()


def test_vllm_is_shown_the_devices_that_are_meant(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    build(text_spec(llama, engine="vllm", device=["cuda:2", "cuda:3"])).load()

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
