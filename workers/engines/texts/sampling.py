"""How a job wants its tokens chosen, one choice that is to be made, and how likely a token was."""

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from workers.engines.texts.bad_words import BadWords
from workers.engines.texts.defaults import NONE, Defaults
from workers.engines.texts.rules import Rules


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one job wants its tokens chosen.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and penalties of 1, 0 and 0 are off.
    `logprobs` is how many alternatives to tell beside each token's own log-probability, None for
    nothing at all. `bias` is by token id what is added to its score. `ends` are not chosen before there are
    `min_tokens`. `rules` are the model's own, whatever the job wants.
    """

    seed: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    bias: tuple[tuple[int, float], ...] = ()
    bad_words: BadWords | None = None
    min_tokens: int = 0
    ends: tuple[int, ...] = ()
    rules: Rules | None = None

    @classmethod
    def of(
        cls,
        params: Mapping[str, Any],
        seed: int,
        defaults: Defaults = NONE,
        *,
        bad_words: BadWords | None = None,
        ends: tuple[int, ...] = (),
    ) -> "Sampling":
        """What a request says, and the model's defaults where it says nothing.

        `bad_words` are the request's as tokens, `ends` the tokens that end its text.
        """
        penalty = params.get("repetition_penalty")
        return cls(
            seed=seed,
            temperature=float(params.get("temperature", 0.0)),
            top_k=int(params.get("top_k", 0)),
            top_p=float(params.get("top_p", 1.0)),
            min_p=float(params.get("min_p", 0.0)),
            repetition_penalty=defaults.repetition_penalty if penalty is None else float(penalty),
            presence_penalty=float(params.get("presence_penalty", 0.0)),
            frequency_penalty=float(params.get("frequency_penalty", 0.0)),
            logprobs=int(params.get("top_logprobs", 0)) if params.get("logprobs") else None,
            bias=tuple((int(i), float(v)) for i, v in (params.get("logit_bias") or {}).items()),
            bad_words=bad_words,
            min_tokens=int(params.get("min_tokens", 0)),
            ends=ends,
            rules=defaults.rules,
        )

    @property
    def repeats(self) -> bool:
        return self.repetition_penalty != 1.0

    @property
    def counts(self) -> bool:
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def plain(self) -> bool:
        """The likeliest token is the one, whatever stands before it."""
        if self.temperature != 0.0 or self.repeats or self.counts or self.rules is not None:
            return False
        return not self.bias and self.bad_words is None

    @property
    def cuts(self) -> bool:
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to choose: the rules, the tokens so far, and the position in the text.

    The first `prompt_length` of `tokens` were not generated, and no more than `most` will be there in the
    end. With `known` the token is chosen already and only its score is wanted.
    """

    sampling: Sampling
    tokens: Items[int]
    position: int
    prompt_length: int = 0
    known: int | None = None
    most: int = 0

    @property
    def plain(self) -> bool:
        return self.sampling.plain and not self.too_short

    @property
    def too_short(self) -> bool:
        """The text may not end here."""
        return self.position < self.sampling.min_tokens


@dataclass(frozen=True, slots=True)
class Score:
    """A token's natural log-probability, and the likeliest tokens with theirs, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
