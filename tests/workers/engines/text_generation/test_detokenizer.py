from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from workers.engines.text_generation.detokenizer import Chunk, Detokenizer, Spoken, first_stop

TOKENIZERS = {
    "byte-level": byte_level_tokenizer(),
    "sentencepiece": sentencepiece_tokenizer(),
    "wordpiece": wordpiece_tokenizer(),
}
DETOKENIZERS = {name: Detokenizer.of(tokenizer) for name, tokenizer in TOKENIZERS.items()}
NAMES = st.sampled_from(["byte-level", "sentencepiece"])
TEXTS = st.text(max_size=40) | st.text("ab <é🎉\n", max_size=80)
STOPS = st.lists(st.text("abé 🎉", min_size=1, max_size=4), min_size=1, max_size=3)
relaxed = settings(deadline=None, max_examples=150)


@dataclass
class Told:
    """A text told token by token: what was shown, when it stopped, and the state after each chunk."""

    chunks: list[Chunk] = field(default_factory=list)
    stopped: bool = False

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def token_ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.token_ids]


def tell(
    name: str, ids: list[int], stops: tuple[str, ...] = (), spoken: Spoken | None = None
) -> Told:
    detokenizer = DETOKENIZERS[name]
    spoken = spoken or Spoken()
    told = Told()
    for token in ids:
        heard = detokenizer.push(spoken, token, stops)
        spoken = heard.spoken
        if heard.chunk.text:
            told.chunks.append(heard.chunk)
        if heard.stopped:
            told.stopped = True
            return told
    heard = detokenizer.flush(spoken, stops)
    told.stopped = heard.stopped
    if heard.chunk.text:
        told.chunks.append(heard.chunk)
    return told


def decode(name: str, ids: list[int]) -> str:
    text: str = TOKENIZERS[name].decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def encode(name: str, text: str) -> list[int]:
    ids: list[int] = TOKENIZERS[name](text, add_special_tokens=False)["input_ids"]
    return ids


def random_ids(name: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(TOKENIZERS[name]) - 1), max_size=120)


@relaxed
@given(NAMES, TEXTS)
def test_pieces_make_the_text(name: str, text: str) -> None:
    ids = encode(name, text)

    assert tell(name, ids).text == decode(name, ids)


@relaxed
@given(st.data(), st.sampled_from(sorted(TOKENIZERS)))
def test_any_tokens_at_all_make_the_text_that_decoding_them_at_once_makes(
    data: st.DataObject, name: str
) -> None:
    ids = data.draw(random_ids(name))

    assert tell(name, ids).text == decode(name, ids)


@relaxed
@given(st.data(), NAMES)
def test_every_chunk_is_exactly_the_text_of_its_tokens(data: st.DataObject, name: str) -> None:
    ids = data.draw(random_ids(name))

    told = tell(name, ids)

    shown: list[int] = []
    text = ""
    for chunk in told.chunks:
        shown += chunk.token_ids
        text += chunk.text
        assert text == decode(name, shown)
    assert ids[: len(shown)] == shown


@relaxed
@given(NAMES, TEXTS)
def test_no_chunk_of_a_valid_text_holds_half_a_character(name: str, text: str) -> None:
    if "\ufffd" not in text:
        assert all("\ufffd" not in chunk.text for chunk in tell(name, encode(name, text)).chunks)


@relaxed
@given(NAMES, st.text("abé 🎉", max_size=60), STOPS)
def test_a_text_ends_before_its_first_stop_string(name: str, text: str, stops: list[str]) -> None:
    ids = encode(name, text)
    full = decode(name, ids)
    cut = first_stop(full, stops)

    told = tell(name, ids, tuple(stops))

    assert told.stopped is (cut is not None)
    assert told.text == (full if cut is None else full[:cut])
    assert ids[: len(told.token_ids)] == told.token_ids
    for count in range(len(told.chunks)):
        before = [token for chunk in told.chunks[:count] for token in chunk.token_ids]
        assert "".join(chunk.text for chunk in told.chunks[:count]) == decode(name, before)


@relaxed
@given(NAMES, st.text("abé 🎉", max_size=40), STOPS)
def test_a_resumed_text_goes_on_as_if_nothing_had_happened(
    name: str, text: str, stops: list[str]
) -> None:
    ids = encode(name, text)
    told = tell(name, ids, tuple(stops))

    for cut in range(len(told.chunks) + 1):
        shown = [token for chunk in told.chunks[:cut] for token in chunk.token_ids]
        said = "".join(chunk.text for chunk in told.chunks[:cut])
        heard = DETOKENIZERS[name].resume(shown, said, stops)
        if heard.stopped:
            assert said == told.text
            continue
        rest = tell(name, ids[len(shown) :], tuple(stops), heard.spoken)
        assert said + rest.text == told.text
        assert rest.stopped is told.stopped


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_the_first_stop_string_is_the_one_that_is_complete_first(
    text: str, stops: list[str]
) -> None:
    expected = None
    for end in range(1, len(text) + 1):
        complete = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            expected = min(complete)
            break

    assert first_stop(text, stops) == expected


def test_a_character_waits_for_its_last_byte() -> None:
    ids = encode("sentencepiece", "a🎉b")
    detokenizer = DETOKENIZERS["sentencepiece"]
    spoken, shown = Spoken(), []

    for token in ids:
        heard = detokenizer.push(spoken, token, ())
        spoken = heard.spoken
        shown.append(heard.chunk.text)

    assert "".join(shown) == "a🎉b"
    assert [text for text in shown if text] == ["a", "🎉b"]


def test_a_beginning_stop_string_is_held_back_in_whole_tokens() -> None:
    detokenizer = DETOKENIZERS["byte-level"]
    letters = {letter: encode("byte-level", letter)[0] for letter in "xyz"}
    spoken, shown = Spoken(), []

    for letter in "xyxyz":
        heard = detokenizer.push(spoken, letters[letter], ("xyxz",))
        spoken = heard.spoken
        shown.append(heard.chunk.text)

    assert shown == ["", "", "", "xy", "xyz"]


def test_pushing_leaves_the_old_state_as_it_was() -> None:
    detokenizer = DETOKENIZERS["byte-level"]
    ids = encode("byte-level", "The quick 🎉")
    spoken = Spoken()
    first = detokenizer.push(spoken, ids[0], ())

    again = detokenizer.push(spoken, ids[0], ())

    assert spoken == Spoken()
    assert first == again


def test_text_that_was_streamed_is_not_taken_back_by_a_stop_string_across_the_seam() -> None:
    detokenizer = DETOKENIZERS["byte-level"]
    a, b = encode("byte-level", "a")[0], encode("byte-level", "b")[0]
    heard = detokenizer.resume([a], "a", ["ab"])

    heard = detokenizer.push(heard.spoken, b, ["ab"])

    assert heard.stopped
    assert heard.chunk.text == ""


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
def test_the_work_of_a_token_does_not_grow_with_the_text(name: str) -> None:
    ids = encode(name, "The quick brown fox jumps over the lazy dog. " * 40)
    widths: list[int] = []
    inner = DETOKENIZERS[name]

    class Counting(Detokenizer):
        def __init__(self) -> None:
            super().__init__(self._count, inner._byte_tokens)

        def _count(self, window: object) -> str:
            widths.append(len(window))  # type: ignore[arg-type]
            return inner._decode(window)  # type: ignore[arg-type]

    spoken = Spoken()
    for token in ids:
        spoken = Counting().push(spoken, token, ()).spoken

    assert len(ids) > 200
    assert max(widths) < 80
