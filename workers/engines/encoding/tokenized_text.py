"""One text, or a pair, as a model takes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """`types` are token type ids where the tokenizer gives them; the first `skip` tokens are a prompt that
    pooling leaves out. `seen`: only so many of the first tokens may be looked at by others; None: all."""

    ids: list[int]
    types: list[int] | None = None
    skip: int = 0
    seen: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def visible(self) -> int:
        """How many tokens attention may look at."""
        return len(self.ids) if self.seen is None else self.seen
