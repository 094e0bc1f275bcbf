"""Says in one sentence why a directory has no weights that can be read here, and what to do about it."""

from collections.abc import Iterable
from pathlib import Path

from shared.domain.errors import ConfigError

INDEX = "model.safetensors.index.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
LFS = b"version https://git-lfs.github.com/spec/"
SMALL = 1024
"""Bytes; a Git LFS pointer has less, whatever it points to."""
LARGE_FILES = ("*.safetensors", "tokenizer.json", "*.model")
"""Files that repositories keep in Git LFS."""
VOCABULARIES = (
    "tokenizer.json",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*vocab*",
    "merges.txt",
    "*.bpe",
    "*.codes",
)
"""Where a tokenizer's vocabulary lies."""
WITHOUT = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers of bytes or characters, which have none."""
OTHERS = {
    "*.onnx": "ONNX",
    "*.gguf": "GGUF, the format of llama.cpp",
    "*.h5": "TensorFlow",
    "*.msgpack": "Flax",
    "*.mlmodel": "Core ML",
    "openvino_model.xml": "OpenVINO",
}
BELOW = ("*/config.json", "snapshots/*/config.json", "models--*/snapshots/*/config.json")
"""Where models lie below a directory that is named in their place: in the cache of huggingface_hub, say."""
MEANT = 3
"""Directories that are named."""
WANTED = "model.safetensors, or model-00001-of-… with " + INDEX


def refuse_foreign(path: Path, where: str) -> None:
    """Raise `ConfigError` for a directory whose files are of another format, or not here at all."""
    if (path / "model_index.json").exists():
        raise ConfigError(
            f"{where}: {path} is a pipeline of diffusers, which no engine here serves"
        )
    refuse_pointers(path, [f for pattern in LARGE_FILES for f in path.glob(pattern)], where)
    if (path / "adapter_config.json").exists():
        return  # whoever serves adapters says more of them
    if any((path / name).exists() for name in ("model.safetensors", INDEX)):
        return
    if (path / "consolidated.safetensors").exists():
        raise ConfigError(
            f"{where}: {path} has consolidated.safetensors, the layout of Mistral's own programs; fetch the"
            f" files for transformers: config.json and {WANTED}"
        )
    loose = sorted(file.name for file in path.glob("*.safetensors"))
    if loose:
        raise ConfigError(
            f"{where}: {path} has weights under other names ({', '.join(loose[:3])}); transformers reads"
            f" {WANTED}"
        )
    pickled = sorted(file.name for file in path.iterdir() if file.suffix in PICKLED)
    if pickled and (path / "config.json").exists():
        raise ConfigError(
            f"{where}: {path} has no model.safetensors and no {INDEX}. Pickled weights are never loaded:"
            f" {', '.join(pickled[:3])}. Where you trust them, convert them once: load the model with"
            " transformers and save_pretrained it into a new directory"
        )
    for pattern, name in OTHERS.items():
        found = sorted(file.name for file in path.glob(pattern))
        if found:
            raise ConfigError(
                f"{where}: {path} has weights in {name} alone ({found[0]}), which is not read here; fetch the"
                f" model's safetensors: {WANTED}"
            )


def refuse_without_config(path: Path, where: str) -> None:
    """Raise `ConfigError` for a directory without config.json, with those below it that may be meant."""
    if (path / "config.json").is_file():
        return
    below = sorted(config.parent for pattern in BELOW for config in path.glob(pattern))
    meant = " or ".join(map(str, below[:MEANT]))
    remedy = f"name the directory that has one: {meant}" if below else "fetch it with the weights"
    raise ConfigError(f"{where}: {path} has no config.json; {remedy}")


def refuse_pointers(path: Path, files: Iterable[Path], where: str) -> None:
    """Raise `ConfigError` where one of a directory's files is what Git LFS leaves in a large file's place."""
    pointers = sorted(str(file.relative_to(path)) for file in files if _points(file))
    if pointers:
        raise ConfigError(
            f"{where}: {path} was cloned without its large files: {', '.join(pointers[:3])} is a Git LFS"
            " pointer; run `git lfs install` and `git lfs pull` in it"
        )


def refuse_without_tokenizer(path: Path, tokenizer_class: str, where: str) -> None:
    """Raise `ConfigError` for a text model's directory without what a tokenizer is read from.

    `tokenizer_class` is what its tokenizer_config.json names, if anything.
    """
    if tokenizer_class in WITHOUT or any(any(path.glob(name)) for name in VOCABULARIES):
        return
    half = (path / "tokenizer_config.json").exists()
    alone = ": tokenizer_config.json alone holds no vocabulary" if half else ""
    raise ConfigError(
        f"{where}: {path} lacks its tokenizer{alone}; fetch tokenizer.json (or tokenizer.model, vocab.txt,"
        " vocab.json and merges.txt) from where the model is from"
    )


def _points(file: Path) -> bool:
    try:
        if file.stat().st_size >= SMALL:
            return False
        with file.open("rb") as opened:
            return opened.read(len(LFS)) == LFS
    except OSError:
        return False
