"""Stop strings in texts that have a least length: they count behind it, in a resumed text as in one whole."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tests.workers.engines.texts.test_detokenizer import (
    DETOKENIZERS,
    NAMES,
    STOPS,
    TEXTS,
    encode,
    random_ids,
    relaxed,
)
from workers.engines.texts.chunks import Chunk
from workers.engines.texts.detokenizer import Spoken


@dataclass
class Told:
    """What was shown, with how many tokens each time, and whether it stopped."""

    chunks: list[Chunk] = field(default_factory=list)
    stopped: bool = False

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


def tell(
    name: str,
    ids: list[int],
    stops: tuple[str, ...],
    least: int,
    spoken: Spoken,
    said: int = 0,
) -> Told:
    """The tokens of `ids` from number `said` on, as a sequence hears them."""
    told = Told()
    for number in range(said, len(ids)):
        heeded = stops if number >= least else ()
        heard = DETOKENIZERS[name].push(spoken, ids[number], heeded)
        spoken = heard.spoken
        if heard.chunk.text:
            told.chunks.append(heard.chunk)
        if heard.stopped:
            told.stopped = True
            return told
    heard = DETOKENIZERS[name].flush(spoken, stops if len(ids) > least else ())
    told.stopped = heard.stopped
    if heard.chunk.text:
        told.chunks.append(heard.chunk)
    return told


@relaxed
@given(st.data(), NAMES, STOPS, st.integers(0, 12), st.booleans())
def test_a_text_with_a_least_length_resumes_as_if_nothing_had_happened(
    data: st.DataObject, name: str, stops: list[str], least: int, odd: bool
) -> None:
    ids = data.draw(random_ids(name)) if odd else encode(name, data.draw(TEXTS))
    once = tell(name, ids, tuple(stops), least, Spoken())
    cut = data.draw(st.integers(0, len(once.chunks)))
    shown = [token for chunk in once.chunks[:cut] for token in chunk.token_ids]
    text = "".join(chunk.text for chunk in once.chunks[:cut])

    heard = DETOKENIZERS[name].resume(Spoken(), shown, text, stops, least)

    if heard.stopped:
        assert once.stopped and once.text == text
        return
    rest = tell(name, ids, tuple(stops), least, heard.spoken, len(shown))
    assert (text + rest.text, rest.stopped) == (once.text, once.stopped)


def test_a_stop_string_counts_where_it_lies_behind_the_least_length() -> None:
    ids = encode("byte-level", "end. and so on. end.")
    least = len(encode("byte-level", "end. and"))
    assert tell("byte-level", ids, ("end",), 0, Spoken()).text == ""
    assert tell("byte-level", ids, ("end",), least, Spoken()).text == "end. and so on. "
