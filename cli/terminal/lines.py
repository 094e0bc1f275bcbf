"""Formats the log lines of a server's processes as JSON, for a program that reads them."""

import sys
from collections.abc import Mapping
from datetime import UTC
from typing import IO, Any

import msgspec

from shared.domain.schemas import rfc3339
from shared.telemetry.redaction import redact

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class JsonLines:
    """In the place of honcho's printer. Lines that are JSON objects pass; others become an event each."""

    width = 0

    def __init__(self, output: IO[str] | None = None) -> None:
        self.output = output if output is not None else sys.stdout

    def write(self, message: Any) -> None:
        """Print a message of honcho's, of type `line`."""
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        for line in text.splitlines():
            if line.strip():
                self._print(line if _is_object(line) else _event(message, line))

    def show(self, message: Any, event: str, facts: Mapping[str, Any]) -> None:
        """Print what a terminal shows as a block of text: one event with the facts in it."""
        self._print(_event(message, event, facts))

    def _print(self, line: str) -> None:
        print(line, file=self.output, flush=True)


def _is_object(line: str) -> bool:
    try:
        _decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _event(message: Any, text: str, facts: Mapping[str, Any] | None = None) -> str:
    said = {
        "time": rfc3339(int(message.time.astimezone(UTC).timestamp() * 1000)),
        "level": "info",
        "logger": "truthgpt.up",
        "event": redact(text.encode("utf-8", "replace").decode()),
        "process": message.name,
        **(facts or {}),
    }
    return _encode(said).decode()
