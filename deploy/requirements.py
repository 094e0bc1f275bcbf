"""`python requirements.py core|engines`: what pyproject.toml asks for, one requirement a line."""

import sys
import tomllib
from pathlib import Path


def requirements(part: str, pyproject: Path) -> list[str]:
    """The dependencies themselves for `core`, else those of an extra. Raises `KeyError`."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    found: list[str] = (
        project["dependencies"] if part == "core" else project["optional-dependencies"][part]
    )
    return found


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in requirements(sys.argv[1], Path("pyproject.toml")))
