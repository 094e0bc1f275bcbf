"""One text in the making: its tokens, how the next one is chosen, and the text that they stand for."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

from workers.engines.texts.detokenizer import Spoken
from workers.engines.texts.messages.reader import MessageReader
from workers.engines.texts.sampling import Draw, Sampling, Score

NO_SLOT = -1
REPLAY = 64
"""Most tokens of a text that are run in one step when the logits of each of them are wanted."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A text of a job inside the engine. Only `scheduler` and `engine` change it, once a step has succeeded.

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
    """Tokens that end it: the model's own, unless the job ignores them, and the job's."""
    spoken: Spoken = field(default_factory=Spoken)
    text: list[str] = field(default_factory=list)
    cached: int = 0
    long: bool = False
    """What is cached was read as a long text, where positions tell texts apart by their length."""
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
    speculates: bool = True
    """Several tokens may be tried at once, where the engine can do that."""
    drafted: int = 0
    accepted: int = 0
    """Tokens that were tried, and those of them that were right."""
    adapter: str = ""
    """The LoRA adapter that its rows run with; "" for the model alone."""
    ignores_eos: bool = False
    """The model's own end tokens are not among its `ends`."""
    job: str = ""
    """The id of its job: its own id where the job has one text."""
    choice: int = 0
    """Which of its job's texts it is."""
    siblings: Items["Sequence"] = ()
    """All texts of its job, where there are several: they have one prompt, which is computed once."""

    matcher: Any = None
    """Where its text follows a grammar: `workers.engines.text_generation.grammar.matchers.Matcher`."""
    reader: MessageReader | None = None
    """Where it answers a chat: reads it as a message."""
    told: int = 0
    """Of how many of its tokens readers were told."""

    def __post_init__(self) -> None:
        self.job = self.job or self.id
        self.told = self.generated

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
    def shared_length(self) -> int:
        """How many of its first tokens are its siblings' as well, and their logits are not wanted."""
        return min(self.prompt_length - 1, self.wanted)

    @property
    def longest_chunk(self) -> int:
        """How many tokens may be run in one step: logits are large."""
        return len(self.tokens) if self.wanted == len(self.tokens) - 1 else REPLAY

    @property
    def decodes(self) -> bool:
        """All that it lacks is the token behind its last one."""
        last = len(self.tokens) - 1
        return self.cached == last == self.wanted and self.ended is None

    @property
    def heeded(self) -> tuple[str, ...]:
        """The stop strings that the next token may complete."""
        return self.heeded_behind(self.generated)

    def heeded_behind(self, generated: int) -> tuple[str, ...]:
        """Those that a token behind `generated` others may complete: none in a text too short to end."""
        return self.stops if generated >= self.sampling.min_tokens else ()

    def draw(self, position: int, draft: Items[int] = ()) -> Draw:
        """What is to be done with the logits of a position, one of those from `wanted` on.

        Behind the text's end it is chosen as if the text went on as the `draft` does.
        """
        following = position + 1
        known = self.tokens[following] if following < len(self.tokens) else None
        drawn = following - self.prompt_length
        most = self.prompt_length + self.max_new_tokens
        ahead = following - len(self.tokens)
        tokens = [*self.tokens, *draft[:ahead]] if ahead > 0 else self.tokens
        return Draw(self.sampling, tokens, drawn, self.prompt_length, known, most)
