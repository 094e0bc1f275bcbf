"""Log-probabilities of a text's tokens as a job's output has them."""

from tests.tiny_models import byte_level_tokenizer
from workers.engines.loading.vocabulary import REPLACEMENT, Vocabulary
from workers.engines.texts.logprobs import namer, to_json
from workers.engines.texts.sampling import Score


def test_a_part_of_a_character_has_its_bytes_beside_it() -> None:
    tokenizer = byte_level_tokenizer()
    parts = tokenizer("þ")["input_ids"]
    (letter,) = tokenizer("a")["input_ids"]
    assert len(parts) == 2

    rows = to_json(
        [Score(token, -0.5, ((letter, -1.0), (parts[0], -2.0))) for token in (letter, *parts)],
        namer(Vocabulary.of(tokenizer)),
        alone=False,
    )

    assert [row["token"] for row in rows] == ["a", REPLACEMENT, REPLACEMENT]
    assert "bytes" not in rows[0]
    assert bytes(rows[1]["bytes"] + rows[2]["bytes"]).decode() == "þ"
    assert [one.get("bytes") for one in rows[0]["top"]] == [None, rows[1]["bytes"]]
