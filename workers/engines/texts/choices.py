"""The texts of one job: how many are still being made, and what the job's output is once none is."""

import hashlib
from collections.abc import Sequence as Items
from typing import Any

from workers.engines.texts.sequence import Sequence


def seed_of(seed: int, choice: int) -> int:
    """The seed of a job's n-th text: its own for the first, which is the text of n = 1, others by BLAKE2b."""
    if choice == 0:
        return seed
    told = (seed % 2**64).to_bytes(8, "little") + choice.to_bytes(8, "little")
    digest = hashlib.blake2b(told, digest_size=8, person=b"choice").digest()
    return int.from_bytes(digest, "little") >> 1


class Choices:
    """All sequences of a job, in order, and what became of those that have ended."""

    def __init__(self, sequences: Items[Sequence]) -> None:
        self.sequences = tuple(sequences)
        self._outputs: dict[int, dict[str, Any]] = {}

    @property
    def living(self) -> list[Sequence]:
        """Those that have not ended yet."""
        return [one for one in self.sequences if one.choice not in self._outputs]

    @property
    def complete(self) -> bool:
        return len(self._outputs) == len(self.sequences)

    def end(self, sequence: Sequence, output: dict[str, Any]) -> None:
        """A text is complete: `output` is what there would be of it alone."""
        if sequence.reader is not None:
            output["message"] = sequence.reader.message
        self._outputs[sequence.choice] = output

    @property
    def output(self) -> dict[str, Any]:
        """Of the job: that of its first text, and beside it `choices` where there are several."""
        outputs = [self._outputs[one.choice] for one in self.sequences]
        if len(outputs) == 1:
            return outputs[0]
        choices = [{"index": number, **output} for number, output in enumerate(outputs)]
        return {**outputs[0], "choices": choices}

    @property
    def usage(self) -> dict[str, int]:
        """What the job used: its prompt once, and the tokens of all its texts, end tokens left out.

        `cached_tokens` of the prompt were not computed for this job: what its first text to run has found.
        Drafts are told of where there were some.
        """
        prompt = self.sequences[0].prompt_length
        made = sum(one.generated for one in self.sequences)
        cached = min((one.reused for one in self.sequences if one.largest_batch), default=0)
        drafted = sum(one.drafted for one in self.sequences)
        accepted = sum(one.accepted for one in self.sequences)
        drafts = {"drafted_tokens": drafted, "accepted_tokens": accepted} if drafted else {}
        return {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
            "cached_tokens": min(cached, prompt),
            "batch_size": max(1, *(one.largest_batch for one in self.sequences)),
            **drafts,
        }
