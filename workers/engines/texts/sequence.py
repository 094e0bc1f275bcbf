"""One text in the making: its tokens, how the next one is chosen, and the text that they stand for."""

from dataclasses import dataclass, field

from workers.engines.texts.detokenizer import Spoken
from workers.engines.texts.sampling import Draw, Sampling, Score

NO_SLOT = -1
REPLAY = 64
"""Most tokens of a text that are run in one step when the logits of each of them are wanted."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A job inside the engine. Only `scheduler` and `engine` change it, once a step has succeeded.

    `tokens` is the prompt followed by what was generated, by earlier attempts too; the keys and
    values of the first `cached` of them lie in `slot`. `scores` are those of the first generated tokens,
    where they are wanted.
    """

    id: str
    tokens: list[int]
    prompt_length: int
    max_new_tokens: int
    sampling: Sampling
    stops: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    spoken: Spoken = field(default_factory=Spoken)
    text: list[str] = field(default_factory=list)
    cached: int = 0
    slot: int = NO_SLOT
    largest_batch: int = 0
    scores: list[Score] = field(default_factory=list)
    ended: str | None = None
    """Why it had ended already when it came; only its scores are wanted."""
    blocks: list[bytes] = field(default_factory=list)
    """Names of its whole blocks of tokens; see `prefixes`."""
    reused: int = 0
    """Tokens that were not run, for a slot held their keys and values."""
    alone: bool = False
    """The text is one of its own, as an answer in a chat is, and not the prompt's continuation."""
    salt: str = ""
    """Of its tenant: what `prefixes` shares is shared with nobody else."""
    adapter: str = ""
    """The LoRA adapter that its rows run with; "" for the model alone."""

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def wanted(self) -> int:
        """The first position whose logits are wanted; those of the last token choose the next one.

        A text that was begun by an earlier attempt has no scores yet: its tokens are scored again.
        """
        last = len(self.tokens) - 1
        if self.sampling.logprobs is None:
            return last
        return min(last, self.prompt_length - 1 + len(self.scores))

    @property
    def longest_chunk(self) -> int:
        """How many tokens may be run in one step: logits are large."""
        return len(self.tokens) if self.wanted == len(self.tokens) - 1 else REPLAY

    def usage(self, cached: int) -> dict[str, int]:
        """What the job used, once its text is complete: its end token is not counted.

        `cached` tokens of the prompt or the text were not computed again.
        """
        return {
            "prompt_tokens": self.prompt_length,
            "completion_tokens": self.generated,
            "total_tokens": len(self.tokens),
            "cached_tokens": min(cached, self.prompt_length),
            "batch_size": max(1, self.largest_batch),
        }

    def draw(self, position: int) -> Draw:
        """What is to be done with the logits of a position, one of those from `wanted` on."""
        following = position + 1
        known = self.tokens[following] if following < len(self.tokens) else None
        drawn = following - self.prompt_length
        most = self.prompt_length + self.max_new_tokens
        return Draw(self.sampling, self.tokens, drawn, self.prompt_length, known, most)
