"""As much of vLLM as the adapter uses, with a tiny deterministic model: names, types and behaviour of 0.1x.

Followed after vllm/v1/engine/llm_engine.py, vllm/outputs.py and vllm/sampling_params.py: `add_request`
checks its arguments, `step` gives a `RequestOutput` for each request that has something new, deltas
where deltas are asked for, the end token among them, and `abort_request` forgets without a word.
"""

import enum
from dataclasses import dataclass, field
from typing import Any

__version__ = "0.0-fake"


class RequestOutputKind(enum.Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


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
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None = None


@dataclass(kw_only=True)
class EngineArgs:
    model: str
    dtype: str = "auto"
    load_format: str = "auto"
    trust_remote_code: bool = False
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float = 0.9
    enable_prefix_caching: bool = True
    tensor_parallel_size: int = 1
    disable_log_stats: bool = False


@dataclass
class _Request:
    id: str
    prompt: list[int]
    params: SamplingParams
    made: list[int] = field(default_factory=list)


class EngineDeadError(Exception):
    """vllm.v1.engine.exceptions.EngineDeadError"""


class LLMEngine:
    """`fault` is raised by the next step, `ends_with` is the finish reason of the next one to end."""

    def __init__(self, args: EngineArgs) -> None:
        self.args = args
        self.requests: dict[str, _Request] = {}
        self.fault: Exception | None = None
        self.ends_with: str | None = None
        self.params: list[SamplingParams] = []

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> "LLMEngine":
        if args.gpu_memory_utilization > 1:
            raise ValueError("gpu_memory_utilization must be at most 1")
        return cls(args)

    def add_request(self, request_id: str, prompt: Any, params: SamplingParams) -> str:
        if request_id in self.requests:
            raise ValueError(f"request id {request_id} is taken")
        ids = prompt["prompt_token_ids"]
        if len(ids) > (self.args.max_model_len or 0):
            raise ValueError("the prompt is longer than max_model_len")
        assert params.output_kind is RequestOutputKind.DELTA and not params.detokenize
        assert params.max_tokens is not None and params.max_tokens >= 1
        self.params.append(params)
        self.requests[request_id] = _Request(request_id, list(ids), params)
        return request_id

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        for request_id in request_ids:
            self.requests.pop(request_id, None)

    def step(self) -> list[RequestOutput]:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        running = list(self.requests.values())[: self.args.max_num_seqs]
        return [self._advance(request) for request in running]

    def _advance(self, request: _Request) -> RequestOutput:
        token = next_token([*request.prompt, *request.made])
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
        completion = CompletionOutput(0, "", [token], reason)
        return RequestOutput(request.id, [completion], reason is not None, 0)


def next_token(ids: list[int]) -> int:
    """Any token of 300, the same for the same ids."""
    found = len(ids)
    for token in ids[-8:]:
        found = (found * 31 + token * 7 + 11) % 1_000_003
    return found % 300


class sampling_params:
    """The module vllm.sampling_params."""

    RequestOutputKind = RequestOutputKind
