"""What deployments may name: commands of the CLI, variables of the settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import main
from shared.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = {field.alias for field in Settings.model_fields.values()}
AFTER_DRAIN_SECONDS = 15.0
"""What a process may need once its drain time is over: writing results, ending its host, sending spans."""


def parsed(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """A command line as the CLI takes it: the command's name and its options.

    Raises `click.UsageError` for what it would not take.
    """
    left = list(arguments)
    command: click.Command = main
    words = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        while isinstance(command, click.Group):
            words.append(left.pop(0))
            found = command.get_command(click.Context(command), words[-1])
            if found is None:
                raise click.UsageError(f"no command {' '.join(words)}")
            command = found
        return " ".join(words), command.make_context(words[-1], left).params


def drain_seconds(env: Mapping[str, str]) -> float:
    """How long a process with this environment may drain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORKER_DRAIN_SEC", raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        return load_settings().drain_time
