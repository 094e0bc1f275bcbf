"""Parses durations and moments given as options, and formats moments for tables."""

import time
from datetime import UTC, datetime
from typing import Any

import click

from shared.domain.schemas import rfc3339

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """`90d`, `12h`, `30m`, `45s`: seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        text = str(value)
        number, unit = text[:-1], UNITS.get(text[-1:])
        if unit is None or not (number.isascii() and number.isdigit()) or len(number) > 9:
            self.fail(f"{text!r} is not a number with s, m, h or d after it", param, ctx)
        return float(number) * unit


class Moment(click.ParamType[str]):
    """`2026-11-30`, `2026-11-30T16:00` (UTC), a time with its zone, or `2h`, so long ago: RFC 3339."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text[-1:] in UNITS and text[:-1].isdecimal():
            ago = Duration().convert(text, param, ctx)
            return rfc3339(int((time.time() - ago) * 1000))
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither a time such as 2026-11-30T16:00 nor one ago such as 2h",
                param,
                ctx,
            )
        known = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return rfc3339(int(known.timestamp() * 1000))


def day(moment: float | None) -> str:
    """Unix seconds as a day and a minute, UTC."""
    return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
