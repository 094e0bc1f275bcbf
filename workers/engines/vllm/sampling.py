"""What vLLM is told of one text: how to sample it, and where it ends."""

from collections.abc import Mapping
from typing import Any

from workers.engines.texts.sequence import Sequence
from workers.engines.vllm.setup import Library

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


def sampling(
    library: Library, sequence: Sequence, begun: int, held: Mapping[str, Any] | None = None
) -> Any:
    """vLLM's parameters for what a text still lacks behind its first `begun` tokens, prompt included. `held`:
    of its structured outputs.

    vLLM ends on tokens and length; stop strings are found on this side. Bad words it looks for in what it has
    made itself: one that an earlier attempt has begun is not found.
    """
    wanted, said = sequence.sampling, begun - sequence.prompt_length
    given = {name: getattr(wanted, name) for name in SAMPLING}
    if held is not None:
        given["structured_outputs"] = library.structured_outputs(**held)
    return library.vllm.SamplingParams(
        **given,
        seed=(wanted.seed + said) % 2**63,
        # One more of a text that has ended already, and is run for its log-probabilities.
        max_tokens=max(1, sequence.max_new_tokens - said),
        min_tokens=max(0, wanted.min_tokens - said),
        stop_token_ids=sorted(sequence.ends),
        # Its own end token ends a text unless it is told to let it pass; others stand in `stop_token_ids`.
        ignore_eos=sequence.ignores_eos,
        logit_bias=dict(wanted.bias) or None,
        bad_words=list(wanted.bad_words.words) if wanted.bad_words is not None else None,
        logprobs=wanted.logprobs,
        # What an earlier attempt has said is scored again, as a part of the prompt.
        prompt_logprobs=wanted.logprobs if said else None,
        detokenize=False,
        output_kind=library.output_kinds.DELTA,
    )
