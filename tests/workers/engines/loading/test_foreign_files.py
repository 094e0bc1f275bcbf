"""A directory that cannot be served says why, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.domain.errors import ConfigError
from workers.engines.loading.foreign_files import refuse_foreign, refuse_without_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"


def write(folder: Path, *names: str, content: bytes = b"{}") -> None:
    for name in names:
        (folder / name).write_bytes(content)


DIRECTORIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "Git LFS pointers": (
        lambda path: write(path, "model.safetensors", "tokenizer.json", content=POINTER),
        "model.safetensors, tokenizer.json is a Git LFS pointer; run `git lfs install`",
    ),
    "Mistral's layout": (
        lambda path: write(path, "consolidated.safetensors", "params.json", "config.json"),
        "consolidated.safetensors, the layout of Mistral's own programs; fetch .*config.json",
    ),
    "GGUF": (
        lambda path: write(path, "m.Q4.gguf"),
        "GGUF, the format of llama.cpp alone.*m.Q4.gguf",
    ),
    "ONNX": (lambda path: write(path, "model.onnx", "config.json"), "in ONNX alone"),
    "TensorFlow": (lambda path: write(path, "tf_model.h5", "config.json"), "in TensorFlow alone"),
    "pickles": (
        lambda path: write(path, "pytorch_model.bin", "config.json"),
        "Pickled weights are never loaded: pytorch_model.bin.*save_pretrained",
    ),
    "other names": (
        lambda path: write(path, "weights.safetensors", "config.json"),
        r"under other names \(weights.safetensors\); transformers reads model.safetensors",
    ),
    "diffusers": (lambda path: write(path, "model_index.json"), "a pipeline of diffusers"),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_what_cannot_be_read_is_refused_with_the_remedy(name: str, tmp_path: Path) -> None:
    make, complaint = DIRECTORIES[name]
    make(tmp_path)

    with pytest.raises(ConfigError, match=complaint):
        refuse_foreign(tmp_path, "models.m.path")


def test_safetensors_beside_other_formats_pass(tmp_path: Path) -> None:
    write(
        tmp_path,
        "model.safetensors",
        "model.onnx",
        "pytorch_model.bin",
        "m.gguf",
        content=b"x" * 2000,
    )

    refuse_foreign(tmp_path, "models.m.path")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"Pickled|ONNX"):
        refuse_foreign(tmp_path, "models.m.path")


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks its tokenizer; fetch tokenizer\.json"):
        refuse_without_tokenizer(tmp_path, "", "models.m.path")
    write(tmp_path, "tokenizer_config.json")
    with pytest.raises(ConfigError, match="alone holds no vocabulary"):
        refuse_without_tokenizer(tmp_path, "BertTokenizer", "models.m.path")

    refuse_without_tokenizer(tmp_path, "ByT5Tokenizer", "models.m.path")
    write(tmp_path, "vocab.txt")
    refuse_without_tokenizer(tmp_path, "BertTokenizer", "models.m.path")
