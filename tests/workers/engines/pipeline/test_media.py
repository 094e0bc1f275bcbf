"""Whatever bytes a job brings: an image, a sound, or a refusal, and never much memory."""

import base64
import io
import math
import random
import tracemalloc
import wave
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.domain.errors import InputRefused
from shared.domain.file_outputs import contents
from workers.engines.pipeline.media import (
    FORMATS,
    data_of,
    jsonable,
    read_image,
    read_sound,
    with_files,
)

RATE = 16_000


def picture(kind: str) -> bytes:
    numbers = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(numbers).save(packed, kind)
    return packed.getvalue()


def wav(samples: Any, rate: int = RATE, channels: int = 1, width: int = 2) -> bytes:
    packed = io.BytesIO()
    with wave.open(packed, "wb") as written:
        written.setparams((channels, width, rate, 0, "NONE", ""))
        written.writeframes(np.asarray(samples).astype("<i2").tobytes())
    return packed.getvalue()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut off, or some bytes of it others, most of them in its head."""
    found = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)
    for _ in range(chance.choice((1, 2, 4))):
        if found:
            place = chance.randrange(min(len(found), chance.choice((48, 200, len(found)))))
            found[place] = chance.choice((0, 1, 128, 255, chance.randrange(256)))
    return bytes(found)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_image_is_read_or_refused(kind: str) -> None:
    whole, chance = picture(kind), random.Random(1)
    refused = 0

    for _ in range(150):
        try:
            assert read_image(damaged(whole, chance)).mode == "RGB"
        except InputRefused:
            refused += 1

    assert refused


def test_base64_may_be_broken_into_lines() -> None:
    data = picture("PNG")

    assert data_of(base64.encodebytes(data).decode(), "image") == data
    assert data_of(f"data:image/png;base64,{base64.b64encode(data).decode()}\r\n", "image") == data
    with pytest.raises(InputRefused, match=r"input\.image is not base64"):
        data_of("é", "image")


def test_a_damaged_sound_is_read_or_refused() -> None:
    whole, chance = wav([1000, -1000] * 400), random.Random(2)
    refused = 0

    for _ in range(500):
        try:
            found = read_sound(damaged(whole, chance), RATE)
            assert found["raw"].dtype == np.float32 and np.isfinite(found["raw"]).all()
        except InputRefused:
            refused += 1

    assert refused


@pytest.mark.parametrize("own", [1_000, 8_000, 11_025, 44_100, 44_101, 47_999, 383_999])
def test_a_tone_of_any_rate_keeps_its_pitch_and_takes_little_memory(own: int) -> None:
    hertz = 100
    tone = np.sin(2 * math.pi * hertz * np.arange(own) / own) * 20_000

    tracemalloc.start()
    found = read_sound(wav(tone, own), RATE)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    right = np.sin(2 * math.pi * hertz * np.arange(RATE) / RATE) * 20_000 / 32768
    assert abs(len(found["raw"]) - RATE) <= 1
    middle = slice(1000, -1000)
    assert np.abs(found["raw"][: RATE - 1] - right[: RATE - 1])[middle].max() < 0.02
    assert most < 200e6


@pytest.mark.parametrize("own", [1, 999, 384_001, 2**30])
def test_a_rate_that_no_sound_has_is_refused(own: int) -> None:
    with pytest.raises(InputRefused, match="samples a second; 1000 to 384000 are taken"):
        read_sound(wav([1] * 100, own), RATE)


def test_a_sound_without_samples_is_refused() -> None:
    with pytest.raises(InputRefused, match="has no samples"):
        read_sound(wav([]), RATE)


def test_frames_that_are_cut_off_are_left_out() -> None:
    whole = wav([1000, -1000, 1000, -1000], channels=2)

    assert len(read_sound(whole[:-1], RATE)["raw"]) == 1


def test_images_of_an_output_are_png_and_names_are_texts() -> None:
    found = jsonable({1: [Image.new("L", (2, 2))], "rest": (1.5, None)})

    assert found["1"][0].startswith("iVBOR") and found["rest"] == [1.5, None]


def test_images_and_sounds_of_an_output_become_files() -> None:
    samples = np.sin(np.arange(800) / 9)
    output = {"parts": [{"mask": Image.new("L", (2, 2)), "score": 0.5}], "more": (1,)}

    told = {**with_files(output), **with_files({"audio": samples[None], "sampling_rate": RATE})}

    [mask, sound] = [content for _, content in contents(told)]
    assert (mask.name, sound.name) == ("image.png", "sound.wav")
    assert Image.open(io.BytesIO(mask.data)).size == (2, 2)
    assert np.abs(read_sound(sound.data, RATE)["raw"] - samples).max() < 1e-3
    assert (told["parts"][0]["score"], told["sampling_rate"], told["more"]) == (0.5, RATE, [1])


def test_a_sound_that_is_not_numbers_becomes_no_file() -> None:
    with pytest.raises(ValueError, match="numbers"):
        with_files({"audio": np.array([[0.0, np.nan]]), "sampling_rate": RATE})
