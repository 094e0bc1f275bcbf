"""Why a grammar is refused."""

from collections.abc import Iterable

from shared.domain.errors import InvalidRequest

Place = tuple[str | int, ...]
"""Names and numbers that lead to a part of a request."""
SHOWN = 300
"""Characters of an explanation."""
MAX_PLACE = 16
"""Parts of a place that are shown; a name among them is cut off as well."""
MAX_NAME = 64


class GrammarRefused(InvalidRequest):
    """A grammar cannot be enforced, or would cost too much. `keyword` is what it is about, `base` where in
    the request it stands.
    """

    code = "invalid_grammar"

    def __init__(
        self, place: Place, keyword: str, why: str, base: tuple[str, ...] = ("params", "grammar")
    ) -> None:
        keyword = keyword[:MAX_NAME]
        message = f"{keyword}: {why[:SHOWN]}"
        where = [*_shown(place), keyword] if place[-1:] != (keyword,) else [*_shown(place)]
        super().__init__(
            f"The grammar is refused. {message}",
            errors=[{"loc": [*base, *where], "msg": message, "type": self.code}],
        )
        self.keyword = keyword
        self.parts = (place, keyword, why, base)


def _shown(place: Iterable[str | int]) -> list[str | int]:
    parts = [part if isinstance(part, int) else part[:MAX_NAME] for part in place]
    return parts if len(parts) <= MAX_PLACE else [*parts[: MAX_PLACE - 1], "…"]
