"""Filters of a list: read from the address of its page, and written into the links to its other pages."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

LONGEST = 512
"""Characters of a filter."""


def sent(asked: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The filters of an address by name; one that it does not have is empty."""
    return {name: asked.get(name, "").strip()[:LONGEST] for name in names}


def query_of(filters: Mapping[str, str]) -> str:
    """The part of an address that asks for what these filters do."""
    return urlencode({name: value for name, value in filters.items() if value})
