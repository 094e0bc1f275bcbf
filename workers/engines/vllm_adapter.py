"""vLLM behind the engine protocol: it schedules and samples, this side checks, detokenises and ends texts.

Driven through `LLMEngine`'s step API (add_request, step, abort_request) in this process. vLLM pins
versions of torch and transformers of its own, so it lives in another environment: the catalogue's
`python` names that environment's interpreter, and the engine host runs there.
"""

import importlib
import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from shared.catalog import ModelSpec
from shared.errors import ConfigError, InputRefused
from workers.engines.base import Broke, EngineInfo, Finished, Piece, Step, Work
from workers.engines.faults import DeviceLost
from workers.engines.local_model import read_json, trusted_directory
from workers.engines.text_generation.detokenizer import Chunk, Detokenizer
from workers.engines.text_generation.door import Door
from workers.engines.text_generation.sequence import Sequence

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""Parameters that vLLM calls as we do."""


@dataclass(slots=True, eq=False)
class Text:
    """A job and the request that stands for it in vLLM; `ends` are tokens that end it."""

    sequence: Sequence
    request: str
    ends: frozenset[int]
    cached: int = 0
    said: list[Chunk] = field(default_factory=list)
    """What this step brought."""


class Vllm:
    """Any causal language model that vLLM serves, in a local directory.

    A text that an earlier attempt began is continued as a prompt. vLLM's random numbers do not depend
    on the position alone, so with a temperature the rest may differ from what the first attempt would
    have said; its seed is then another one.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._texts: dict[str, Text] = {}
        self._requests: dict[str, Text] = {}
        self._ended: dict[str, str] = {}
        """Jobs that an earlier attempt had finished, with the reason; they need no step."""
        self._numbers = count()

    def load(self) -> EngineInfo:
        where = f"models.{self._spec.name}"
        path = trusted_directory(self._spec)
        _show_devices(self._spec.device)
        # In this process, so that the host's watchdog, memory and death are the model's too.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        self._vllm = _import(where)
        context = self._context(path)
        arguments = engine_arguments(self._spec, path, context)
        try:
            args = self._vllm.EngineArgs(**arguments)
            self._engine = self._vllm.LLMEngine.from_engine_args(args)
        except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: vLLM cannot serve {path}: {error}") from error
        self._set_up_door(path, context)
        slots = self._spec.batch.max_size
        device = self._spec.device
        return EngineInfo(
            # A few more than run at once, so that a place that falls free is taken in the next step.
            capacity=slots + max(1, slots // 4),
            continues=True,
            device=device if isinstance(device, str) else ",".join(device),
            dtype=arguments["dtype"],
            details={
                "batching": "vllm",
                "vllm": self._vllm.__version__,
                "slots": slots,
                "prompt_bounds": msgspec.to_builtins(self._door.bounds),
            },
        )

    def admit(self, work: Work) -> None:
        if work.id in self._texts:
            raise InputRefused(f"The job {work.id} is here already.")
        if work.params.get("logprobs"):
            raise InputRefused("This model's engine, vLLM, tells no logprobs here.")
        sequence = self._door.admit(work)
        text = Text(sequence, f"{work.id}#{next(self._numbers)}", self._eos | sequence.ends)
        if sequence.ended is None:
            prompt: dict[str, Any] = {"prompt_token_ids": list(sequence.tokens)}
            if work.salt:
                # What vLLM's prefix cache holds is found by the same tenant alone.
                prompt["cache_salt"] = work.salt
            try:
                self._engine.add_request(text.request, prompt, self._sampling(text))
            except (TypeError, ValueError) as error:
                raise InputRefused(f"vLLM refuses this job: {error}") from None
            self._requests[text.request] = text
        else:
            self._ended[work.id] = sequence.ended
        self._texts[work.id] = text

    def cancel(self, job_id: str) -> None:
        text = self._texts.get(job_id)
        if text is not None:
            self._let_go(text, abort=True)

    def step(self) -> Step:
        """One step of vLLM: a token or more for each text that runs."""
        step = Step()
        for job_id, reason in list(self._ended.items()):
            self._finish(self._texts[job_id], reason, step, abort=False)
        if not self._requests:
            return step
        try:
            outputs = self._engine.step()
        except Exception as error:
            if type(error).__name__ == "EngineDeadError":
                raise DeviceLost(f"vLLM's engine is dead: {error}", blames=True) from error
            raise
        shares = {
            self._requests[output.request_id].sequence.id: max(1, len(output.outputs[0].token_ids))
            for output in outputs
            if output.request_id in self._requests
        }
        step = Step(step.pieces, step.outcomes, len(outputs), shares)
        for output in outputs:
            text = self._requests.get(output.request_id)
            if text is not None:
                text.cached = output.num_cached_tokens or 0
                self._hear(text, output, step)
        return step

    def pending(self) -> int:
        return len(self._texts)

    def linger(self) -> float:
        """A newcomer joins at the next token anyway."""
        return 0.0

    def _hear(self, text: Text, output: Any, step: Step) -> None:
        """Take in what vLLM says of a text: new tokens, and perhaps its end."""
        [completion] = output.outputs
        sequence = text.sequence
        sequence.largest_batch = max(sequence.largest_batch, step.batch_size)
        reason: str | None = None
        for token in completion.token_ids:
            reason = self._take(text, token)
            if reason is not None:
                break
        if reason is None and output.finished:
            if completion.finish_reason not in ("stop", "length"):
                self._tell(text, step)
                self._let_go(text, abort=False)
                message = f"vLLM ended this job: {completion.finish_reason}"
                step.outcomes.append(Broke(sequence.id, "engine_error", message))
                return
            reason = "stop" if self._flush(text) else completion.finish_reason
        self._tell(text, step)
        if reason is not None:
            self._finish(text, reason, step, abort=not output.finished)

    def _take(self, text: Text, token: int) -> str | None:
        """One token more. Returns why the text ends with it, None when it goes on."""
        sequence = text.sequence
        if token in text.ends:
            self._flush(text)
            return "stop"
        heard = self._detokenizer.push(sequence.spoken, token, sequence.stops)
        sequence.tokens.append(token)
        sequence.spoken = heard.spoken
        text.said.append(heard.chunk)
        if heard.stopped:
            return "stop"
        if sequence.generated >= sequence.max_new_tokens:
            return "stop" if self._flush(text) else "length"
        return None

    def _flush(self, text: Text) -> bool:
        """Say what was held back. True when a stop string ended it."""
        rest = self._detokenizer.flush(text.sequence.spoken, text.sequence.stops)
        text.sequence.spoken = rest.spoken
        text.said.append(rest.chunk)
        return rest.stopped

    def _tell(self, text: Text, step: Step) -> None:
        said = "".join(chunk.text for chunk in text.said)
        if said:
            token_ids = tuple(token for chunk in text.said for token in chunk.token_ids)
            text.sequence.text.append(said)
            step.pieces.append(Piece(text.sequence.id, said, token_ids))
            text.said.clear()

    def _finish(self, text: Text, reason: str, step: Step, *, abort: bool) -> None:
        """The end token is not counted: the completion's tokens are those of its text."""
        self._let_go(text, abort=abort)
        sequence = text.sequence
        usage = {
            "prompt_tokens": sequence.prompt_length,
            "completion_tokens": sequence.generated,
            "total_tokens": len(sequence.tokens),
            "cached_tokens": min(text.cached, sequence.prompt_length),
            "batch_size": max(1, sequence.largest_batch),
        }
        output = {"text": "".join(sequence.text), "finish_reason": reason}
        step.outcomes.append(Finished(sequence.id, output, usage))

    def _let_go(self, text: Text, *, abort: bool) -> None:
        del self._texts[text.sequence.id]
        self._ended.pop(text.sequence.id, None)
        if self._requests.pop(text.request, None) is not None and abort:
            self._engine.abort_request([text.request])

    def _sampling(self, text: Text) -> Any:
        """vLLM ends on tokens and length; stop strings are found on this side."""
        sequence = text.sequence
        given = {name: getattr(sequence.sampling, name) for name in SAMPLING}
        kinds = importlib.import_module("vllm.sampling_params").RequestOutputKind
        return self._vllm.SamplingParams(
            **given,
            seed=(sequence.sampling.seed + sequence.generated) % 2**63,
            max_tokens=sequence.max_new_tokens - sequence.generated,
            stop_token_ids=sorted(text.ends),
            detokenize=False,
            output_kind=kinds.DELTA,
        )

    def _context(self, path: Path) -> int | None:
        config = read_json(path / "config.json", f"models.{self._spec.name}.path")
        found = (config.get("text_config") or config).get("max_position_embeddings")
        return int(found) if found else None

    def _set_up_door(self, path: Path, context: int | None) -> None:
        transformers = importlib.import_module("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
        where = f"models.{self._spec.name}.path"
        config = read_json(path / "config.json", where)
        generation = read_json(path / "generation_config.json", where)
        text = config.get("text_config") or config
        found = (generation.get("eos_token_id"), text.get("eos_token_id"), tokenizer.eos_token_id)
        ids = [one for some in found for one in (some if isinstance(some, list) else [some])]
        self._eos = frozenset(one for one in ids if one is not None)
        self._detokenizer = Detokenizer.of(tokenizer)
        limits = self._spec.limits
        vocabulary = int(text.get("vocab_size") or len(tokenizer))
        self._door = Door(tokenizer, self._detokenizer, limits, vocabulary, context)


def engine_arguments(spec: ModelSpec, path: Path, context: int | None) -> dict[str, Any]:
    """Arguments of vLLM's `EngineArgs`: the catalogue entry, and over it what stands in `options`."""
    limits = spec.limits
    length = limits.max_prompt_tokens + limits.max_new_tokens
    found: dict[str, Any] = {
        "model": str(path),
        "dtype": spec.dtype,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_model_len": min(length, context) if context else length,
        "max_num_seqs": spec.batch.max_size,
        "enable_prefix_caching": spec.batch.prefix_reuse,
        "tensor_parallel_size": 1 if isinstance(spec.device, str) else len(spec.device),
        "disable_log_stats": True,
    }
    if spec.memory_share < 1:
        found["gpu_memory_utilization"] = spec.memory_share
    if spec.batch.token_budget != "auto":
        found["max_num_batched_tokens"] = spec.batch.token_budget
    for name in ("model", "load_format", "trust_remote_code"):
        if name in spec.options:
            raise ConfigError(f"models.{spec.name}.options.{name}: may not be set")
    return found | spec.options


def _import(where: str) -> Any:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise ConfigError(
            f"{where}.engine: vLLM is not in this environment ({error}); install it into one of its"
            " own and name that interpreter under `python` (docs/placement.md)"
        ) from error


def _show_devices(device: str | list[str]) -> None:
    """vLLM counts the CUDA devices that it can see from 0, so it is shown those that are meant."""
    names = [device] if isinstance(device, str) else device
    indices = [name.removeprefix("cuda:") for name in names if name.startswith("cuda:")]
    if indices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(indices)
