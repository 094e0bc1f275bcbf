"""Adapters beside their base model in vLLM."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Adapter, Limits
from tests.engine_driver import drive
from tests.tiny_adapters import save_adapter
from tests.tiny_models import text_spec
from tests.workers.engines.vllm.asking import work
from workers.engines.registry import build
from workers.engines.vllm.adapter import Vllm


def test_adapters_are_served_beside_their_base(llama: Path, tmp_path: Path) -> None:
    limits = Limits(max_prompt_tokens=96, max_new_tokens=6)
    adapters = tuple(
        Adapter(name=name, path=path, limits=limits)
        for name, path in {
            "first": save_adapter(llama, tmp_path / "first", r=4),
            "second": save_adapter(llama, tmp_path / "second", r=12),
            "none": tmp_path,
        }.items()
    )
    engine = build(text_spec(llama, engine="vllm", adapters=adapters))
    assert isinstance(engine, Vllm)
    info = engine.load()
    asked = [work("base"), *(replace(work(name), adapter=name) for name in ("first", "second"))]

    ran = drive(engine, [replace(one, params={"max_new_tokens": 6}) for one in asked])

    assert len({ran.text(one.id) for one in asked}) == 3
    told = engine._engine.adapters
    assert [(one.lora_name, one.lora_int_id) for one in told] == [("first", 1), ("second", 2)]
    assert (engine._engine.args.max_loras, engine._engine.args.max_lora_rank) == (3, 16)
    assert {name: said["adapter_rank"] for name, said in info.adapters.items()} == {
        "first": 4,
        "second": 12,
    }
    assert "no adapter_config.json" in info.refused["none"]
    with pytest.raises(InputRefused, match="max_new_tokens must be from 1 to 6"):
        engine.admit(replace(work("long"), adapter="first"))


def test_places_that_give_base_rows_an_adapter_are_refused_on_a_cpu(
    llama: Path, tmp_path: Path
) -> None:
    """vLLM's kernels for CPUs take the last place's weights for rows without an adapter."""
    limits = Limits(max_prompt_tokens=96, max_new_tokens=6)
    adapter = Adapter(name="only", path=save_adapter(llama, tmp_path / "only", r=4), limits=limits)
    options = {"max_loras": 1}

    with pytest.raises(ConfigError, match=r"options\.max_loras: .* 1 adapters need 2"):
        build(text_spec(llama, engine="vllm", adapters=(adapter,), options=options)).load()
    build(text_spec(llama, engine="vllm", options=options)).load()
