"""An image model of one's own: a PNG in base64, or rows of grey values, to a label. Pure torch."""

import base64
import binascii
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.domain.errors import InputRefused
from workers.engines.one_shot import OneShotModel

SIDE = 16
MOST_PIXELS = 1 << 22
LABELS = ("dark", "bright", "striped", "plain")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ImageModel(OneShotModel):
    """`{"png": "<base64>"}` or `{"pixels": [[0…255, …], …]}` in, `{"label": …}` out. It is not trained."""

    def load(self, device: torch.device) -> None:
        torch.manual_seed(0)
        self._device = device
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4)]
        self._network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, len(LABELS))).to(device)

    def predict(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """An image that cannot be read is an exception in its own row; the others go on."""
        images = [read_or_refuse(item) for item in inputs]
        good = [image for image in images if isinstance(image, Tensor)]
        if not good:
            return images
        best = iter(self._network(torch.stack(good).to(self._device)).argmax(dim=1).tolist())
        return [
            {"label": LABELS[next(best)]} if isinstance(image, Tensor) else image
            for image in images
        ]


def read_or_refuse(item: Any) -> Tensor | InputRefused:
    """An input as [1, SIDE, SIDE] in 0 … 1."""
    try:
        pixels = read_png(item["png"]) if "png" in item else item["pixels"]
        image = torch.tensor(pixels, dtype=torch.float32)
        if image.dim() != 2 or image.numel() == 0:
            raise ValueError("an image is rows of equal length")
    except (KeyError, TypeError, ValueError, IndexError, struct.error, zlib.error) as error:
        return InputRefused(f"The image cannot be read: {error}")
    return functional.interpolate(image[None, None] / 255, size=(SIDE, SIDE))[0]


def read_png(text: str) -> list[list[int]]:
    """Grey 8-bit PNG without interlacing to rows (RFC 2083). Raises `ValueError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    width, height, packed, at = 0, 0, b"", len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            if rest != [8, 0, 0, 0, 0] or not 0 < width * height <= MOST_PIXELS:
                raise ValueError("only grey 8-bit PNGs without interlacing, up to 4 megapixels")
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    # The size is known, so that a small file cannot blow up to any size.
    raw = zlib.decompressobj().decompress(packed, (width + 1) * height)
    if not raw or len(raw) != (width + 1) * height:
        raise ValueError("the image data are cut short")
    rows: list[list[int]] = []
    for start in range(0, len(raw), width + 1):
        above = rows[-1] if rows else [0] * width
        rows.append(unfilter(raw[start], raw[start + 1 : start + 1 + width], above))
    return rows


def unfilter(kind: int, line: bytes, above: list[int]) -> list[int]:
    """Undo a scan line's filter, section 6 of RFC 2083, one byte a pixel."""
    row: list[int] = []
    for x, value in enumerate(line):
        left, up = (row[-1] if x else 0), above[x]
        corner = above[x - 1] if x else 0
        nearest = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
        row.append((value + (0, left, up, (left + up) // 2, nearest)[kind]) % 256)
    return row
