"""What the engines are asked: random prompts and English texts, the same ones in every run. Pure."""

import math
import random
import re
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics
from typing import Any

import msgspec

VOCABULARY = 512
FIRST_TOKEN = 2
WORD = re.compile(r"[A-Za-z]{2,}")


class Demand(msgspec.Struct, frozen=True):
    """One request: its prompt's tokens, and how many it wants back."""

    prompt: tuple[int, ...]
    wanted: int


def demands(count: int, *, most: int = 256, seed: int = 1) -> list[Demand]:
    """Prompts of 16 to 256 tokens and answers of 8 to `most`, both log-normal: many short, few long."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        length = _log_normal(chance, middle=60, sigma=0.8, least=16, most=256)
        wanted = _log_normal(chance, middle=40, sigma=1.0, least=8, most=most)
        prompt = tuple(chance.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(length))
        made.append(Demand(prompt, wanted))
    return made


def beginning_alike(count: int, *, shared: int, wanted: int, seed: int) -> list[Demand]:
    """Prompts with the same first `shared` tokens and 8 to 40 of their own behind them."""
    chance = random.Random(seed)

    def some(length: int) -> tuple[int, ...]:
        return tuple(chance.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(length))

    beginning = some(shared)
    return [Demand(beginning + some(chance.randint(8, 40)), wanted) for _ in range(count)]


def documents(count: int, *, length: int, again: int) -> list[tuple[int, ...]]:
    """Prompts of `length` tokens: different ones in any order, and then the first `again` of them again."""
    chance = random.Random(2)
    words = range(FIRST_TOKEN, VOCABULARY)
    found = [tuple(chance.sample(words, length - again)) for _ in range(count)]
    return [prompt + prompt[:again] for prompt in found]


def useful_tokens(asked: Sequence[Demand]) -> int:
    """The tokens that somebody wants; what a padded batch makes beyond them does not count."""
    return sum(demand.wanted for demand in asked)


def sentences(count: int, *, middle: float = 18, most: int = 110, seed: int = 0) -> list[str]:
    """Runs of 4 to `most` words from the Python documentation, log-normal."""
    words = WORD.findall(" ".join(topics.values()))
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        begin = chance.randrange(len(words) - most)
        length = _log_normal(chance, middle=middle, sigma=0.7, least=4, most=most)
        made.append(" ".join(words[begin : begin + length]))
    return made


def batches(items: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    """First come, first served: `width` at a time."""
    for begin in range(0, len(items), width):
        yield items[begin : begin + width]


def _log_normal(
    chance: random.Random, *, middle: float, sigma: float, least: int, most: int
) -> int:
    return int(min(most, max(least, chance.lognormvariate(math.log(middle), sigma))))
