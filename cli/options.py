"""Options that several commands have."""

import click

LISTED = 20

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 100), default=LISTED, show_default=True, help="How many."
)
