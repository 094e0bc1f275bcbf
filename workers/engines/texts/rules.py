"""Applies a model's own rules of generation, by the processors of transformers' `generate`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

OWN = frozenset({"repetition_penalty", "stop_strings", "eos_token_id"})
"""Settings that are honoured elsewhere."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Applied to one text at a time, in the order of `generate`: a part before the repetition penalty,
    the rest after it. `settings` are those of the model that do something, `ends` its end tokens.
    """

    settings: Mapping[str, Any]
    ends: list[int]
    bias: Any = None
    bad_words: Any = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], ends: list[int]) -> "Rules | None":
        """None when nothing is forbidden or forced. Raises what transformers raises for bad values."""
        used = {name: value for name, value in settings.items() if name not in OWN}
        if not used:
            return None
        bias = used.get("sequence_bias")
        words = used.get("bad_words_ids")
        return cls(
            used,
            ends,
            SequenceBiasLogitsProcessor(bias) if bias else None,
            NoBadWordsLogitsProcessor(words, ends or None) if words else None,
        )

    def try_out(self, vocabulary: int) -> None:
        """Raise now what a text would raise later, for token ids that the model does not have."""
        scores = torch.zeros(1, vocabulary, dtype=torch.float64)
        for tokens in ([0], [0, 0, 0]):
            self.after(self.before(scores, tokens, 1), tokens, 1, len(tokens) + 1)

    def before(self, scores: torch.Tensor, tokens: list[int], prompt: int) -> torch.Tensor:
        """[1, vocabulary] to the same, for the token after `tokens`; the first `prompt` are the prompt's."""
        ids = torch.tensor([tokens], device=scores.device)
        if self.bias is not None:
            scores = self.bias(ids, scores)
        if penalty := self.settings.get("encoder_repetition_penalty"):
            scores = EncoderRepetitionPenaltyLogitsProcessor(float(penalty), ids[:, :prompt])(
                ids, scores
            )
        return scores

    def after(
        self, scores: torch.Tensor, tokens: list[int], prompt: int, most: int
    ) -> torch.Tensor:
        """The rest. `most` is how long prompt and text may become together."""
        ids = torch.tensor([tokens], device=scores.device)
        for processor in self._processors(ids, prompt, most):
            scores = processor(ids, scores)
        return scores

    def _processors(self, ids: torch.Tensor, prompt: int, most: int) -> list[Any]:
        said, ends, device = self.settings.get, self.ends, str(ids.device)
        found: list[Any] = []
        if size := said("no_repeat_ngram_size"):
            found.append(NoRepeatNGramLogitsProcessor(size))
        if size := said("encoder_no_repeat_ngram_size"):
            found.append(EncoderNoRepeatNGramLogitsProcessor(size, ids[:, :prompt]))
        if self.bad_words is not None:
            found.append(self.bad_words)
        if ends and (least := said("min_length")):
            found.append(MinLengthLogitsProcessor(least, ends, device))
        if ends and (least := said("min_new_tokens")):
            found.append(MinNewTokensLengthLogitsProcessor(prompt, least, ends, device))
        if (token := said("forced_bos_token_id")) is not None:
            found.append(ForcedBOSTokenLogitsProcessor(token))
        if (token := said("forced_eos_token_id")) is not None:
            found.append(ForcedEOSTokenLogitsProcessor(most, token, device))
        if ends and (decay := said("exponential_decay_length_penalty")):
            found.append(ExponentialDecayLengthPenalty(tuple(decay), ends, prompt))
        if suppressed := said("suppress_tokens"):
            found.append(SuppressTokensLogitsProcessor(suppressed, device))
        if suppressed := said("begin_suppress_tokens"):
            late = prompt == 1 and said("forced_bos_token_id") is not None
            begin = prompt + 1 if late else prompt
            found.append(SuppressTokensAtBeginLogitsProcessor(suppressed, begin, device))
        return found
