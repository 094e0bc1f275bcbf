"""The console's blueprint, on which each page registers itself."""

from api.console.guard import Console

console = Console()
