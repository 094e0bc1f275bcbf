"""What the commands of all benchmarks share: their options, how they end, and where results go."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from bench.programs import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench"
"""What a benchmark needs while it runs: each has a folder below."""
FAILED, INTERRUPTED = 1, 130
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""For the environment, before anything imports transformers: no network, no progress bars."""


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`, which takes the folder that results are written to."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return made


def run(measure: Callable[[], int], *failures: type[Exception]) -> int:
    """Returns the exit status: what `measure` returns; 1, with a line on stderr, when it raises one of
    `failures`; 130 when it is interrupted.
    """
    with _interruptible():
        try:
            return measure()
        except KeyboardInterrupt:
            print("interrupted; nothing is written", file=sys.stderr)
            return INTERRUPTED
        except failures as failure:
            print(failure, file=sys.stderr)
            return FAILED


def today() -> str:
    """The UTC day, with which the names of results begin."""
    return datetime.now(UTC).date().isoformat()


def publish(result: msgspec.Struct, text: str, folder: Path, stem: str) -> None:
    """Print the report, and write it as Markdown beside the result as JSON."""
    print(f"\n{text}")
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(result), indent=1)
    for suffix, content in ((".md", text.encode()), (".json", document + b"\n")):
        path = folder / f"{stem}{suffix}"
        path.write_bytes(content)
        print(f"wrote {path}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where a shell has started this in the background and told it to ignore that."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(signum, _interrupt) for signum in signals]
    try:
        yield
    finally:
        for signum, handler in zip(signals, before, strict=True):
            signal.signal(signum, handler)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
