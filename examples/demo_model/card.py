"""The model card: its text with gaps, filled from what a run measured."""

import math
import platform
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import LlamaConfig

from examples.demo_model.corpus import Corpus
from examples.demo_model.model import EOS_ID, EOS_TOKEN, Loss
from examples.demo_model.samples import NEW_TOKENS, Sample
from examples.demo_model.settings import Settings
from examples.demo_model.training import Curve

CARD = (Path(__file__).parent / "card.md").read_text("utf8")


@dataclass(frozen=True)
class Report:
    """All that the model card says about one run."""

    settings: Settings
    corpus: Corpus
    config: LlamaConfig
    parameters: int
    curve: Curve
    train_loss: Loss  # of the saved weights
    held_out_loss: Loss  # of the saved weights
    samples: tuple[Sample, ...]


def machine() -> str:
    """Kind of processor, as the operating system names it."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf8"), re.MULTILINE)
        name = found.group(1).strip() if found else name
    return f"{name or 'unknown processor'} ({platform.machine()}), no GPU"


def format_sample(sample: Sample) -> str:
    """A sample as it stands in the card and on the terminal."""
    return f"{sample.how} (copied: {sample.copied_chars} characters)\n\n```text\n{sample.text}\n```"


def loss_note(report: Report) -> str:
    """Say how much of the training loss is memorising."""
    settings, curve = report.settings, report.curve
    note = (
        "The distance between the two rows is mostly memorising. The held-out loss was lowest, at "
        f"{curve.best_held_out.nats_per_token:.3f} nats/token, after {curve.best_step} of "
        f"{settings.steps} steps (measured every {settings.log_every} steps). "
    )
    if curve.best_step < settings.steps:
        note += (
            "Training went on because what a demo prints reads better when the model knows its "
            "source well. "
        )
    note += f"A uniform guess would cost {math.log(settings.vocab_size):.3f} nats/token."
    return textwrap.fill(note, 99)


def write_card(report: Report) -> str:
    """Fill the model card from what this run measured."""
    settings, corpus, curve = report.settings, report.corpus, report.curve
    return CARD.format(
        settings=settings,
        corpus=corpus,
        config=report.config,
        curve=curve,
        loss_note=loss_note(report),
        train_loss=report.train_loss,
        held_out_loss=report.held_out_loss,
        parameters=report.parameters,
        millions=report.parameters / 1e6,
        minutes=curve.cpu_seconds / 60,
        epochs=curve.tokens_seen / report.train_loss.tokens,
        chars_per_token=corpus.train_chars / report.train_loss.tokens,
        train_topics=len(corpus.train),
        held_out_topics=len(corpus.held_out),
        held_out_names=textwrap.fill(", ".join(sorted(d.name for d in corpus.held_out)), 99),
        digest=corpus.digest(),
        command=shlex.join(["python", "-m", "examples.demo_model", *sys.argv[1:]]),
        machine=machine(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        tokenizers=tokenizers.__version__,
        eos=EOS_TOKEN,
        eos_id=EOS_ID,
        new_tokens=NEW_TOKENS,
        samples="\n\n".join(format_sample(sample) for sample in report.samples),
    )
