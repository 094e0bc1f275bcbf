"""Each example runs, as its catalogue names it."""

import base64
import struct
import zlib
from pathlib import Path

import pytest

from shared.domain.errors import InputRefused
from shared.domain.models.catalog_file import load_catalog
from tests.engine_driver import Ran, drive
from workers.engines.base import Engine, Failed, Work
from workers.engines.registry import build

CATALOG = load_catalog(Path(__file__).parents[2] / "examples" / "catalog.yaml")


def loaded(name: str) -> Engine:
    engine = build(CATALOG.get(name))
    engine.load()
    return engine


def run(engine: Engine, *inputs: object) -> Ran:
    return drive(engine, [Work(str(n), item, {}, seed=0) for n, item in enumerate(inputs)])


def png(rows: list[bytes], filters: bytes) -> str:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    lines = b"".join(bytes([kind]) + row for kind, row in zip(filters, rows, strict=True))
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def test_the_classifier_says_the_same_alone_and_in_a_batch() -> None:
    engine = loaded("classifier")
    texts = ["Is it?", "It is so.", "Oh!", "いろは", "a much longer statement than the others are"]
    together = run(engine, *texts)

    for n, text in enumerate(texts):
        output = together.finished(str(n)).output
        assert sum(output["scores"].values()) == pytest.approx(1)
        alone = run(engine, text).finished("0").output
        assert output["label"] == alone["label"]
        assert output["scores"] == pytest.approx(alone["scores"])


@pytest.mark.parametrize("item", [7, "", "x" * 5000])
def test_the_classifier_refuses_what_is_no_text(item: object) -> None:
    with pytest.raises(InputRefused):
        loaded("classifier").admit(Work("a", item, {}, seed=0))


def test_the_image_model_reads_a_png_and_pixels_alike() -> None:
    from examples.image_model import read_png

    rows = [bytes([10, 20, 30]), bytes([5, 5, 5]), bytes([1, 0, 255]), bytes([2, 2, 2]), bytes(3)]
    image = png(rows, bytes([0, 1, 2, 3, 4]))
    pixels = read_png(image)
    assert pixels[:3] == [[10, 20, 30], [5, 10, 15], [6, 10, 14]]
    assert pixels[3:] == [[5, 9, 13], [5, 9, 13]]

    ran = run(loaded("image"), {"png": image}, {"pixels": pixels})
    assert ran.finished("0").output == ran.finished("1").output
    assert set(ran.finished("0").output) == {"label"}


def test_an_image_that_cannot_be_read_fails_alone() -> None:
    bad = [7, {}, {"png": "%"}, {"png": "AAAA"}, {"pixels": [[1], [1, 2]]}, {"pixels": []}]
    ran = run(loaded("image"), {"pixels": [[0, 255]]}, *bad)

    assert ran.finished("0").output["label"]
    codes = [end.code for end in ran.outcomes.values() if isinstance(end, Failed)]
    assert codes == ["invalid_input"] * len(bad)


def test_the_streaming_model_shows_every_value() -> None:
    ran = run(loaded("orbit"), {"rate": 2, "steps": 3}, {"rate": 3.7, "steps": 5})

    assert [piece.output["step"] for piece in ran.pieces["1"]] == [0, 1, 2, 3, 4]
    assert ran.finished("0").output == {"value": 0.5}
    assert ran.finished("1").output == {"value": ran.pieces["1"][-1].output["value"]}
