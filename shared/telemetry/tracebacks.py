"""An exception as data: what it is, where it was raised, what caused it."""

import traceback
from typing import Any

from shared.telemetry.redaction import redact

MOST_FRAMES = 30
MOST_CAUSES = 5
MOST_CHARS = 1000


def described(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """`{type, message, frames: [{file, line, function}], cause}`, innermost frame last, within bounds."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    found: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": redact(str(error)[:MOST_CHARS]),
        "frames": [
            {"file": frame.filename, "line": frame.lineno, "function": frame.name}
            for frame in frames
        ],
    }
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is not None and depth < MOST_CAUSES:
        found["cause"] = described(cause, depth + 1)
    return found
