"""Says what a directory holds and which engine takes it, from its files alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from shared.domain.errors import ConfigError
from workers.engines.loading.fit import header, weight_bytes
from workers.engines.loading.foreign_files import refuse_foreign, refuse_pointers
from workers.engines.loading.local_model import check_directory, read_json
from workers.engines.loading.text_part import several_senses
from workers.engines.pipeline.model import auto_class
from workers.engines.pipeline.tasks import TASKS

IMAGE_PROCESSORS = frozenset(IMAGE_PROCESSOR_MAPPING_NAMES)
"""Model types that have a processor of images."""
PLACE = "check"
"""Stands for the entry of a catalogue that there is none of yet."""
READ = (
    "config.json", "generation_config.json", "*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "*.model", "*.spm", "*.tiktoken", "*vocab*", "merges.txt", "chat_template.jinja", "chat_template.json",
    "modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "router_config.json",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
"""Files that an engine reads, where its kind of model has them."""
ENDINGS = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "ranking",
    "ForMaskedLM": "embedding",
    "ForPreTraining": "embedding",
    "Model": "embedding",
}
"""Engines by what an architecture's name ends with; what no engine of its own takes goes to a pipeline."""
FIRST = (
    "translation",
    "automatic-speech-recognition",
    "image-classification",
    "audio-classification",
)
"""Tasks that are tried before others that take the same architecture."""


@dataclass(frozen=True, slots=True)
class Found:
    """`kind` in words; `engine` with its `options`. `read` and `left` are files by name.

    `weights` are bytes in float32.
    """

    kind: str
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    weights: int = 0


def look_at(path: Path) -> Found:
    """What a directory holds. Raises `ConfigError` with the reason why no engine takes it."""
    if not path.is_dir():
        what = "is a file; name the directory that it is in" if path.is_file() else "is not there"
        raise ConfigError(f"{PLACE}: {path} {what}")
    if not any(path.iterdir()):
        raise ConfigError(f"{PLACE}: {path} is empty")
    if not (path / "modules.json").exists():
        refuse_foreign(path, PLACE)
    kind, engine, options = _engine(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    read = [file for file in files if _is_read(file, path)]
    refuse_pointers(path, read, PLACE)
    weights = sum(
        weight_bytes(header(file, PLACE), 4) for file in read if file.suffix == ".safetensors"
    )
    names = [str(file.relative_to(path)) for file in read]
    left = [str(file.relative_to(path)) for file in files if file not in read]
    return Found(kind, engine, options, names, left, weights)


def _is_read(file: Path, path: Path) -> bool:
    inside = file.parent == path or (path / "modules.json").exists()
    return inside and any(file.match(pattern) for pattern in READ)


def _engine(path: Path) -> tuple[str, str, dict[str, Any]]:
    settings = read_json(path / "config_sentence_transformers.json", PLACE)
    if (path / "modules.json").exists():
        kind = settings.get("model_type", "SentenceTransformer")
        engine = "ranking" if kind == "CrossEncoder" else "embedding"
        return f"{kind} of sentence-transformers", engine, {}
    if (path / "adapter_config.json").exists():
        base = read_json(path / "adapter_config.json", PLACE).get("base_model_name_or_path")
        raise ConfigError(
            f"{PLACE}: {path} is an adapter of {base or 'a base model'}; check the base model's directory,"
            " and give the adapter an entry of the catalogue with base and adapter"
        )
    check_directory(path, PLACE)
    config = read_json(path / "config.json", PLACE)
    family, names = config.get("model_type"), config.get("architectures") or []
    if not family:
        raise ConfigError(f"{PLACE}: {path / 'config.json'} names no model_type")
    if family not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"{PLACE}: {path / 'config.json'} names the model_type {family!r}, which transformers"
            f" {transformers.__version__} does not have"
        )
    name = str(names[0]) if isinstance(names, list) and names else ""
    task = _task(path, name)
    engine = next((engine for ending, engine in ENDINGS.items() if name.endswith(ending)), "")
    if name.endswith(("ForMaskedLM", "ForPreTraining", "Model")) and task not in ("", "fill-mask"):
        engine = ""  # a body of images or sounds, such as of image-feature-extraction
    if engine:
        return f"{name} of transformers", engine, {}
    if task:
        return f"{name} of transformers", "pipeline", {"task": task}
    known = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
    if several_senses(known) == name:
        return f"the language part of {name} of transformers", "text-generation", {}
    raise ConfigError(
        f"{PLACE}: {path / 'config.json'} names {name or 'no architecture'}, which no engine takes"
    )


def _task(path: Path, architecture: str) -> str:
    """The first task whose model for this configuration is of the architecture."""
    config = transformers.AutoConfig.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    )
    matched = []
    for name in (*FIRST, *TASKS):
        found = auto_class(TASKS[name], config)
        made = found._model_mapping[type(config)] if found is not None else ()
        classes = made if isinstance(made, tuple) else (made,)
        matched += [(name, found, one) for one in classes if one.__name__ == architecture]
    own = [name for name, found, _ in matched if found is not transformers.AutoModel]
    any_body = [name for name, found, one in matched if _is_body_for(name, one, config)]
    return next(iter((*own, *any_body)), "")


def _is_body_for(task: str, body: Any, config: Any) -> bool:
    """Whether a body without a head, which `AutoModel` has of everything, is one for images or sounds."""
    if task == "image-feature-extraction":
        return config.model_type in IMAGE_PROCESSORS
    return hasattr(body, "get_audio_features")
