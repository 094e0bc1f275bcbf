"""Secrets stay out of logs: whatever a line says, tokens and the secrets of URLs are cut from it."""

import logging
import re
from collections.abc import Callable

HIDDEN = "<hidden>"
SHORTEST = 8
"""Characters; words such as GET and `request` are not searched."""
_SECRETS = (
    # Tokens of API keys keep their ids, by which an operator finds and ends them.
    (re.compile(r"(tgk_[0-9a-f]{16}_)[A-Za-z0-9_-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"\btg_[A-Za-z0-9_-]{16,}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), HIDDEN),
    (re.compile(r"(\w://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"(?i)([?&;](?:ticket|token|key|api[_-]?key|secret|sig|signature|password|code)=)[^&\s'\"#]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


def redact(text: str) -> str:
    """The text without what would let its reader call."""
    if len(text) < SHORTEST:
        return text
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def redact_logs() -> None:
    """Redact every record of this process when it is made, before any handler sees it. May be repeated."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Redacting):
        logging.setLogRecordFactory(_Redacting(make))


class _Redacting:
    """A record factory. Tracebacks are formatted here, since they may quote what the message does not."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self._format = logging.Formatter().formatException

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            said = record.getMessage()
        except (TypeError, ValueError):
            return record
        shown = redact(said)
        if shown != said:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(self._format(record.exc_info))
        return record
