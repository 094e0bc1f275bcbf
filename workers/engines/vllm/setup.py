"""vLLM for a catalogue entry: its switches, device, number format, context and memory.

Names and behaviour are those of vLLM 0.32.
"""

import importlib
import logging
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.loading.fit import cache_bytes
from workers.engines.loading.local_model import read_json
from workers.engines.texts.defaults import Defaults, defaults_of
from workers.engines.vllm.adapters import VllmAdapters
from workers.engines.vllm.structured import SETTINGS

SWITCHES = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""Nothing is reported to anybody, and nothing is fetched: the model lies on this machine."""
DEFAULTS = {
    # In this process, so that the host's watchdog, memory and death are the model's too.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Where the operator has not set them."""
MEMORY_OPTIONS = ("gpu_memory_utilization", "kv_cache_memory_bytes")
BLOCK = 128
"""Tokens of a block of vLLM's cache on a CPU."""
LEAST_CACHE = 256 * 2**20
"""Bytes of vLLM's cache at the least."""
LARGEST_SHARE = 0.5
"""Of the memory that is free, for the cache."""
PROBE_STEPS = 64
"""Of which one has to bring the probe's token."""

_log = logging.getLogger(__name__)


class Library:
    """As much of vLLM as is used here. Raises `ConfigError` where it cannot be had."""

    def __init__(self, where: str) -> None:
        try:
            self.vllm = importlib.import_module("vllm")
            self.version: str = self.vllm.__version__
            self.tokens_input = importlib.import_module("vllm.inputs").tokens_input
            self.platform = importlib.import_module("vllm.platforms").current_platform
            self.lora = importlib.import_module("vllm.lora.request").LoRARequest
            params = importlib.import_module("vllm.sampling_params")
            self.output_kinds = params.RequestOutputKind
            self.structured_outputs = params.StructuredOutputsParams
            exceptions = importlib.import_module("vllm.exceptions")
            self.error: type[Exception] = exceptions.VLLMError
            self.client_error: type[Exception] = exceptions.VLLMClientError
        except ImportError as error:
            raise ConfigError(
                f"{where}.engine: vLLM is not in this environment ({error}); install it into one of"
                " its own and name that interpreter under `python` (docs/placement.md)"
            ) from error
        except AttributeError as error:
            version = getattr(self.vllm, "__version__", "of an unknown version")
            raise ConfigError(
                f"{where}.engine: vLLM {version} is not one that this adapter can drive ({error});"
                " install 0.32 (docs/placement.md)"
            ) from error


def start(spec: ModelSpec, path: Path, adapters: VllmAdapters) -> tuple[Library, Any]:
    """vLLM's names, and its engine with the model loaded and a first token made. Raises `ConfigError`."""
    where = f"models.{spec.name}"
    set_environment(spec.device)
    library = Library(where)
    kind = str(library.platform.device_type)
    _check_device(spec, kind, where)
    faults = (AssertionError, OSError, RuntimeError, TypeError, ValueError, library.error)
    try:
        arguments = {**adapters.arguments, **engine_arguments(spec, path, kind)}
        adapters.check_places(arguments, kind, where)
        config = library.vllm.EngineArgs(**arguments).create_model_config()
        _bound(arguments, spec, config)
        if kind == "cpu" and "gpu_memory_utilization" not in arguments:
            _give_memory(arguments, path, config, where)
        engine = library.vllm.LLMEngine.from_engine_args(library.vllm.EngineArgs(**arguments))
    except faults as error:
        raise ConfigError(f"{where}: vLLM cannot serve {path}: {_message(error)}") from error
    try:
        make_one_token(library, engine)
    except Exception as error:
        raise ConfigError(
            f"{where}: vLLM loads {path}, but cannot make a token with it: {error}"
        ) from error
    adapters.hand_over(spec, library.lora, engine)
    return library, engine


def make_one_token(library: Library, engine: Any) -> None:
    """Have an idle vLLM make one token, end to end. Raises what it raises, `RuntimeError` when none comes."""
    params = library.vllm.SamplingParams(
        temperature=0.0, max_tokens=1, detokenize=False, output_kind=library.output_kinds.DELTA
    )
    engine.add_request("probe", library.tokens_input([0]), params)
    for _ in range(PROBE_STEPS):
        if any(output.finished for output in engine.step()):
            return
    raise RuntimeError(f"no token came in {PROBE_STEPS} steps")


def set_environment(device: str | list[str]) -> None:
    """Set what vLLM reads while it is imported."""
    os.environ.update(SWITCHES)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    names = [device] if isinstance(device, str) else device
    indices = [name.removeprefix("cuda:") for name in names if name.startswith("cuda:")]
    if indices:
        # vLLM counts the devices that it can see from 0, so it is shown those that are meant.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(indices)


def engine_arguments(spec: ModelSpec, path: Path, kind: str) -> dict[str, Any]:
    """Arguments of vLLM's `EngineArgs`: the catalogue entry, and over it what stands in `options`.

    `kind`: what vLLM computes on, "cpu" or "cuda".
    """
    found: dict[str, Any] = {
        "model": str(path),
        "dtype": _dtype(spec, path, kind),
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_num_seqs": spec.batch.max_size,
        "enable_prefix_caching": spec.batch.prefix_reuse,
        "tensor_parallel_size": 1 if isinstance(spec.device, str) else len(spec.device),
        "disable_log_stats": True,
        "structured_outputs_config": dict(SETTINGS),
        "scheduling_policy": "priority",
    }
    if spec.memory_share < 1:
        found["gpu_memory_utilization"] = spec.memory_share
    if spec.batch.token_budget != "auto":
        found["max_num_batched_tokens"] = spec.batch.token_budget
    for name in ("model", "load_format", "trust_remote_code"):
        if name in spec.options:
            raise ConfigError(f"models.{spec.name}.options.{name}: may not be set")
    return found | spec.options


def device_of(spec: ModelSpec, kind: str) -> str:
    """The devices as `GET /v1/models` names them."""
    if spec.device == "auto":
        return "cpu" if kind == "cpu" else f"{kind}:0"
    return spec.device if isinstance(spec.device, str) else ",".join(spec.device)


def _dtype(spec: ModelSpec, path: Path, kind: str) -> str:
    """On a CPU float32, where vLLM itself would take bfloat16.

    In bfloat16 a CPU's matrix product rounds differently with the number of rows, so a job's greedy text
    would depend on who shares its batch. Quantised weights are computed in what vLLM has kernels for.
    """
    config = read_json(path / "config.json", f"models.{spec.name}.path")
    if spec.dtype == "auto" and kind == "cpu" and not config.get("quantization_config"):
        return "float32"
    return spec.dtype


def _check_device(spec: ModelSpec, kind: str, where: str) -> None:
    names = [spec.device] if isinstance(spec.device, str) else spec.device
    wrong = [name for name in names if name != "auto" and name.partition(":")[0] != kind]
    if wrong:
        raise ConfigError(
            f"{where}.device: {', '.join(wrong)}: the vLLM in this environment computes on {kind};"
            f" install a build of it for that device, or set `device: auto` (docs/placement.md)"
        )


def _bound(arguments: dict[str, Any], spec: ModelSpec, config: Any) -> None:
    """No text is longer than the limits allow, nor than vLLM says that the model can."""
    limits = spec.limits
    longest = min(limits.max_prompt_tokens + limits.max_new_tokens, config.max_model_len)
    arguments.setdefault("max_model_len", longest)


def _give_memory(arguments: dict[str, Any], path: Path, config: Any, where: str) -> None:
    """Room in the cache for as many longest texts as run at once, half of what is free at most.

    Without it vLLM wants 0.92 of the machine's memory, and refuses to start where less is free.
    """
    if os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        return
    length = arguments["max_model_len"]
    length = length if isinstance(length, int) and length > 0 else config.max_model_len
    tokens = (math.ceil(length / BLOCK) + 1) * BLOCK * int(arguments["max_num_seqs"])
    wanted = cache_bytes(read_json(path / "config.json", where), tokens, config.dtype.itemsize)
    most = int(psutil.virtual_memory().available * LARGEST_SHARE)
    arguments.setdefault("kv_cache_memory_bytes", min(max(wanted, LEAST_CACHE), most))


def _message(error: Exception) -> str:
    """What vLLM said; of memory in words that stay the same from try to try, so that they are logged once."""
    said = str(error)
    if "memory" not in said.lower():
        return said
    _log.info("vLLM: %s", said)
    return (
        "it wants more memory than is free, by default 0.92 of the device's; give this model a"
        " smaller `memory_share`, such as 0.5, or bound its cache by"
        " `options: {kv_cache_memory_bytes: ...}`, or lower `batch.max_size` and `limits`"
    )


def own_settings(path: Path, tokenizer: Any, where: str) -> tuple[frozenset[int], int, Defaults]:
    """The tokens that end a model's texts, the size of its vocabulary, and what its own settings change.

    Raises `ConfigError` with the name of what cannot be honoured: by vLLM's parameters not even what the
    engine text-generation can.
    """
    config = read_json(path / "config.json", where)
    generation = read_json(path / "generation_config.json", where)
    text = config.get("text_config") or config
    found = (generation.get("eos_token_id"), text.get("eos_token_id"), tokenizer.eos_token_id)
    ids = [one for some in found for one in (some if isinstance(some, list) else [some])]
    vocabulary = int(text.get("vocab_size") or len(tokenizer))
    # One that the vocabulary lacks ends no text, and vLLM would look for its score.
    ends = frozenset(one for one in ids if one is not None and 0 <= one < vocabulary)
    made = importlib.import_module("transformers").GenerationConfig.from_dict(generation)
    defaults = defaults_of(SimpleNamespace(generation_config=made), ends, vocabulary, where)
    if defaults.rules is not None:
        names = ", ".join(sorted(defaults.rules.settings))
        raise ConfigError(
            f"{where}: generation_config.json sets {names}, which this engine cannot do: serve the model with"
            " engine: text-generation, or take it out to have the model's plain texts"
        )
    return ends, vocabulary, defaults
