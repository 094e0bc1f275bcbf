"""Bounds of numbers, so that a decimal which keeps them still does when a reader makes a float of it."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
DIGITS = 15
"""Digits of a bound: as many as any float keeps. llguidance looks at no more, and rounds outwards too."""
SMALLEST = Decimal("1e-30")
"""Stands for "greater than 0": 30 zeros behind the point are as many as a text may have there."""
MAX_STEP = 2000
"""The largest `multipleOf`, without its point: llguidance's automaton has about as many states."""
LARGEST_DENOMINATOR = 16
"""The largest denominator of a step that is no whole number. A power of two: floats hold its multiples."""

_UP = Context(prec=DIGITS, rounding=ROUND_CEILING)
_DOWN = Context(prec=DIGITS, rounding=ROUND_FLOOR)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


class Steps:
    """All `multipleOf` of a schema. Where several meet, their least common multiple counts."""

    def __init__(self) -> None:
        self._found: list[Decimal] = []

    def add(self, value: Any) -> None:
        """Raises `ValueError` with the reason why a step cannot be enforced."""
        if not is_number(value) or value <= 0:
            raise ValueError("must be a number above 0")
        if float(value).as_integer_ratio()[1] > LARGEST_DENOMINATOR:
            raise ValueError("readers that count in binary do not agree on multiples of it")
        self._found.append(Decimal(repr(value)))
        places = max(-int(step.normalize().as_tuple().exponent) for step in self._found)
        if math.lcm(*(int(step.scaleb(max(0, places))) for step in self._found)) > MAX_STEP:
            raise ValueError(f"all multiples together are at most {MAX_STEP}, without their points")


def first_inexact(value: Any) -> int | float | None:
    """The first number in a constant that a float does not hold, or that is not written as what it is.

    llguidance makes a float of each, as most readers do, and writes one without a fraction as the shortest
    digits that tell it from others, and zeros.
    """
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return next((found for one in inner if (found := first_inexact(one)) is not None), None)
    if not is_number(value):
        return value if isinstance(value, float) else None
    held = Decimal(repr(float(value)))
    exact = held != held.to_integral_value() or int(held) == value
    return None if exact else value


def narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with inclusive bounds of at most `DIGITS` digits, where a number need not be whole.

    Whoever reads a decimal rounds it: 0.99999999999999999 is read as 1. Rounding keeps order, so a decimal
    that is at most the last short one below a bound is read as something below the bound.
    """
    if not any(name in schema for name in BOUNDS):
        return schema
    kept = {name: value for name, value in schema.items() if name not in BOUNDS}
    if schema.get("type") == "integer":
        return kept | _whole(schema)
    least = [_UP.create_decimal(repr(schema["minimum"]))] if "minimum" in schema else []
    if "exclusiveMinimum" in schema:
        bound = Decimal(repr(schema["exclusiveMinimum"]))
        least.append(_UP.next_plus(bound) if bound else SMALLEST)
    most = [_DOWN.create_decimal(repr(schema["maximum"]))] if "maximum" in schema else []
    if "exclusiveMaximum" in schema:
        bound = Decimal(repr(schema["exclusiveMaximum"]))
        most.append(_DOWN.next_minus(bound) if bound else -SMALLEST)
    if least:
        kept["minimum"] = _plain(max(least))
    if most:
        kept["maximum"] = _plain(min(most))
    return kept


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """Inclusive bounds that are whole numbers."""
    least = [math.ceil(schema["minimum"])] if "minimum" in schema else []
    if "exclusiveMinimum" in schema:
        least.append(math.floor(schema["exclusiveMinimum"]) + 1)
    most = [math.floor(schema["maximum"])] if "maximum" in schema else []
    if "exclusiveMaximum" in schema:
        most.append(math.ceil(schema["exclusiveMaximum"]) - 1)
    bounds = {"minimum": _held_up(max(least))} if least else {}
    return bounds | ({"maximum": -_held_up(-min(most))} if most else {})


def _held_up(bound: int) -> int:
    """The least whole number from a bound on that a float holds: llguidance reads bounds as floats."""
    held = float(bound)
    return int(held if int(held) >= bound else math.nextafter(held, math.inf))


def _plain(bound: Decimal) -> int | float:
    return int(bound) if bound == bound.to_integral_value() and abs(bound) < 2**53 else float(bound)
