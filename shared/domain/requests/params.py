"""The built-in engines: what each accepts as `params` and `input`, checked before anything is queued.

No torch here: the API validates with these models, the engines read their fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from shared.domain.requests.engine_params import (
    EchoParams,
    EmbeddingParams,
    Params,
    PipelineParams,
    RankingParams,
)
from shared.domain.requests.inputs import Prompt, TextOrFile, TextsOrIds, TextsToRank
from shared.domain.requests.text_generation_params import TextGenerationParams


@dataclass(frozen=True, slots=True)
class EngineKind:
    """What the server must know of a built-in engine; `workers.engines.registry` says where its class is.

    `content` is the type of a request's input, `params` that of its params. `generates_text`: it takes
    `TextGenerationParams` and the limits of tokens. `counts_tokens`: a job's cost is in tokens.
    `streams_text`: its `output.text` is what it has streamed. `deterministic`: one input has one output.
    """

    content: Any
    params: type[Params]
    needs_path: bool = True
    generates_text: bool = False
    counts_tokens: bool = False
    streams_text: bool = False
    deterministic: bool = False


_TEXT = EngineKind(
    Prompt,
    TextGenerationParams,
    generates_text=True,
    counts_tokens=True,
    streams_text=True,
)
ENGINES: dict[str, EngineKind] = {
    "text-generation": _TEXT,
    "vllm": _TEXT,
    "embedding": EngineKind(TextsOrIds, EmbeddingParams, counts_tokens=True, deterministic=True),
    "ranking": EngineKind(TextsToRank, RankingParams, counts_tokens=True, deterministic=True),
    "pipeline": EngineKind(TextOrFile, PipelineParams),
    "echo": EngineKind(str, EchoParams, needs_path=False, streams_text=True),
}
"""The built-in engines. Any other takes any JSON as `input` and any object as `params`."""
TEXT_ENGINES = frozenset(name for name, kind in ENGINES.items() if kind.generates_text)
PARAMS: dict[str, TypeAdapter[Any]] = {n: TypeAdapter(kind.params) for n, kind in ENGINES.items()}
INPUTS: dict[str, TypeAdapter[Any]] = {n: TypeAdapter(kind.content) for n, kind in ENGINES.items()}

_DEFAULTS = {name: kind.params().model_dump() for name, kind in ENGINES.items()}


class CheckedParams(NamedTuple):
    """The params of a request with the engine's defaults filled in; and `told`, those of them that the engine
    would not assume. What it assumes is the larger part of a short request, which waits in Redis.
    """

    all: dict[str, Any]
    told: dict[str, Any]


def checked(engine: str, given: Mapping[str, Any]) -> CheckedParams:
    """The params of a request as this engine takes them; as they are where it has no model.

    Raises pydantic's `ValidationError`.
    """
    adapter = PARAMS.get(engine)
    if adapter is None:
        return CheckedParams(dict(given), dict(given))
    assumed = _DEFAULTS[engine]
    if not given:
        # The lists in it are shared, and nobody's to change.
        return CheckedParams(dict(assumed), {})
    made = adapter.validate_python(given)
    found: dict[str, Any] = made.model_dump()
    if isinstance(made, TextGenerationParams):
        found |= made.as_stored()
    told = {name: v for name, v in found.items() if name not in assumed or v != assumed[name]}
    return CheckedParams(found, told)
