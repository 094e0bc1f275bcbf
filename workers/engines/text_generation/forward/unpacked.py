"""Decides how a model runs that cannot be packed: by the logits of each way."""

from collections.abc import Sequence as Items
from typing import Any

import torch

from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS
from workers.engines.text_generation.forward.rope import AS_MADE, length_dependence
from workers.engines.text_generation.forward.static import StaticRunner
from workers.engines.text_generation.forward.trial import (
    TOLERANCE,
    largest_error,
    plain_logits,
    raise_out_of_memory,
    random_texts,
    vocabulary_of,
)

STATIC_TEXTS = ((6, 1, 1, 1, 1), (17, 1, 1, 1), (1, 1, 1, 1, 1))
"""How texts are cut where one runs after the other: a prompt is run whole there."""
GENERATED = 5
"""Tokens that transformers' own loop is asked for, where its cache does not do what a text alone does."""


def static_runner(model: Any, placement: Placement, slots: int) -> StaticRunner:
    """A runner for a model that cannot be packed; without transformers' cache if that gets it wrong.

    Some architectures compute a token that follows a cache otherwise than within a text. What `generate`
    says is taken then, and a text that is taken up again is read as it was made.
    """
    lengths = length_dependence(model)
    within = max(map(sum, STATIC_TEXTS)) if lengths is None else lengths.window
    texts = random_texts(vocabulary_of(model), STATIC_TEXTS, within)
    expected = [plain_logits(model, text, placement.device) for text in texts]
    runner = StaticRunner(model, placement.device, lengths=lengths)
    if _agrees(runner, texts, expected, slots, placement.dtype):
        return runner
    runner = StaticRunner(model, placement.device, lengths=lengths or AS_MADE)
    # Two of them, in turns: an architecture may keep what it has read in its own modules.
    prompts = texts[:2]
    made = [_generated(model, prompt, placement.device) for prompt in prompts]
    cuts = [(len(prompt), *[1] * GENERATED) for prompt in prompts]
    read, wanted = [text for text, _ in made], [logits for _, logits in made]
    if _agrees(runner, read, wanted, slots, placement.dtype, cuts):
        return runner
    return StaticRunner(model, placement.device, cached=False, lengths=lengths)


def _agrees(
    runner: StaticRunner,
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    slots: int,
    dtype: torch.dtype,
    cuts: Items[Items[int]] = STATIC_TEXTS,
) -> bool:
    try:
        return largest_error(texts, expected, runner, slots, cuts) <= TOLERANCE[dtype]
    except FAULTS as error:
        raise_out_of_memory(error)
        return False


def _generated(
    model: Any, prompt: Items[int], device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """A text by transformers' own loop but its last token, and float32 [its length, vocabulary].

    Those of the prompt are zeros, save for its last token's.
    """
    ids = torch.tensor([prompt], device=device)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(found.logits).float()
    unknown = logits.new_zeros(len(prompt) - 1, logits.shape[1])
    return found.sequences[0, :-1].tolist(), torch.cat([unknown, logits])
