"""How vLLM is set up: arguments, device, number format, context, memory, switches, and what is refused."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from tests import fake_vllm
from tests.tiny_models import LLAMA, WIDE_HEADS, save_causal, text_spec
from workers.engines.base import EngineInfo, Work
from workers.engines.registry import build
from workers.engines.vllm.adapter import Vllm
from workers.engines.vllm.setup import engine_arguments


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def install(monkeypatch: pytest.MonkeyPatch, kind: str = "cpu") -> None:
    for name, module in fake_vllm.modules(kind).items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("wide"), **WIDE_HEADS)


def load(path: Path, **fields: Any) -> tuple[Vllm, EngineInfo]:
    engine = build(text_spec(path, engine="vllm", **fields))
    assert isinstance(engine, Vllm)
    return engine, engine.load()


def with_config(source: Path, folder: Path, **changes: Any) -> Path:
    """The model of `source` in another folder, its config changed."""
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_it_says_what_it_is(llama: Path) -> None:
    _, info = load(llama)

    assert info.continues and info.capacity == 5
    assert (info.device, info.dtype) == ("cpu", "float32")
    assert info.details == {
        "batching": "vllm",
        "vllm": "0.0-fake",
        "slots": 4,
        "context": 160,
        "prompt_bounds": {"tokens": 96, "bytes": 96 * 19},
        "accepted": {"vocabulary": 400, "chat": ()},
        "generation_config": {"applied": {}, "not_applied": {}},
    }


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
        "cuda",
    )

    assert found == {
        "model": str(tmp_path),
        "dtype": "bfloat16",
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_num_seqs": 9,
        "max_num_batched_tokens": 512,
        "gpu_memory_utilization": 0.4,
        "tensor_parallel_size": 2,
        "disable_log_stats": True,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "scheduling_policy": "priority",
        "enable_prefix_caching": True,
    }


def test_options_cannot_undo_what_keeps_us_safe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code: may not be set"):
        engine_arguments(spec(tmp_path, options={"trust_remote_code": True}), tmp_path, "cpu")


@pytest.mark.parametrize(
    ("kind", "dtype", "config", "given"),
    [
        ("cpu", "auto", {}, "float32"),
        ("cpu", "bfloat16", {}, "bfloat16"),
        ("cpu", "auto", {"quantization_config": {"quant_method": "awq"}}, "auto"),
        ("cuda", "auto", {}, "auto"),
    ],
)
def test_what_a_cpu_computes_in_is_float32_unless_said_otherwise(
    llama: Path, tmp_path: Path, kind: str, dtype: str, config: dict[str, Any], given: str
) -> None:
    path = with_config(llama, tmp_path, **config)

    assert engine_arguments(spec(path, dtype=dtype), path, kind)["dtype"] == given


def test_the_number_format_it_tells_is_vllm_s(llama: Path) -> None:
    assert load(llama, dtype="bfloat16")[1].dtype == "bfloat16"


LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("config", "options", "context"),
    [
        ({"max_position_embeddings": 100}, {}, 100),
        ({}, {"max_model_len": 50}, 50),
        ({"max_position_embeddings": 64, "rope_parameters": LINEAR}, {}, 160),
        ({"max_position_embeddings": 64, "rope_parameters": YARN}, {}, 64),
    ],
)
def test_the_context_is_vllm_s(
    llama: Path, tmp_path: Path, config: dict[str, Any], options: dict[str, Any], context: int
) -> None:
    _, info = load(with_config(llama, tmp_path, **config), options=options)

    assert info.details["context"] == context


def test_a_tokenizer_may_bound_the_context(llama: Path, tmp_path: Path) -> None:
    path = with_config(llama, tmp_path)
    told = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(told | {"model_max_length": 30}))

    assert load(path)[1].details["context"] == 30


def test_a_prompt_that_is_too_long_for_vllm_is_refused_as_one(llama: Path) -> None:
    engine, _ = load(llama, options={"max_model_len": 20})

    with pytest.raises(InputRefused) as refusal:
        engine.admit(Work("a", "The quick brown fox jumps. " * 5, {}, seed=1))
    assert refusal.value.code == "prompt_too_long"


def arguments_of(engine: Vllm) -> fake_vllm.EngineArgs:
    found: fake_vllm.EngineArgs = engine._engine.args
    return found


def test_on_a_cpu_it_takes_what_its_texts_need_and_not_most_of_the_memory(llama: Path) -> None:
    small = arguments_of(load(llama)[0]).kv_cache_memory_bytes
    many = arguments_of(load(llama, batch=Batch(max_size=4096))[0]).kv_cache_memory_bytes

    # 160 tokens in blocks of 128 and one to spare, two layers, keys and values of 32 numbers.
    assert many == 4096 * 384 * 2 * 2 * 32 * 4
    assert small == 256 * 2**20


def test_the_cache_leaves_half_of_the_free_memory(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 100 * 2**20

    monkeypatch.setattr(psutil, "virtual_memory", Memory)

    assert arguments_of(load(llama)[0]).kv_cache_memory_bytes == 50 * 2**20


@pytest.mark.parametrize(
    ("fields", "space", "share", "size"),
    [
        ({"memory_share": 0.5}, "", 0.5, None),
        ({"options": {"gpu_memory_utilization": 0.3}}, "", 0.3, None),
        ({"options": {"kv_cache_memory_bytes": 2**20}}, "", 0.92, 2**20),
        ({}, "2", 0.92, None),
    ],
)
def test_memory_that_is_given_is_what_it_takes(
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    space: str,
    share: float,
    size: int | None,
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", space)
    monkeypatch.setattr(fake_vllm, "free_share", 1.0)
    found = arguments_of(load(llama, **fields)[0])

    assert (found.gpu_memory_utilization, found.kv_cache_memory_bytes) == (share, size)


def test_on_a_gpu_vllm_s_own_share_is_taken(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "cuda")
    monkeypatch.setattr(fake_vllm, "free_share", 1.0)

    assert arguments_of(load(llama, device="cuda:0")[0]).kv_cache_memory_bytes is None


def test_too_little_memory_is_told_with_the_remedy_and_always_in_the_same_words(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for free in (0.31, 0.32):
        monkeypatch.setattr(fake_vllm, "free_share", free)
        with pytest.raises(ConfigError, match="smaller `memory_share`") as refusal:
            load(llama, memory_share=0.5)
        said.append(refusal.value.detail)

    assert said[0] == said[1]


@pytest.mark.parametrize("options", [{"no_such_argument": 1}, {"gpu_memory_utilization": 1.5}])
def test_what_vllm_cannot_serve_is_a_config_error(llama: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="vLLM cannot serve"):
        load(llama, options=options)


def test_a_longer_context_than_the_model_s_is_a_config_error(llama: Path) -> None:
    with pytest.raises(ConfigError, match="greater than the derived max_model_len"):
        load(llama, options={"max_model_len": 5000})


def test_a_model_that_vllm_loads_and_cannot_run_is_refused_at_load(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    narrow = save_causal(tmp_path_factory.mktemp("narrow"), **LLAMA)

    with pytest.raises(ConfigError, match=r"cannot make a token with it: .*head_dim=16"):
        load(narrow)


@pytest.mark.parametrize(
    ("device", "kind", "said"),
    [
        ("cuda:0", "cpu", "device: cuda:0: the vLLM in this environment computes on cpu"),
        (["cuda:0", "cuda:1"], "cpu", "computes on cpu"),
        ("cpu", "cuda", "device: cpu: the vLLM in this environment computes on cuda"),
    ],
)
def test_a_device_that_this_vllm_does_not_serve_is_refused(
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str | list[str],
    kind: str,
    said: str,
) -> None:
    install(monkeypatch, kind)

    with pytest.raises(ConfigError, match=said):
        load(llama, device=device)


@pytest.mark.parametrize(("kind", "device"), [("cpu", "cpu"), ("cuda", "cuda:0")])
def test_auto_is_what_vllm_computes_on(
    llama: Path, monkeypatch: pytest.MonkeyPatch, kind: str, device: str
) -> None:
    install(monkeypatch, kind)
    monkeypatch.setattr(fake_vllm, "free_share", 1.0)

    assert load(llama, device="auto")[1].device == device


def test_without_vllm_it_says_what_to_do(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="name that interpreter under `python`"):
        load(llama)


def test_a_vllm_that_has_other_names_is_refused_with_the_version_to_install(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["vllm.exceptions"], "VLLMClientError")
    with pytest.raises(ConfigError, match=r"vLLM 0.0-fake .*VLLMClientError.* install 0.32"):
        load(llama)


def test_it_reports_to_nobody_and_fetches_nothing(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VLLM_NO_USAGE_STATS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    load(llama)

    names = ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    assert [os.environ[name] for name in names] == ["1"] * 4
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_an_operator_s_own_settings_of_vllm_stay(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    load(llama)

    assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"


def test_vllm_is_shown_the_devices_that_are_meant(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "cuda")
    monkeypatch.setattr(fake_vllm, "free_share", 1.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    load(llama, device=["cuda:2", "cuda:3"])

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
