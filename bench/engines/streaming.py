"""The whole system, from a request to the last frame of its stream: real processes, real readers."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.engines.driving import Failed
from bench.engines.reader import Errand, Heard, Told
from bench.programs import REPOSITORY
from bench.subjects.ours import Ours
from bench.turn import last_words

STREAM = "/v1/infer/stream"
SHOWN = 300
"""Characters of a job that did not succeed."""


class System:
    """A subject that runs, and how its streams are read."""

    def __init__(self, url: str, headers: dict[str, str], knock: Any, folder: Path) -> None:
        self._url = url
        self._headers = headers
        self._knock = knock
        self._folder = folder

    def read(self, bodies: Sequence[Any], streams: int) -> Heard:
        """POST all bodies, `streams` at a time. Raises `Failed` unless every job succeeds."""
        errand = Errand(self._url, STREAM, self._headers, streams, self._knock, list(bodies))
        reader = subprocess.Popen(
            [sys.executable, "-m", "bench.engines.reader"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is this process' business; it ends the reader.
            start_new_session=True,
        )
        try:
            said, _ = reader.communicate(msgspec.json.encode(errand) + b"\n")
        finally:
            reader.kill()
            reader.wait()
        if reader.returncode != 0:
            raise Failed(f"the reader failed\n{last_words(self._folder)}")
        heard = msgspec.json.decode(said, type=Heard)
        for told in heard.told:
            if told.job is None or told.job["status"] != "succeeded":
                raise Failed(f"a job did not succeed: {told.job!r:.{SHOWN}}")
        return heard


@contextmanager
def system(model: str, entry: dict[str, Any], knock: Any, folder: Path) -> Iterator[System]:
    """All processes of this project, with a catalogue of one model; its files are in `folder`."""
    # JSON is YAML.
    catalogue = msgspec.json.encode({"models": {model: entry}}).decode()
    ours = Ours(model=model, catalogue=catalogue)
    folder.mkdir(parents=True)
    with ours.serve(folder) as serving:
        yield System(serving.url, ours.headers, knock, folder)


def delays(told: Sequence[Told]) -> list[float]:
    """Milliseconds from making to arriving of all tokens that came while every stream was running.

    A token's text is one or more times in microseconds, each followed by a space.
    """
    begins = max(stream.tokens[0].arrived for stream in told)
    ends = min(stream.tokens[-1].arrived for stream in told)
    return [
        token.arrived * 1e3 - int(stamp) / 1e3
        for stream in told
        for token in stream.tokens
        if begins <= token.arrived <= ends
        for stamp in token.text.split()
    ]
