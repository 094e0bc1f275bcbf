"""Compares an engine's output with what the library computes that defines the model's format."""

import importlib
import importlib.metadata
import importlib.util
import math
from pathlib import Path
from typing import Any

import torch
import transformers

from shared.domain.errors import ConfigError
from workers.engines.check.directory import Found
from workers.engines.check.trial import NEW_TOKENS
from workers.engines.pipeline.media import data_of, jsonable, read_image, read_sound
from workers.engines.pipeline.tasks import TASKS

CLOSE = 0.9999
"""Cosine of vectors that are taken for the same."""
SCORES = 1e-3
"""Largest difference of scores that are taken for the same."""


def compare(path: Path, found: Found, content: Any, params: dict[str, Any], output: Any) -> Any:
    """{library, same, difference}: how far the output is from the library's, in words.

    Raises `ConfigError` where the library is not installed.
    """
    match found.engine:
        case "embedding":
            return _embedding(path, content, output)
        case "ranking":
            return _ranking(path, content, output)
        case "text-generation":
            return _generation(path, content, output)
        case _:
            return _pipeline(path, found, content, params, output)


def _embedding(path: Path, content: str, output: Any) -> dict[str, Any]:
    library = _sentence_transformers()
    kind = "SentenceTransformer"
    if (path / "config_sentence_transformers.json").exists():
        text = (path / "config_sentence_transformers.json").read_text("utf-8")
        named = ("SparseEncoder", "MultiVectorEncoder")
        kind = next((name for name in named if f'"{name}"' in text), kind)
    model = getattr(library, kind)(str(path), device="cpu", local_files_only=True)
    options = {"convert_to_sparse_tensor": False} if kind == "SparseEncoder" else {}
    right = torch.as_tensor(model.encode([content], show_progress_bar=False, **options)[0]).float()
    row = output["embeddings"][0]
    if isinstance(row, dict):
        ours = torch.zeros_like(right)
        ours[torch.tensor(row["indices"], dtype=torch.long)] = torch.tensor(row["values"])
    else:
        ours = torch.tensor(row)
    if ours.shape != right.shape:
        return _told(f"shape {list(ours.shape)}, not {list(right.shape)}", same=False)
    cosine = torch.cosine_similarity(ours.flatten(), right.flatten(), dim=0).item()
    lengths = f"length {ours.norm().item():.5g} and {right.norm().item():.5g}"
    near = math.isclose(ours.norm().item(), right.norm().item(), rel_tol=1e-3)
    return _told(f"cosine {cosine:.6f}, {lengths}", same=cosine > CLOSE and near)


def _ranking(path: Path, content: Any, output: Any) -> dict[str, Any]:
    model = _sentence_transformers().CrossEncoder(str(path), device="cpu", local_files_only=True)
    right = torch.as_tensor(model.predict(content, show_progress_bar=False)).float()
    ours = torch.tensor(output["scores"])
    most = (ours - right).abs().max().item() if ours.shape == right.shape else math.inf
    return _told(f"scores differ by at most {most:.2g}", same=most < SCORES)


def _generation(path: Path, content: str, output: Any) -> dict[str, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(path), local_files_only=True, use_safetensors=True
    ).eval()
    ids = tokenizer(content, return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0][ids.shape[1] :]
    right = tokenizer.decode(made, skip_special_tokens=True)
    # A text here never ends in half a character.
    same = output["text"].strip() == right.rstrip("\ufffd").strip()
    difference = "the same text" if same else f"{output['text']!r}, not {right!r}"
    return _told(difference, same=same, library="transformers")


def _pipeline(
    path: Path, found: Found, content: Any, params: dict[str, Any], output: Any
) -> dict[str, Any]:
    task = TASKS[found.options["task"]]
    if task.made_here:
        raise ConfigError(f"transformers {transformers.__version__} has no pipeline of {task.name}")
    pipe = transformers.pipeline(task.name, model=str(path), device="cpu")
    item: Any = content
    if task.medium == "image":
        item = read_image(data_of(content["image"], "image"))
    elif task.medium == "audio":
        item = read_sound(data_of(content["audio"], "audio"), 16_000)
    right = jsonable(pipe(item, **params))
    most = _apart(output, right)
    return _told(
        f"numbers differ by at most {most:.2g}", same=most < SCORES, library="transformers"
    )


def _apart(one: Any, other: Any) -> float:
    """The largest difference of numbers in the same places; infinite where anything else differs."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((_apart(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(_apart, one, other), default=0.0)
    if isinstance(one, int | float) and not isinstance(one, bool):
        return abs(float(one) - float(other))
    return 0.0 if one == other else math.inf


def _sentence_transformers() -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigError(
            "--against needs sentence-transformers: pip install sentence-transformers"
        )
    return importlib.import_module("sentence_transformers")


def _told(difference: str, *, same: bool, library: str = "sentence-transformers") -> dict[str, Any]:
    version = importlib.metadata.version(library)
    return {"library": f"{library} {version}", "same": same, "difference": difference}
