"""The model catalogue: which models are served, by which engine, within which limits.

`shared.domain.models.catalog_file` reads it from YAML.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from shared.domain.errors import UnknownModel
from shared.domain.requests.params import ENGINES

BUILT_IN_ENGINES = frozenset(ENGINES)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Batch(Section):
    """`flush_timeout_ms` is an upper bound; `token_budget` is tokens in one step.

    `prefix_reuse`: prompts that begin alike share what was computed for that beginning.
    """

    max_size: int = Field(default=32, ge=1, le=4096)
    flush_timeout_ms: float = Field(default=20, ge=0, le=60_000)
    token_budget: int | Literal["auto"] = "auto"
    prefix_reuse: bool = True


class PrefixCache(Section):
    """Beginnings of prompts, and system messages of chats, that tenants may share with each other: who
    sends one is told by `cached_tokens` that somebody had sent it. All others are a tenant's own.
    """

    shared: list[Annotated[str, StringConstraints(min_length=1, max_length=65_536)]] = Field(
        default_factory=list, max_length=64
    )


class PromptLookup(Section):
    """Look-up decoding: what followed the text's last `ngram` tokens before is tried, at most `longest`
    tokens in a step.
    """

    kind: Literal["prompt_lookup"] = "prompt_lookup"
    ngram: int = Field(default=3, ge=1, le=16)
    longest: int = Field(default=15, ge=1, le=31)


def _as_word(value: Any) -> Any:
    """YAML reads `on` and `off` as truth values."""
    if isinstance(value, bool):
        return "auto" if value else "none"
    return value


class Limits(Section):
    """Tokens, seconds and jobs. `run_timeout` bounds one attempt, `step_timeout` one engine step."""

    max_queued: int = Field(default=100_000, ge=1)
    max_prompt_tokens: int = Field(default=512, ge=1)
    max_new_tokens: int = Field(default=512, ge=1)
    run_timeout: float = Field(default=300, gt=0)
    step_timeout: float = Field(default=30, gt=0)


class Breaker(Section):
    """Opens after `failure_threshold` failures in a row, or when `failure_rate` of at least
    `minimum_volume` attempts within `window_sec` failed. The cool-down is `timeout_sec` and doubles with
    each opening, up to `max_timeout_sec`.
    """

    failure_threshold: int = Field(default=5, ge=1, le=1_000_000)
    timeout_sec: float = Field(default=60, gt=0, le=86_400)
    max_timeout_sec: float = Field(default=600, gt=0, le=86_400)
    failure_rate: float = Field(default=0.5, gt=0, le=1)
    minimum_volume: int = Field(default=20, ge=1, le=1_000_000)
    window_sec: float = Field(default=60, ge=1, le=3600)


class Retries(Section):
    """`max_attempts` counts failures of the engine; crashes are counted apart. Within the breaker's window
    `budget_floor` jobs plus a share of `budget_ratio` of all attempts are tried again without delay.
    """

    max_attempts: int = Field(default=3, ge=1, le=100)
    budget_ratio: float = Field(default=0.1, ge=0, le=1)
    budget_floor: int = Field(default=10, ge=1, le=1_000_000)


class Cache(Section):
    """Whether requests that ask the same may share one result, and for how many seconds (none:
    `CACHE_DEFAULT_TTL`). `deterministic`: an engine of one's own answers the same to the same.
    """

    enabled: bool = True
    ttl: float | None = Field(default=None, ge=1, le=30 * 86_400)
    deterministic: bool = False


class Adapter(Section):
    """A LoRA adapter as the host of its base knows it: `name` is its catalogue entry's."""

    name: Name
    path: Path
    limits: Limits


class ModelSpec(Section):
    """One line of the catalogue. `path` and `adapter` are absolute once read.

    An entry with a `base` has all that it does not say itself of that entry, and runs in its engine hosts.
    `adapters` are those that a host of this entry serves: a base's, or an adapter's own.
    """

    name: Name
    engine: str
    path: Path | None = None
    base: Name | None = None
    adapter: Path | None = None
    adapters: tuple[Adapter, ...] = ()
    version: str = Field(default="", description="Change it to let no older result be used again.")
    device: str | list[str] = "auto"
    dtype: str = "auto"
    device_map: Literal["auto"] | None = Field(
        default=None, description="auto: over all CUDA devices, if the model is larger than one."
    )
    offload: Literal["cpu", "disk"] | None = Field(
        default=None, description="Where layers go that no device has room for; none: refuse."
    )
    memory_share: float = Field(
        default=1.0, gt=0, le=1, description="Of a device's memory, for weights and cache."
    )
    step_ms: float = Field(default=0.0, ge=0.0, description="Pace of the echo engine.")
    python: Path | None = Field(
        default=None, description="The interpreter of the engine host; none: the worker's own."
    )
    input_schema: dict[str, Any] | None = Field(
        default=None,
        description="JSON Schema of an own model's input: the console's playground makes a form of it.",
    )
    env: tuple[EnvName, ...] = Field(
        default=(), description="Variables that the engine host gets of the worker's environment."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; none: all cores.")
    batch: Batch = Batch()
    prefix_cache: PrefixCache = PrefixCache()
    speculation: Annotated[PromptLookup | Literal["auto", "none"], BeforeValidator(_as_word)] = (
        Field(
            default="auto",
            description="Speculative decoding; auto: by prompt look-up, where it changes no bit and pays.",
        )
    )
    limits: Limits = Limits()
    breaker: Breaker = Breaker()
    retries: Retries = Retries()
    cache: Cache = Cache()
    fallback: str | None = None
    token_ids: bool = Field(
        default=False,
        description="Whether an embedding model takes token ids too: those of its own tokenizer.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="For a user's own engine.")


class Catalog:
    """The models by name, in the order of the file."""

    def __init__(self, models: dict[str, ModelSpec], source: Path | None = None) -> None:
        self._models = models
        self.source = source
        self.written = int(source.stat().st_mtime) if source is not None else 0
        """When its file was last written, in seconds since 1970."""

    def get(self, name: str) -> ModelSpec:
        """The entry of a model. Raises `UnknownModel`."""
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(sorted(self._models))
            raise UnknownModel(f"There is no model {name!r}. Models here: {known}.") from None

    def fallbacks(self, name: str) -> list[ModelSpec]:
        """The models that stand in for one, in order. Raises `UnknownModel`."""
        chain: list[ModelSpec] = []
        while (name := self.get(name).fallback or "") != "":
            chain.append(self.get(name))
        return chain

    def served_with(self, name: str) -> list[ModelSpec]:
        """The entries that a worker of this one serves from one engine host: itself, then its adapters.

        Raises `UnknownModel`.
        """
        spec = self.get(name)
        return [spec, *(self.get(one.name) for one in spec.adapters if one.name != name)]

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)
