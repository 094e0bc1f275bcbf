"""One text in the making, and the part of it that goes into one step."""

from dataclasses import dataclass, field

from workers.engines.text_generation.detokenizer import Spoken
from workers.engines.text_generation.sampler import Sampling

NO_SLOT = -1


@dataclass(slots=True, eq=False)
class Sequence:
    """A job inside the engine. Only `scheduler` and `engine` change it, once a step has succeeded.

    `tokens` is the prompt followed by what was generated, by earlier attempts too; the keys and
    values of the first `cached` of them lie in `slot`.
    """

    id: str
    tokens: list[int]
    prompt_length: int
    max_new_tokens: int
    sampling: Sampling
    stops: tuple[str, ...] = ()
    spoken: Spoken = field(default_factory=Spoken)
    text: list[str] = field(default_factory=list)
    cached: int = 0
    slot: int = NO_SLOT
    largest_batch: int = 0

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of a sequence, from `start` on, to be run in one step in `slot`."""

    sequence: Sequence
    slot: int
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def samples(self) -> bool:
        """The chunk ends where the text ends: its last logits choose the next token."""
        return self.end == len(self.sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.start : self.end]
