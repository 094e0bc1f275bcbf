"""Loads a transformers pipeline from a directory: safetensors alone, no code of its own, nothing fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.pipelines import SUPPORTED_TASKS
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineIterator

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.file_outputs import PARAM
from shared.domain.models.catalog import ModelSpec
from workers.engines.faults import SHAPED_BY_INPUT, of_the_engine
from workers.engines.loading.device_map import fits_at_once
from workers.engines.loading.fit import needed
from workers.engines.loading.load_report import refuse_unread
from workers.engines.loading.local_model import check_directory, model_directory
from workers.engines.loading.placement import Placement, place
from workers.engines.loading.positions import longest_text
from workers.engines.loading.tokenizer_file import read_tokenizer
from workers.engines.pipeline.generation import TextToText
from workers.engines.pipeline.media import data_of, jsonable, read_image, read_sound, with_files
from workers.engines.pipeline.tasks import Task, find_task, given_params

FAULTS = (
    AttributeError, ImportError, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError,
)  # fmt: skip
RATE = 16_000
"""Samples a second, of a model that does not say."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input made ready: what the model takes, in one part or several, and how its output is read.

    Inputs with the same `forward` may share a pass. `files`: images and sounds of its output are to be files.
    """

    parts: list[dict[str, Any]]
    chunked: bool
    forward: dict[str, Any]
    after: dict[str, Any]
    files: bool = False


class Pipeline:
    """A loaded pipeline of one task."""

    def __init__(self, task: Task, pipe: Any, placement: Placement, spec: ModelSpec) -> None:
        self.task, self.placement = task, placement
        self._pipe = pipe
        self._most_new = spec.limits.max_new_tokens
        self._longest = _longest(pipe, spec)
        extractor = getattr(pipe, "feature_extractor", None)
        self.rate = int(getattr(extractor, "sampling_rate", None) or RATE)

    @property
    def labels(self) -> list[str]:
        """Names of the classes, of a task that has some."""
        named = getattr(self._pipe.model.config, "id2label", None) or {}
        if "classification" not in self.task.name and "detection" not in self.task.name:
            return []
        return [] if self.task.needed else [str(named[key]) for key in sorted(named)]

    def prepare(self, content: Any, params: dict[str, Any]) -> Prepared:
        """A job's input as the model takes it. Any thread may call it. Raises `InputRefused`."""
        given = self._params(params)
        files = bool(given.pop(PARAM, False))
        item, labels = self._item(content), given.get("candidate_labels")
        try:
            before, forward, after = self._pipe._sanitize_parameters(**given)
            if self.task.needed and self.task.medium == "text":
                before.pop("candidate_labels", None)
                found = self._pipe.preprocess(item, candidate_labels=labels, **before)
            else:
                found = self._pipe.preprocess(item, **before)
            chunked = isinstance(self._pipe, ChunkPipeline)
            parts = list(found) if chunked else [found]
        except InputRefused:
            raise
        except Exception as error:
            if of_the_engine(error) or not isinstance(error, SHAPED_BY_INPUT):
                raise
            raise InputRefused(f"The model's processor refuses this input: {error}") from None
        if not parts:
            raise InputRefused("There is nothing in this input.")
        for part in parts:
            self._check_length(part.get("input_ids"))
        return Prepared(parts, chunked, forward, after, files)

    def run(self, jobs: Sequence[Prepared]) -> list[list[Any]]:
        """What the model gives for each part of each job; parts of one shape share a pass."""
        forward = jobs[0].forward
        places = [(job, part) for job, one in enumerate(jobs) for part in range(len(one.parts))]
        groups: dict[Any, list[tuple[int, int]]] = {}
        for job, part in places:
            key = _shape(jobs[job].parts[part]) if self.task.batches else (job, part)
            groups.setdefault(key, []).append((job, part))
        found: dict[tuple[int, int], Any] = {}
        for group in groups.values():
            parts = [dict(jobs[job].parts[part]) for job, part in group]
            batch = parts[0] if len(parts) == 1 else _joined(parts)
            outputs = PipelineIterator([batch], self._pipe.forward, forward, len(parts))
            found.update(zip(group, list(outputs), strict=True))
        return [
            [found[job, part] for part in range(len(one.parts))] for job, one in enumerate(jobs)
        ]

    def read(self, job: Prepared, outputs: list[Any]) -> Any:
        """A job's output in JSON values, of what `run` gave for its parts."""
        for output in outputs if job.chunked else ():
            output.pop("is_last", None)
        found = self._pipe.postprocess(outputs if job.chunked else outputs[0], **job.after)
        return jsonable(with_files(found) if job.files else found)

    def _check_length(self, ids: Any) -> None:
        tokens = ids.shape[-1] if isinstance(ids, torch.Tensor) else 0
        if tokens > self._longest:
            raise InputRefused(
                f"The text has {tokens} tokens; this model takes {self._longest}.",
                code="prompt_too_long",
            )

    def _item(self, content: Any) -> Any:
        medium = self.task.medium
        if medium == "text":
            if not isinstance(content, str) or not content:
                raise InputRefused("The input must be a text.")
            return content
        if not isinstance(content, dict) or set(content) != {medium}:
            raise InputRefused(f'The input must be {{"{medium}": base64}}.')
        data = data_of(content[medium], medium)
        return read_image(data) if medium == "image" else read_sound(data, self.rate)

    def _params(self, params: dict[str, Any]) -> dict[str, Any]:
        """Params of a job as the pipeline names them. Raises `InputRefused` for another task's."""
        given = given_params(params)
        foreign = sorted(set(given) - self.task.params)
        if foreign:
            takes = ", ".join(sorted(self.task.params)) or "none"
            raise InputRefused(
                f"params: {', '.join(foreign)} is not of {self.task.name}, which takes: {takes}."
            )
        lacking = sorted(self.task.needed - set(given))
        if lacking:
            raise InputRefused(f"params: {self.task.name} needs {', '.join(lacking)}.")
        if self.task.name == "text-classification":
            given.setdefault("top_k", 1)  # without it the pipeline's answer has another form
        if not self.task.generates:
            return given
        wanted = given.pop("max_new_tokens", None)
        if wanted is not None and wanted > self._most_new:
            raise InputRefused(f"max_new_tokens: this model writes at most {self._most_new}.")
        if self.task.made_here:
            return {**given, "max_new_tokens": wanted or self._most_new}
        if self._pipe.model.can_generate():
            options = {"max_new_tokens": wanted or self._most_new}
            if "language" in given:
                options["language"] = given.pop("language")
            given["generate_kwargs"] = options
        elif "language" in given:
            raise InputRefused("params: this model knows one language, so there is none to choose.")
        return given


@torch.inference_mode()
def load_pipeline(spec: ModelSpec) -> Pipeline:
    """Read a model for its task. Raises `ConfigError` naming what cannot be served."""
    where = f"models.{spec.name}.path"
    task = find_task(spec)
    path = model_directory(spec)
    check_directory(path, where)
    placement = place(spec)
    if len(placement.devices) > 1:
        raise ConfigError(f"models.{spec.name}.device: this engine runs on one device")
    fits_at_once(needed(path, placement.dtype.itemsize, 0, where), placement, where)
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
        auto_model = auto_class(task, config)
        if auto_model is None:
            raise ConfigError(f"{where}: {path}: no model of {config.model_type} does {task.name}")
        model, report = auto_model.from_pretrained(
            str(path),
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
            # They are refused below, in words.
            ignore_mismatched_sizes=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        refuse_unread(model, report, path, where)
        pipe = _pipe(task, model.to(placement.device).eval(), path, placement, where)
    except FAULTS as error:
        raise ConfigError(f"{where}: cannot load {path} for {task.name}: {error}") from error
    return Pipeline(task, pipe, placement, spec)


def auto_class(task: Task, config: Any) -> Any:
    """The Auto class that has a model of this configuration for the task; None where none has."""
    if task.made_here:
        known: Sequence[Any] = (transformers.AutoModelForSeq2SeqLM,)
    else:
        known = [_class(one) for one in SUPPORTED_TASKS[task.name]["pt"]]
    return next((one for one in known if type(config) in one._model_mapping), None)


def _class(found: Any) -> Any:
    return getattr(transformers, found) if isinstance(found, str) else found


def _pipe(task: Task, model: Any, path: Path, placement: Placement, where: str) -> Any:
    given: dict[str, Any] = {}
    local = {"local_files_only": True, "trust_remote_code": False}
    if task.medium == "text" or (path / "tokenizer_config.json").exists():
        given["tokenizer"] = read_tokenizer(path, where)
    if task.made_here:
        return TextToText(task, model, given["tokenizer"])
    if task.medium == "image":
        given["image_processor"] = transformers.AutoImageProcessor.from_pretrained(
            str(path), **local
        )
    if task.medium == "audio":
        given["feature_extractor"] = transformers.AutoFeatureExtractor.from_pretrained(
            str(path), **local
        )
    return transformers.pipeline(
        task.name, model=model, device=placement.device, trust_remote_code=False, **given
    )


def _longest(pipe: Any, spec: ModelSpec) -> int:
    """Tokens of the longest text."""
    own = getattr(getattr(pipe, "tokenizer", None), "model_max_length", None)
    bounds = [spec.limits.max_prompt_tokens, own, longest_text(pipe.model)]
    return int(min(bound for bound in bounds if bound))


def _shape(part: dict[str, Any]) -> Any:
    """Parts of the same shape can be one batch."""
    return tuple(
        (name, tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__)
        for name, value in sorted(part.items())
    )


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Parts of one shape as a batch: tensors [1, …] to [n, …], and lists of all else."""
    return {
        name: torch.cat([part[name] for part in parts])
        if isinstance(value, torch.Tensor)
        else [part[name] for part in parts]
        for name, value in parts[0].items()
    }
