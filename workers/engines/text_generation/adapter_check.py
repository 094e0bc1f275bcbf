"""Finds out at load whether rows with different adapters, side by side, say what each text says alone.

The step is compared with the base model's own forward pass, all of whose rows have one adapter. A
layer that gets its rows in another order than they came in (an expert's, for example) is found so.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch

from workers.engines.packed_attention import FAULTS, Unpackable
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.runner import Runner
from workers.engines.text_generation.forward.trial import raise_out_of_memory
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

TOKENS = 9
CUT = 6
"""Where a text is cut into two steps: a prompt, and three tokens one by one."""
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """A text of `TOKENS` tokens and its logits with an adapter, float32 [TOKENS, vocabulary]."""

    adapter: str
    text: list[int]
    logits: torch.Tensor


def samples(model: Any, adapters: Adapters, device: torch.device) -> list[Sample]:
    """One of each adapter and one of the base alone, by the model's own forward pass.

    An adapter with a layer that the model never runs is refused.
    """
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    generator = torch.Generator().manual_seed(3)
    found = []
    for name in ("", *adapters.names):
        text = torch.randint(vocabulary, (TOKENS,), generator=generator).tolist()
        ids = torch.tensor([text], device=device)
        try:
            with adapters.of([name] * TOKENS):
                logits = model(input_ids=ids, use_cache=False).logits[0].float()
        except FAULTS as error:
            raise_out_of_memory(error)
            adapters.refuse(name, f"models.{name}.adapter: a trial run failed: {error}")
            continue
        if name and (idle := adapters.idle_layers(name)):
            adapters.refuse(
                name,
                f"models.{name}.adapter: it changes {idle[0]}, which its base does not run as a layer of"
                " its own; merge it into its base model",
            )
            continue
        found.append(Sample(name, text, logits))
    return found


def check(
    runner: Runner, adapters: Adapters, found: Items[Sample], slots: int, most: float
) -> None:
    """Refuse adapters whose logits in mixed steps are off by more than `most` standard deviations."""
    base, *others = found
    size = max(1, min(slots, AT_ONCE) - 1)
    for start in range(0, len(others), size):
        group = [*others[start : start + size], base][: max(1, slots)]
        try:
            errors = _errors(runner, group)
        except (*FAULTS, Unpackable) as error:
            raise_out_of_memory(error)
            errors = [float("inf")] * len(group)
        for slot in range(len(group)):
            runner.release(slot, scrub=True)
        for sample, off in zip(group, errors, strict=True):
            if sample.adapter and not off <= most:
                adapters.refuse(
                    sample.adapter,
                    f"models.{sample.adapter}.adapter: its logits beside other rows are off by {off:.2g}"
                    " standard deviations; merge it into its base model",
                )


def _errors(runner: Runner, group: Items[Sample]) -> list[float]:
    sequences = [
        Sequence(str(n), [], CUT, 1, Sampling(seed=0), adapter=sample.adapter)
        for n, sample in enumerate(group)
    ]
    worst = [0.0] * len(group)
    for start, end in [(0, CUT), *((n, n + 1) for n in range(CUT, TOKENS))]:
        chunks = []
        for slot, (sequence, sample) in enumerate(zip(sequences, group, strict=True)):
            sequence.tokens += sample.text[start:end]
            chunks.append(Chunk(sequence, slot, start, end - start))
        rows, logits = runner.run(chunks)
        for row, said in zip(rows, logits, strict=True):
            number = int(row.sequence.id)
            right = group[number].logits[row.position]
            off = float((said - right).pow(2).mean().sqrt() / right.std().clamp_min(1e-6))
            worst[number] = max(worst[number], off) if off == off else float("inf")
    return worst
