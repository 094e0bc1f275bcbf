"""Reads what a model's own generation settings change: `generation_config.json`, or config.json of old.

Settings that change even greedy text are the model's defaults. Those of sampling are not: a request says
how it samples. What cannot be honoured refuses the model.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.texts.rules import Rules

APPLIED = (
    "repetition_penalty",
    "sequence_bias",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "min_length",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "stop_strings",
    "eos_token_id",
)
NOT_APPLIED = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "max_new_tokens",
    "max_length",
    "max_time",
    "num_return_sequences",
    "remove_invalid_values",
)
"""What a request says itself, or nobody."""
OFF: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0, 0.0),
    "guidance_scale": (1, 1.0),
    "token_healing": (False,),
    "watermarking_config": (),
    "dola_layers": (),
    "constraints": (),
    "force_words_ids": (),
}
"""Other ways to decode, and the values with which they do nothing. Any other value refuses the model."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1, 1.0),
    "encoder_repetition_penalty": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """`applied` and `not_applied` are what the model says, by the names of transformers."""

    repetition_penalty: float = 1.0
    stops: tuple[str, ...] = ()
    rules: Rules | None = None
    applied: Mapping[str, Any] = field(default_factory=dict)
    not_applied: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For `GET /v1/models`."""
        return {"applied": dict(self.applied), "not_applied": dict(self.not_applied)}


NONE = Defaults()


def defaults_of(model: Any, ends: Collection[int], vocabulary: int, where: str) -> Defaults:
    """The defaults of a loaded model. `ends` are the tokens that end its texts.

    Raises `ConfigError` with the setting's name for one that cannot be honoured.
    """
    config = model.generation_config
    for name, values in OFF.items():
        value = getattr(config, name, None)
        if value is not None and value not in values and value != []:
            raise ConfigError(
                f"{where}: generation_config.json sets {name} to {value!r}, which this engine cannot do;"
                " take it out to have the model's plain texts"
            )
    if getattr(config, "cache_implementation", None) == "quantized":
        raise ConfigError(
            f"{where}: generation_config.json sets cache_implementation to 'quantized', which this engine"
            " cannot do; take it out to have exact texts"
        )
    said: dict[str, Any] = {name: getattr(config, name, None) for name in APPLIED}
    said = {
        n: v for n, v in said.items() if v not in (None, [], {}) and v not in NEUTRAL.get(n, ())
    }
    stops = said.get("stop_strings") or ()
    try:
        stops = (stops,) if isinstance(stops, str) else tuple(stops)
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise ValueError(f"stop_strings must be texts that are not empty, got {stops!r}")
        rules = Rules.of(said, sorted(ends))
        if rules is not None:
            rules.try_out(vocabulary)
        penalty = float(said.get("repetition_penalty", 1.0))
        if penalty <= 0:
            raise ValueError(f"repetition_penalty must be greater than 0, got {penalty}")
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: generation_config.json cannot be honoured: {error}") from error
    return Defaults(
        penalty,
        stops,
        rules,
        said,
        {name: v for name in NOT_APPLIED if (v := getattr(config, name, None)) is not None},
    )


def eos_tokens(model: Any, tokenizer: Any, vocabulary: int) -> frozenset[int]:
    """Every token that ends a text: an id or a list of ids, in either place.

    Ids that the vocabulary lacks (-1, or those of tokens that were never trained) are left out: no text ends
    with them, and in a row of scores they would stand for a place in another row.
    """
    found: set[int] = set()
    for ids in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if ids is not None:
            found.update(ids if isinstance(ids, list) else [ids])
    return frozenset(token for token in found if 0 <= token < vocabulary)
