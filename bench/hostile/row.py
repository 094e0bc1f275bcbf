"""One attack, and what is measured of it."""

from pathlib import Path
from typing import NamedTuple, Protocol


class Figure(NamedTuple):
    """A number of one row, in `unit`."""

    row: str
    what: str
    value: float
    unit: str


class Row(Protocol):
    """A module of this package: one attack on a server of the checkout at a path."""

    TITLE: str

    @staticmethod
    def measure(checkout: Path) -> list[Figure]: ...
