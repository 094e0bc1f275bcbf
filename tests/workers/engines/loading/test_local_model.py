"""Only safetensors without code are loaded, whichever engine asks."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from tests.tiny_models import embedding_spec, text_spec
from workers.engines.loading.local_model import trusted_directory
from workers.engines.registry import build


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    """A model directory to spoil."""
    return Path(shutil.copytree(llama, tmp_path / "model"))


def complaint(path: Path | None) -> str:
    with pytest.raises(ConfigError, match=r"models\.m\.path") as error:
        trusted_directory(ModelSpec(name="m", engine="text-generation", path=path))
    return error.value.detail


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_good_directory_is_taken(model: Path) -> None:
    spec = ModelSpec(name="m", engine="text-generation", path=model)

    assert trusted_directory(spec) == model


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in complaint(tmp_path / "gone")
    assert "needs a local model directory" in complaint(None)
    assert "no config.json" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_unread(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)

    assert f"Pickled weights are never loaded: {name}" in complaint(model)


def test_pickled_weights_beside_safetensors_are_not_opened(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "pytorch_model.bin").write_bytes(b"no weights at all")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))

    assert build(text_spec(model)).load().capacity


def test_an_index_may_not_lead_to_pickles_or_elsewhere(model: Path) -> None:
    (model / "model.safetensors").rename(model / "part-1.safetensors")
    index = model / "model.safetensors.index.json"

    index.write_text(json.dumps({"weight_map": {"a": "part-1.bin"}}))
    assert "'part-1.bin', which is no safetensors" in complaint(model)
    index.write_text(json.dumps({"weight_map": {"a": "../part-1.safetensors"}}))
    assert "which is no safetensors" in complaint(model)
    index.write_text(json.dumps({"weight_map": {"a": "part-2.safetensors"}}))
    assert "lacks the shard part-2.safetensors" in complaint(model)
    index.write_text("{}")
    assert "no weight_map" in complaint(model)


AUTO_MAP = {"AutoModelForCausalLM": "modeling.Mine"}


def test_code_for_an_architecture_that_transformers_does_not_have_is_refused(model: Path) -> None:
    edit(model / "config.json", auto_map=AUTO_MAP, architectures=["MineForCausalLM"])
    assert "remote code is never run" in complaint(model)

    edit(model / "config.json", architectures=None)
    assert "remote code is never run" in complaint(model)

    edit(model / "config.json", architectures=["LlamaForCausalLM"], model_type="mine")
    assert "remote code is never run" in complaint(model)


def test_code_for_a_tokenizer_that_transformers_does_not_have_is_refused(model: Path) -> None:
    edit(model / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class="MyTokenizer")

    assert "remote code is never run" in complaint(model)


def test_code_beside_a_native_architecture_is_left_alone_and_said_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(model / "config.json", auto_map=AUTO_MAP)
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Mine", None]})
    (model / "modeling.py").write_text("raise SystemExit('this was run')")
    (model / "tokenization.py").write_text("raise SystemExit('this was run')")

    assert build(text_spec(model)).load().capacity
    assert len([r for r in caplog.records if "is not run" in r.message]) == 1


def test_code_in_a_part_of_a_model_is_refused(model: Path) -> None:
    edit(model / "config.json", text_config={"auto_map": {"AutoConfig": "x.Y"}})

    assert "remote code is never run" in complaint(model)


def test_an_adapter_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')

    assert "is an adapter" in complaint(model)


def test_a_config_that_cannot_be_read_is_named(model: Path) -> None:
    (model / "config.json").write_text("{")

    assert "cannot read" in complaint(model)
    assert "config.json" in complaint(model)


@pytest.mark.parametrize("spec", [text_spec, embedding_spec])
def test_a_model_that_transformers_does_not_know_is_a_matter_of_configuration(
    model: Path, spec: Any
) -> None:
    edit(model / "config.json", model_type="nonsense", architectures=["Nonsense"])

    with pytest.raises(ConfigError, match=r"models\..*\.path: cannot load"):
        build(spec(model)).load()


def test_broken_weights_are_a_matter_of_configuration(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"nonsense")

    with pytest.raises(ConfigError, match="cannot load"):
        build(text_spec(model)).load()


def test_lacking_weights_are_a_matter_of_configuration(model: Path, bert: Path) -> None:
    shutil.copy(bert / "model.safetensors", model / "model.safetensors")

    with pytest.raises(ConfigError, match="lacks weights"):
        build(text_spec(model)).load()
