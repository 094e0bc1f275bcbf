"""Pieces of a text, as whole tokens become text: joined, counted, and measured in both spellings."""

from collections.abc import Sequence as Items
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole tokens and exactly their text. `spelled` is that text with all special tokens written out."""

    token_ids: tuple[int, ...] = ()
    text: str = ""
    spelled: str = ""


NO_CHUNK = Chunk()


def joined(chunks: Items[Chunk]) -> Chunk:
    """Several chunks that follow one another as one."""
    ids = tuple(token for chunk in chunks for token in chunk.token_ids)
    texts, spelled = (chunk.text for chunk in chunks), (chunk.spelled for chunk in chunks)
    return Chunk(ids, "".join(texts), "".join(spelled))


def whole_chunks(withheld: Items[Chunk], safe: int, safe_spelled: int) -> int:
    """How many chunks lie within so many characters, the last of them with text: tokens go with text."""
    with_text = 0
    for number, chunk in enumerate(withheld, 1):
        safe -= len(chunk.text)
        safe_spelled -= len(chunk.spelled)
        if safe < 0 or safe_spelled < 0:
            break
        with_text = number if chunk.text else with_text
    return with_text


def shown_before(withheld: Items[Chunk], position: int) -> int:
    """How many characters of text stand before a position in the spelled text; specials come first."""
    shown = 0
    for chunk in withheld:
        specials = len(chunk.spelled) - len(chunk.text)
        if position < len(chunk.spelled):
            return shown + max(0, position - specials)
        position -= len(chunk.spelled)
        shown += len(chunk.text)
    return shown


def spelled_before(withheld: Items[Chunk], position: int) -> int:
    """How much of the spelled text stands before a position in the text; special tokens there do."""
    spelled = 0
    for chunk in withheld:
        if position < len(chunk.text):
            return spelled + len(chunk.spelled) - len(chunk.text) + position
        position -= len(chunk.text)
        spelled += len(chunk.spelled)
    return spelled
