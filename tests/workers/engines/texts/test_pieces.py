from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.events import Prefix
from shared.domain.parts import Message
from tests.conftest import examples
from tests.tiny_models import byte_level_tokenizer
from workers.engines.base import Piece, Work
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.pieces import piece_of, read_as_messages
from workers.engines.texts.replies import Replies
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
TOKENIZER = byte_level_tokenizer()
TOKENIZER.add_special_tokens({"additional_special_tokens": list(TAGS)})
DETOKENIZER = Detokenizer.of(TOKENIZER)
REPLIES = Replies(
    SimpleNamespace(chat_template="".join(TAGS), response_template=None), DETOKENIZER.vocabulary
)
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "a"}],
    "tools": [{"type": "function", "function": {"name": "now"}}],
}


def ids_of(*pieces: str) -> list[int]:
    """Tags are single tokens, and each letter of the rest."""
    names = [[piece] if piece in TAGS else list(piece.replace(" ", "Ġ")) for piece in pieces]
    return [TOKENIZER.convert_tokens_to_ids(name) for one in names for name in one]


def attempt(ids: list[int], stops: tuple[str, ...], begun: Prefix | None = None) -> list[Piece]:
    """What readers are told of a model that says `ids`, from where an earlier attempt has come to."""
    given = begun or Prefix()
    known = len(given.token_ids)
    heard = DETOKENIZER.resume(DETOKENIZER.begin(), given.token_ids, given.text, stops)
    sequence = Sequence("a", [1, *given.token_ids], 1, len(ids), Sampling(1), stops)
    sequence.spoken = heard.spoken
    work = Work("a", CHAT, {}, 1, given.text, given.token_ids, finish_reason=given.finish_reason)
    read_as_messages([sequence], REPLIES, work, [1], DETOKENIZER)
    told: list[Piece | None] = []
    if heard.stopped or sequence.ended:
        told.append(piece_of(sequence, heard.chunk, str, "stop"))
        return [piece for piece in told if piece is not None]
    for token in ids[known:]:
        heard = DETOKENIZER.push(sequence.spoken, token, stops)
        sequence.spoken = heard.spoken
        told.append(piece_of(sequence, heard.chunk, str, "stop" if heard.stopped else ""))
        if heard.stopped:
            break
    else:
        heard = DETOKENIZER.flush(sequence.spoken, stops)
        told.append(piece_of(sequence, heard.chunk, str, "length"))
    return [piece for piece in told if piece is not None]


def message(pieces: list[Piece]) -> dict[str, Any]:
    made = Message()
    for piece in pieces:
        made.add(piece.parts or ())
    return made.to_json()


def begun_by(pieces: list[Piece]) -> Prefix:
    ids = tuple(token for piece in pieces for token in piece.token_ids)
    text = "".join(piece.text for piece in pieces)
    return Prefix(text, ids, pieces[-1].finish_reason if pieces else "")


@pytest.mark.parametrize(
    ("said", "stops", "thought", "content"),
    [
        # The tag, and the letter that a stop string begins with, come in one piece.
        (("<think>", "ab", "</think>", "cd", "Sxy"), ("Sx",), "ab", "cd"),
        (("<think>", "ab", "</think>", "Sxy"), ("Sx",), "ab", ""),
        (("<think>", "ab", "</think>", "cSxy"), ("cS",), "ab", ""),
        (("<think>", "ab", "</think>", "cdS"), ("cdX", "dS"), "ab", "c"),
        # A stop string around a tag, and one that is a tag or begins with one.
        (("<think>", "ab", "</think>", "cd"), ("bc",), "a", ""),
        (("<think>", "ab", "</think>", "cd"), ("</think>",), "ab", ""),
        (("<think>", "ab", "</think>", "cd"), ("b</think>c",), "a", ""),
        (("<think>", "ab", "</think>", "cd"), ("</think>cd",), "ab", ""),
    ],
)
def test_a_tag_before_a_stop_string_is_read_in_every_attempt(
    said: tuple[str, ...], stops: tuple[str, ...], thought: str, content: str
) -> None:
    ids = ids_of(*said)
    pieces = attempt(ids, stops)

    whole = message(pieces)
    assert (whole.get("reasoning_content"), whole["content"] or "") == (thought, content)
    for cut in range(len(pieces) + 1):
        after = attempt(ids, stops, begun_by(pieces[:cut]))
        assert message([*pieces[:cut], *after]) == whole


@settings(deadline=None, max_examples=examples(150))
@given(
    st.lists(st.sampled_from([*TAGS, "a", "b", '{"name": "now"', "}", "S"]), max_size=12),
    st.lists(
        st.lists(st.sampled_from(["S", "a", "b", *TAGS]), min_size=1, max_size=3).map("".join),
        min_size=1,
        max_size=2,
    ),
)
def test_a_resumed_message_is_that_of_an_undisturbed_attempt(
    said: list[str], stop: list[str]
) -> None:
    ids, stops = ids_of(*said), tuple(stop)
    pieces = attempt(ids, stops)
    whole = message(pieces)

    for cut in range(len(pieces) + 1):
        after = attempt(ids, stops, begun_by(pieces[:cut]))
        assert message([*pieces[:cut], *after]) == whole
