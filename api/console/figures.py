"""Numbers, durations, sizes and times as pages show them: always with their unit, in the page's language."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from shared.domain.schemas import rfc3339

NONE = "–"
_THIN = "\N{NARROW NO-BREAK SPACE}"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


@pass_context
def number(context: Context, value: object, digits: int = 0) -> str:
    """`12 345`, `0.5`; of a value that is not known, or that an older worker does not tell, a dash."""
    if not isinstance(value, int | float):
        return NONE
    said = f"{value:,.{digits}f}".replace(",", _THIN)
    return said.replace(".", ",") if context.get("language") == "es" else said


@pass_context
def duration(context: Context, milliseconds: object) -> str:
    """`0.4 ms`, `12 ms`, `1.23 s`, `2 min 5 s`, `3 h 2 min`, `4 d 1 h`, with three figures at the most."""
    if not isinstance(milliseconds, int | float):
        return NONE
    seconds = milliseconds / 1000
    if seconds < 59.95:
        value, unit = (milliseconds, "ms") if milliseconds < 999.5 else (seconds, "s")
        whole = value >= 99.95 or value == int(value)
        digits = 0 if whole else 1 if value >= 9.995 or unit == "ms" else 2
        return f"{number(context, value, digits)}{_THIN}{unit}"
    whole_seconds = round(seconds)
    for size, unit, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole_seconds >= size:
            return _two(whole_seconds // size, unit, whole_seconds % size // small, below)
    return _two(whole_seconds // 60, "min", whole_seconds % 60, "s")


@pass_context
def size(context: Context, count: object) -> str:
    """Bytes in the unit that suits: `512 B`, `1.5 KiB`."""
    if not isinstance(count, int | float):
        return NONE
    power = min(int(math.log(count, 1024)), len(_SIZES) - 1) if count >= 1 else 0
    value = count / 1024**power
    digits = 0 if power == 0 or value >= 99.95 else 1
    return f"{number(context, value, digits)}{_THIN}{_SIZES[power]}"


def moment(epoch_ms: float | None) -> Markup:
    """A time as an element: UTC here, made the reader's own by the script, with UTC in its title."""
    if not epoch_ms:
        return escape(NONE)
    at = int(epoch_ms)
    shown = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(at), shown)


def epoch_ms(stamp: str | None) -> float | None:
    """RFC 3339 as milliseconds since 1970."""
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp() * 1000


def _two(large: int, unit: str, small: int, below: str) -> str:
    rest = f" {small}{_THIN}{below}" if small else ""
    return f"{large}{_THIN}{unit}{rest}"


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "duration": duration,
    "size": size,
    "moment": moment,
    "ms": epoch_ms,
}
