"""Makes an image or a sound of a job's input, and bytes of those of an output. No file, no address."""

import base64
import binascii
import io
import math
import struct
import wave
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from shared.domain.errors import InputRefused
from shared.domain.file_outputs import on_its_way
from workers.engines.faults import SHAPED_BY_INPUT, of_the_engine

MAX_PIXELS = 64 * 2**20
"""Of one image, before any is decoded: a small file may hold a very large one."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_SECONDS = 3600
WIDTHS = range(1, 5)
"""Bytes that one sample of a WAV file may have."""
RATES = range(1_000, 384_001)
"""Samples a second that a sound may have."""
MOST_PHASES = 1_000
"""Of a resampling filter: a rate that has no simpler ratio to the model's is rounded to the nearest that has,
which over an hour is off by some milliseconds. A filter of all phases would grow with both rates."""
LOBES = 16
"""Zero crossings of the resampling filter on each side."""
FAULTS = (*SHAPED_BY_INPUT, EOFError, OSError, RuntimeError, SyntaxError, struct.error, wave.Error)
"""What Pillow and wave raise on a file that is damaged."""
Sound = dict[str, Any]
"""As transformers' pipelines take it: `raw`, float32 [samples] of one channel, and `sampling_rate` in Hz."""


def data_of(text: Any, what: str) -> bytes:
    """The bytes of base64, or of a data: URL. Raises `InputRefused`."""
    if isinstance(text, dict) and set(text) == {"file"}:
        raise InputRefused(f"The file of input.{what} is gone: it was deleted or has expired.")
    if not isinstance(text, str) or not text:
        raise InputRefused(f"input.{what} must be base64, or name a file.")
    start = text.find(",") + 1 if text.startswith("data:") else 0
    try:
        # `base64` and Python's encodebytes break it into lines.
        packed = text[start:].encode().translate(None, b" \t\r\n")
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise InputRefused(f"input.{what} is not base64.") from None


def read_image(data: bytes) -> Image.Image:
    """An image in RGB. Raises `InputRefused` for what is none, or has too many pixels."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise InputRefused(
                f"input.image has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are taken."
            )
        return image.convert("RGB")
    except InputRefused:
        raise
    except Image.DecompressionBombError:
        raise InputRefused(f"input.image has more than {MAX_PIXELS} pixels.") from None
    except FAULTS as error:
        if of_the_engine(error):
            raise
        raise InputRefused(
            f"input.image is no image of {', '.join(FORMATS)}, or not a whole one."
        ) from None


def read_sound(data: bytes, rate: int) -> Sound:
    """The mean of a WAV file's channels, at `rate` samples a second. Raises `InputRefused`."""
    try:
        with wave.open(io.BytesIO(data)) as opened:
            channels, width, own = opened.getparams()[:3]
            if width not in WIDTHS:
                raise InputRefused(f"input.audio has {8 * width} bits a sample; 8 to 32 are taken.")
            if opened.getnframes() > MAX_SECONDS * own:
                raise InputRefused(f"input.audio is longer than {MAX_SECONDS} s.")
            frames = opened.readframes(opened.getnframes())
    except InputRefused:
        raise
    except FAULTS as error:
        if of_the_engine(error):
            raise
        raise InputRefused(
            "input.audio is no WAV file of whole numbers (PCM); convert it, for example with"
            " `ffmpeg -i in.mp3 -ac 1 -ar 16000 out.wav`."
        ) from None
    if own not in RATES:
        raise InputRefused(
            f"input.audio has {own} samples a second; {RATES.start} to {RATES.stop - 1} are taken."
        )
    frames = frames[: len(frames) // (channels * width) * channels * width]
    if not frames:
        raise InputRefused("input.audio has no samples.")
    samples = _numbers(frames, width).reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return {"raw": resampled(samples, own, rate), "sampling_rate": rate}


def _numbers(frames: bytes, width: int) -> np.ndarray[Any, Any]:
    """Samples of `width` bytes as float32 from -1 to 1."""
    if width == 1:  # the only width without a sign
        return (np.frombuffer(frames, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        wide = np.zeros((len(frames) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    found = np.frombuffer(frames, f"<i{width}").astype(np.float32)
    return np.asarray(found / 2 ** (8 * width - 1))


def resampled(samples: np.ndarray[Any, Any], own: int, rate: int) -> np.ndarray[Any, Any]:
    """Samples at another rate, by a sinc filter under a Hann window."""
    if own == rate:
        return samples
    up, down = Fraction(rate, own).limit_denominator(MOST_PHASES).as_integer_ratio()
    cutoff = 0.95 * min(1.0, up / down)
    reach = math.ceil(LOBES / cutoff)
    taps = torch.arange(-reach, down + reach, dtype=torch.float64)
    phases = torch.arange(up, dtype=torch.float64)[:, None] * down / up
    away = (taps[None, :] - phases) * cutoff
    window = torch.cos(away.clamp(-LOBES, LOBES) * math.pi / LOBES / 2) ** 2
    kernel = (torch.sinc(away) * window * cutoff).float()[:, None]
    signal = functional.pad(torch.from_numpy(samples)[None, None], (reach, reach + down))
    found = functional.conv1d(signal, kernel, stride=down)[0].T.flatten()
    count = math.ceil(len(samples) * up / down)
    return np.asarray(found[:count].numpy())


def jsonable(output: Any) -> Any:
    """An output with its images as base64 of PNG; numbers, arrays and tensors are left as they are."""
    if isinstance(output, Image.Image):
        return base64.b64encode(_png(output)).decode()
    if isinstance(output, dict):
        return {str(name): jsonable(value) for name, value in output.items()}
    if isinstance(output, list | tuple):
        return [jsonable(value) for value in output]
    return output


def with_files(output: Any) -> Any:
    """An output whose images are to be PNG files, and its sounds WAV files: see `file_outputs`."""
    if isinstance(output, Image.Image):
        return on_its_way("image.png", _png(output))
    if isinstance(output, dict) and set(output) == {"audio", "sampling_rate"}:
        rate = int(output["sampling_rate"])
        return {
            "audio": on_its_way("sound.wav", _wav(output["audio"], rate)),
            "sampling_rate": rate,
        }
    if isinstance(output, dict):
        return {name: with_files(value) for name, value in output.items()}
    if isinstance(output, list | tuple):
        return [with_files(value) for value in output]
    return output


def _png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()


def _wav(samples: Any, rate: int) -> bytes:
    """Samples from -1 to 1, [samples] or [channels, samples], as PCM of 16 bits. Raises `ValueError`."""
    channels = np.atleast_2d(np.asarray(samples, np.float32))
    if not np.isfinite(channels).all():
        raise ValueError("the sound is not numbers alone")
    packed = io.BytesIO()
    with wave.open(packed, "wb") as written:
        written.setnchannels(len(channels))
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes((channels.clip(-1, 1) * 32767).round().astype("<i2").T.tobytes())
    return packed.getvalue()
