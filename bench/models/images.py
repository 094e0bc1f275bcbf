"""An image classifier through the pipeline engine beside the same pipeline in LitServe."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, ViTConfig, ViTImageProcessor

from bench.command import SCRATCH
from bench.models.asking import Answered
from bench.models.contests import Answers, Contest, Side
from bench.models.subjects import LitServe, Whole

CLIENTS = 32
SIDE = 96
NAME = "classifier"
CLOSE = 1e-3
"""Largest difference of scores that count as the same."""


def images(jobs: int) -> Contest:
    """One picture a job, as base64."""
    folder = save_classifier(SCRATCH / "image-classifier")
    pictures = [_picture(number) for number in range(jobs)]
    entry = {
        "engine": "pipeline",
        "options": {"task": "image-classification"},
        "path": str(folder),
        "device": "cpu",
        "dtype": "float32",
    }
    ours = [{"model": NAME, "input": {"image": picture}} for picture in pictures]
    theirs = [{"image": picture} for picture in pictures]
    return Contest(
        name="images",
        title=f"a ViT of 6 layers, {jobs} pictures of 128 x 128, {CLIENTS} clients",
        unit="pictures",
        clients=CLIENTS,
        rate_goal=1.2,
        p95_goal=0.0,
        least=1.0,
        alike=_alike,
        sides=[
            Side(Whole(NAME, entry, "/v1/infer"), ours, _ours),
            *(
                Side(LitServe("litserve_images", folder, size), theirs, _theirs)
                for size in (8, CLIENTS)
            ),
        ],
    )


def save_classifier(folder: Path) -> Path:
    """A random vision transformer with its processor."""
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=SIDE,
        patch_size=16,
        num_labels=10,
        initializer_range=0.2,
    )
    AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def _picture(seed: int) -> str:
    packed = io.BytesIO()
    numbers = np.random.default_rng(seed).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(numbers).save(packed, "JPEG")
    return base64.b64encode(packed.getvalue()).decode()


def _ours(answered: Answered) -> tuple[Answers, int]:
    found = [msgspec.json.decode(each)["output"] for each in answered.contents]
    return found, len(found)


def _theirs(answered: Answered) -> tuple[Answers, int]:
    found = [msgspec.json.decode(each)["classes"] for each in answered.contents]
    return found, len(found)


def _alike(ours: Any, theirs: Any) -> bool:
    mine = {row["label"]: row["score"] for row in ours}
    other = {row["label"]: row["score"] for row in theirs}
    return mine.keys() == other.keys() and all(abs(mine[k] - other[k]) < CLOSE for k in mine)
