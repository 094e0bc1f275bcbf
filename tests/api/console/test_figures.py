"""Numbers with units, as pages show them."""

from typing import Any

import pytest
from jinja2 import Environment

from api.console.figures import FILTERS


def shown(filter_name: str, value: Any, language: str = "en", *args: Any) -> str:
    environment = Environment(autoescape=True)
    environment.filters.update(FILTERS)
    given = f"({', '.join(map(repr, args))})" if args else ""
    template = environment.from_string(f"{{{{ value | {filter_name}{given} }}}}")
    return template.render(value=value, language=language).replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.42, "0.4 ms"),
        (12, "12 ms"),
        (80.81, "80.8 ms"),
        (999, "999 ms"),
        (999.7, "1.00 s"),
        (1234, "1.23 s"),
        (12_345, "12.3 s"),
        (59_990, "1 min"),
        (125_000, "2 min 5 s"),
        (3 * 3_600_000 + 120_000, "3 h 2 min"),
        (97 * 3_600_000, "4 d 1 h"),
    ],
)
def test_durations(milliseconds: float | None, text: str) -> None:
    assert shown("duration", milliseconds) == text


def test_numbers_and_sizes() -> None:
    assert shown("number", 1_234_567) == "1 234 567"
    assert shown("number", 0.5, "es", 2) == "0,50"
    assert shown("number", None) == "–"
    assert shown("size", 0) == "0 B"
    assert shown("size", 1536) == "1.5 KiB"
    assert shown("size", 3 * 2**40) == "3.0 TiB"


def test_times_are_utc_for_a_machine_and_for_who_has_no_script() -> None:
    assert shown("moment", 1_000) == (
        '<time datetime="1970-01-01T00:00:01.000Z">1970-01-01 00:00:01 UTC</time>'
    )
    assert shown("moment", None) == "–"
