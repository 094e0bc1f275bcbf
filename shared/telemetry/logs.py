"""Logs on standard error: one JSON line an event, or plain words where a person reads.

Everything goes through `logging`, that of libraries too. What is bound in `shared.context` and what a
call passes as `extra=` (strings, numbers and truth values) become members of the line.
"""

import _thread
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

import msgspec

from shared import context
from shared.domain.schemas import rfc3339
from shared.settings import Settings
from shared.telemetry.redaction import redact, redact_logs
from shared.telemetry.tracebacks import described

MOST_CHARS = 8192
"""No text of a line is longer: a pipe's reader gets lines whole, and nobody floods the log with one."""
QUIET = {
    "kombu": "WARNING",
    "celery.worker.strategy": "WARNING",
    "celery.app.trace": "WARNING",
    "httpx": "WARNING",
}
"""Libraries that say at INFO what only their authors want to know."""

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NUMBERS = (int, float)
_encode = msgspec.json.Encoder().encode
_root = logging.getLogger()
_log = logging.getLogger(__name__)


def configure(settings: Settings, process: str, **fields: str) -> None:
    """Log so from now on. `process` names this one's part; `fields` stand in each of its JSON lines.

    JSON, unless `ENABLE_STRUCTURED_LOGGING` is off or standard error is a terminal.
    """
    terminal = sys.stderr.isatty()
    structured = settings.enable_structured_logging and not terminal
    handler: logging.Handler
    if structured:
        handler = Lines(JsonFormatter(process, fields))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter(clock=terminal))
    _root.handlers[:] = [handler]
    _root.setLevel(settings.log_level)
    for name, level in {**QUIET, **settings.levels}.items():
        logging.getLogger(name).setLevel(level)
    redact_logs()
    logging.captureWarnings(True)
    # No line shows who called, nor from which thread: the library need not look (its HOWTO, Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; docs/observability.md lists the members."""

    def __init__(self, process: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = {"process": process, **fields}

    def format(self, record: logging.LogRecord) -> str:
        found = members(record)
        if record.exc_info and record.exc_info[1] is not None:
            found["exception"] = described(record.exc_info[1])
        return self.line(
            record.created, record.levelno, record.name, clipped(record.getMessage()), found
        )

    def line(
        self, created: float, level: int, logger: str, event: str, found: Mapping[str, Any]
    ) -> str:
        """The line of an event, with what was `found` beside it."""
        line = {
            "time": rfc3339(int(created * 1000)),
            "level": _level(level),
            "logger": logger,
            "event": event,
            **self._fields,
            "pid": os.getpid(),
            **found,
        }
        try:
            return _encode(line).decode()
        except (UnicodeEncodeError, TypeError):
            # A lone surrogate, from somebody's input.
            return _encode(_encodable(line)).decode()


@lru_cache(maxsize=64)
def _level(number: int) -> str:
    return logging.getLevelName(number).lower()


class Lines(logging.StreamHandler[TextIO]):
    """Lines of JSON on standard error."""

    def __init__(self, json: JsonFormatter) -> None:
        super().__init__()
        self.setFormatter(json)
        self.json = json

    def createLock(self) -> None:  # noqa: N802 - the library's name
        """The interpreter's own lock: nobody waits while it is held, so greenlets need none of theirs."""
        super().createLock()
        self.lock = _thread.RLock()

    def write(self, line: str) -> bool:
        """Write a line that is ready; False where it cannot be written."""
        self.acquire()
        try:
            self.stream.write(f"{line}\n")
            self.stream.flush()
        except (OSError, ValueError):
            return False
        finally:
            self.release()
        return True


class PlainFormatter(logging.Formatter):
    """A record in words, its members behind it. `clock`: with the time, which `truthgpt up` adds itself."""

    def __init__(self, *, clock: bool) -> None:
        shown = "%(levelname)s %(name)s: %(message)s"
        super().__init__(f"%(asctime)s {shown}" if clock else shown, "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        said = "".join(f" {name}={value}" for name, value in members(record).items())
        return super().formatMessage(record) + said


def say(logger: logging.Logger, level: int, event: str, said: Mapping[str, Any]) -> None:
    """`logger.log(level, event, extra=said)`, for less where nobody but `configure`'s JSON hears it.

    For what is said with every request. `event` is a text of ours, which nothing need be cut from.
    """
    if not logger.isEnabledFor(level):
        return
    handler = _root.handlers[0] if len(_root.handlers) == 1 and not logger.handlers else None
    if isinstance(handler, Lines):
        line = handler.json.line(time.time(), level, logger.name, event, _found(said))
        if handler.write(line):
            return
    logger.log(level, event, extra=said)


def members(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has beside its message: of its context, then of its own."""
    own = vars(record)
    return _found({name: own[name] for name in own if name not in _KNOWN})


def _found(said: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(context.bound())
    for name, value in said.items():
        if isinstance(value, str):
            found[name] = redact(clipped(value))
        elif isinstance(value, _NUMBERS):
            found[name] = value
    if parent := found.pop(context.TRACEPARENT, ""):
        _, found["trace_id"], found["span_id"], _ = parent.split("-")
    return found


def clipped(text: str) -> str:
    """The text, or its beginning with a mark that says how much is missing."""
    if len(text) <= MOST_CHARS:
        return text
    return f"{text[:MOST_CHARS]}… ({len(text) - MOST_CHARS} more)"


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encodable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_encodable(member) for member in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("the process ends: nobody caught this", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "?"
    _log.critical(
        "thread %s ends: nobody caught this",
        name,
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )
