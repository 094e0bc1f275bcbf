"""Commands that documents name exist: `truthgpt …`, `make …`, `python -m …`."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import main
from tests.docs.pages import PAGES, ROOT, blocks, steps

_MAKE = re.compile(r"^(?:\$ )?make ([a-z][a-z-]*)", re.MULTILINE)
_MAKE_QUOTED = re.compile(r"`make ([a-z][a-z-]*)")
_MODULE = re.compile(r"python -m ((?:bench|cli|tests|workers)[\w.]*)")
_QUOTED = re.compile(r"`truthgpt ((?:[a-z][a-z-]*)(?: [a-z][a-z|-]*)*)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_and_every_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    named = {*_MAKE_QUOTED.findall(text), *(t for b in blocks(text) for t in _MAKE.findall(b.text))}
    assert named <= targets
    assert [found for found in _MODULE.findall(text) if not runs(found)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_truthgpt_that_a_page_names_exists(page: Path) -> None:
    lines = [*typed(page), *(quoted.split() for quoted in _QUOTED.findall(page.read_text("utf-8")))]

    assert [line for line in lines if not known(line)] == []


def typed(page: Path) -> Iterator[list[str]]:
    """The arguments of each `$ truthgpt …` of a page, up to a pipe or a comment."""
    for block in blocks(page.read_text("utf-8")):
        for step in steps(block):
            if step.command.startswith("truthgpt "):
                words = shlex.split(step.command, comments=True)
                yield words[1 : words.index("|") if "|" in words else None]


def known(arguments: list[str]) -> bool:
    """Whether the words lead to a command, which has the options that follow. Values are not looked at."""
    command: click.Command = main
    left = list(arguments)
    while left:
        if isinstance(command, click.Group) and not left[0].startswith("-"):
            # `truthgpt keys create|list`: each of them.
            found = [
                command.get_command(click.Context(command), word) for word in left[0].split("|")
            ]
            if None in found or (len(found) > 1 and len(left) > 1):
                return False
            command = found[0] or command
        elif left[0].startswith("-"):
            option, _, value = left[0].partition("=")
            taken = options(command)
            if option not in taken:
                return False
            if taken[option] and not value:
                left.pop(1)
        left.pop(0)
    return True


def options(command: click.Command) -> dict[str, bool]:
    """A command's options, and whether each takes a value."""
    named = {
        option: not (parameter.is_flag or parameter.count)
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return {"--help": False, **named}


def runs(module: str) -> bool:
    """Whether `python -m MODULE` would find something to run."""
    found = importlib.util.find_spec(module.rstrip("."))
    if found is None:
        return False
    return found.submodule_search_locations is None or (
        importlib.util.find_spec(f"{module.rstrip('.')}.__main__") is not None
    )


def test_a_command_that_does_not_exist_is_found() -> None:
    assert known(["dead", "list", "--limit", "3"])
    assert known(["keys", "create|list|revoke"])
    assert not known(["dead", "lost"])
    assert not known(["dead", "list", "--limits", "3"])
    assert not runs("bench.nothing")
