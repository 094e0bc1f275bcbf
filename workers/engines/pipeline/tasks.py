"""The tasks of transformers' pipelines that are served, and what each takes.

Inputs never reach transformers as it would take them: there a string may be an address or a file of this
machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec

Medium = Literal["text", "image", "audio"]


@dataclass(frozen=True, slots=True)
class Task:
    """`medium` is what its input holds. `params` are those that a job may give; `needed` it must.

    `batches`: inputs of one shape share a pass. `generates`: it writes text, token by token. `made_here`: by
    this project, since transformers' pipelines no longer have it.
    """

    name: str
    medium: Medium
    params: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    batches: bool = True
    generates: bool = False
    made_here: bool = False


def _task(name: str, medium: Medium, params: str = "", needed: str = "", **more: bool) -> Task:
    wanted = frozenset(needed.split())
    return Task(name, medium, frozenset(params.split()) | wanted, wanted, **more)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _task("text-classification", "text", "top_k function_to_apply"),
        _task("token-classification", "text", "aggregation_strategy", batches=False),
        _task("fill-mask", "text", "top_k"),
        _task("zero-shot-classification", "text", "hypothesis_template multi_label", "candidate_labels",
              batches=False),
        _task("translation", "text", "max_new_tokens prefix source_language target_language",
              generates=True, made_here=True),
        _task("summarization", "text", "max_new_tokens prefix", generates=True, made_here=True),
        _task("text2text-generation", "text", "max_new_tokens prefix", generates=True, made_here=True),
        _task("text-to-audio", "text", "files", batches=False),
        _task("image-classification", "image", "top_k function_to_apply"),
        _task("image-feature-extraction", "image"),
        _task("object-detection", "image", "threshold"),
        _task("image-segmentation", "image", "threshold files", batches=False),
        _task("depth-estimation", "image", "files"),
        _task("zero-shot-image-classification", "image", "hypothesis_template", "candidate_labels",
              batches=False),
        _task("zero-shot-object-detection", "image", "threshold top_k", "candidate_labels", batches=False),
        _task("automatic-speech-recognition", "audio",
              "return_timestamps chunk_length_s language max_new_tokens", generates=True),
        _task("audio-classification", "audio", "top_k function_to_apply"),
        _task("zero-shot-audio-classification", "audio", "hypothesis_template", "candidate_labels",
              batches=False),
    )
}  # fmt: skip
ELSEWHERE = {
    "text-generation": "engine: text-generation",
    "feature-extraction": "engine: embedding",
    "sentence-similarity": "engine: embedding",
    "text-ranking": "engine: ranking",
}


def find_task(spec: ModelSpec) -> Task:
    """The task that a catalogue entry names. Raises `ConfigError` for one that is not served."""
    where = f"models.{spec.name}.options"
    unknown = sorted(set(spec.options) - {"task"})
    if unknown:
        raise ConfigError(f"{where}: the pipeline engine has no option {', '.join(unknown)}")
    name = spec.options.get("task")
    if name is None:
        raise ConfigError(f"{where}: name a task, such as task: image-classification")
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    if isinstance(name, str) and name in ELSEWHERE:
        raise ConfigError(f"{where}.task: serve {name} with {ELSEWHERE[name]}")
    raise ConfigError(f"{where}.task: {name!r} is none of {', '.join(sorted(TASKS))}")


def given_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a job that were set."""
    return {name: value for name, value in params.items() if value is not None}
