"""Everything that decides the result of a run, and its command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_POSITIONS = 1024


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run."""

    out: Path
    steps: int
    seed: int
    threads: int
    batch_size: int  # windows per step
    context: int  # tokens per window
    vocab_size: int
    hidden_size: int
    layers: int
    muon_rate: float  # peak learning rate of the matrices inside the layers
    adam_rate: float  # peak learning rate of the embedding and the norms
    weight_decay: float  # of the matrices inside the layers
    dropout: float  # share of the features zeroed while training
    held_out: float  # share of the characters
    log_every: int  # steps


def parse_args(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; the defaults are those of the model in the repository."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo_model",
        description="Train a very small Llama on the Python language reference, and save it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("models/demo-llama"), help="directory to write")
    add("--steps", type=int, default=1800, help="optimizer steps")
    add("--seed", type=int, default=0, help="of the split, the weights, the batches, the samples")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--batch-size", type=int, default=4, help="windows per step")
    add("--context", type=int, default=512, help="tokens per window")
    add("--vocab-size", type=int, default=2048, help="entries of the tokenizer")
    add("--hidden-size", type=int, default=192, help="a multiple of 64")
    add("--layers", type=int, default=4, help="transformer layers")
    add("--muon-rate", type=float, default=0.02, help="peak learning rate of layer matrices")
    add("--adam-rate", type=float, default=0.003, help="peak learning rate of the other parameters")
    add("--weight-decay", type=float, default=0.1, help="of layer matrices")
    add("--dropout", type=float, default=0.15, help="share of features zeroed while training")
    add("--held-out", type=float, default=0.08, help="most of the characters to hold out, as share")
    add("--log-every", type=int, default=100, help="steps between two measurements")
    values = parser.parse_args(arguments)
    if values.hidden_size % 64:
        parser.error("--hidden-size must be a multiple of 64")
    if not 0 < values.context <= MAX_POSITIONS:
        parser.error(f"--context must be between 1 and {MAX_POSITIONS}")
    if min(values.steps, values.threads, values.batch_size, values.layers, values.log_every) < 1:
        parser.error("--steps, --threads, --batch-size, --layers and --log-every must be positive")
    return Settings(**vars(values))
