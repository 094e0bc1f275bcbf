"""The rules of the app's routing table, which can build URLs but do not prepare for it."""

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule


class UrlRule(Rule):
    """A rule of werkzeug's that makes its builders of URLs when a URL is first asked for.

    Werkzeug writes and compiles two functions for every rule at once, which is most of what it takes to
    make the app; nothing here asks for a URL (`flask.url_for`).
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = super()._compile_builder

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            built: tuple[str, str] = compiled(append_unknown).__get__(rule, None)(**values)
            return built

        return build
