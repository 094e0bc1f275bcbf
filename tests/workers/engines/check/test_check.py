"""A directory is looked at, tried and compared, whichever engine takes it."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.layered_layouts import TASKED
from tests.sentence_layouts import change, save_transformer, words
from tests.tiny_models import LLAMA, save_causal
from tests.workers.engines.pipeline.test_engine import image_classification
from workers.engines.check.__main__ import report


def checked(path: Path, **options: Any) -> dict[str, Any]:
    usual = {"engine": None, "task": None, "device": "cpu", "dtype": "auto", "against": True}
    return report(argparse.Namespace(path=str(path), **(usual | options)))


def ranker(folder: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    save_transformer(folder, kind=kind, num_labels=1)


def generator(folder: Path) -> None:
    save_causal(folder, **LLAMA)


MODELS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a plain encoder": (save_transformer, "embedding", "packed"),
    "sparse vectors": (TASKED["splade_max"], "embedding", "packed"),
    "ranking": (ranker, "ranking", "packed"),
    "texts": (generator, "text-generation", "packed"),
    "images": (image_classification, "pipeline", "stacked, inputs of one shape"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_directory_is_tried_and_compared(name: str, tmp_path: Path) -> None:
    make, engine, batching = MODELS[name]
    make(tmp_path)
    (tmp_path / "README.md").write_text("a card")

    told = checked(tmp_path)

    assert (told["engine"], told["batching"], told["problem"]) == (engine, batching, None)
    assert told["against"]["same"], told["against"]
    assert "config.json" in told["files"]["read"] and "README.md" in told["files"]["left_alone"]
    assert told["memory"]["needed"] > told["memory"]["weights"] > 1000


def test_another_engine_may_be_tried(tmp_path: Path) -> None:
    ranker(tmp_path)

    told = checked(tmp_path, task="text-classification")

    assert (told["engine"], told["problem"]) == ("pipeline", None)
    assert told["against"]["same"]


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")


def unknown_family(folder: Path) -> None:
    save_transformer(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "brand_new"}))


def no_tokenizer(folder: Path) -> None:
    save_transformer(folder, tokenizer=words())
    (folder / "tokenizer.json").unlink()


def pickles(folder: Path) -> None:
    save_transformer(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def code_of_its_own(folder: Path) -> None:
    save_transformer(folder)
    change(folder / "config.json", model_type="new", auto_map={"AutoConfig": "own.Config"})


def no_family(folder: Path) -> None:
    save_transformer(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": None}))


def cut_off(folder: Path) -> None:
    save_transformer(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def pointers(folder: Path) -> None:
    TASKED["splade_max"](folder)
    for file in folder.rglob("model.safetensors"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def of_a_cache(folder: Path) -> None:
    save_transformer(folder / "snapshots" / "1a2b")


def folder_of_models(folder: Path) -> None:
    save_transformer(folder / "tiny")


def weights_alone(folder: Path) -> None:
    save_transformer(folder)
    (folder / "config.json").unlink()


def other_shapes(folder: Path) -> None:
    save_transformer(folder, tokenizer=words())
    change(folder / "config.json", intermediate_size=48)


def gguf(folder: Path) -> None:
    (folder / "model-Q4.gguf").write_bytes(b"GGUF")


def consolidated(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"x" * 2000)
    (folder / "params.json").write_text("{}")


def nothing(folder: Path) -> None:
    """An empty directory."""


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (code_of_its_own, "names code of its own (auto_map) for an architecture"),
        (no_family, "names no model_type"),
        (cut_off, "model.safetensors was cut off: it has "),
        (pointers, "is a Git LFS pointer; run `git lfs install`"),
        (gguf, "GGUF, the format of llama.cpp alone"),
        (consolidated, "the layout of Mistral's own programs"),
        (nothing, "is empty"),
        (of_a_cache, "/snapshots/1a2b"),
        (folder_of_models, "has no config.json; name the directory that has one: "),
        (weights_alone, "has no config.json; fetch it with the weights"),
        (other_shapes, "weights of other shapes than its config.json describes, as "),
        (adapter, "is an adapter of org/base; check the base model's directory"),
        (unknown_family, "model_type 'brand_new', which transformers"),
        (no_tokenizer, "lacks its tokenizer: tokenizer_config.json alone holds no vocabulary"),
        (pickles, "Pickled weights are never loaded: pytorch_model.bin"),
    ],
)
def test_what_cannot_be_served_says_why(make: Any, complaint: str, tmp_path: Path) -> None:
    make(tmp_path)

    assert complaint in checked(tmp_path)["problem"]
