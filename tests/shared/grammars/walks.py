"""Texts that a grammar allows, drawn at random from its masks, byte by byte."""

import random
from collections.abc import Mapping
from typing import Any

from shared.grammars.sources import BYTES, compiled, source_of

END = 256


class Unfinished(Exception):
    """The text had not ended when it was long enough."""


def walk(grammar: Mapping[str, Any], seed: int, most: int = 400) -> str:
    """A text of the grammar. Raises `Unfinished`; asserts that there always is a way on."""
    matcher = compiled(source_of(grammar), BYTES)
    draw = random.Random(seed)
    said = bytearray()
    while len(said) < most:
        mask = matcher.compute_bitmask()
        assert not matcher.is_error(), (bytes(said), matcher.get_error())
        ways = [token for token in range(END + 1) if mask[token // 8] >> token % 8 & 1]
        assert ways, bytes(said)
        if ways == [END] or (END in ways and draw.random() < 0.25):
            return said.decode()
        # What closes a part, more often than its share: else most texts would never end.
        closing = [token for token in ways if token in (34, 93, 125) and draw.random() < 0.3]
        token = draw.choice(closing or [way for way in ways if way != END])
        matcher.consume_token(token)
        said.append(token)
    raise Unfinished(bytes(said))
