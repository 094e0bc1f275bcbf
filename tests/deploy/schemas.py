"""Schemas that check-jsonschema ships, so that nothing is fetched."""

from pathlib import Path

from check_jsonschema.cli.main_command import main
from click.testing import CliRunner


def complaints(schema: str, *files: Path) -> str:
    """What a shipped schema, such as `compose-spec`, has against YAML files; empty when nothing."""
    command = ["--builtin-schema", f"vendor.{schema}", *map(str, files)]
    result = CliRunner().invoke(main, command)
    return "" if result.exit_code == 0 else result.output
