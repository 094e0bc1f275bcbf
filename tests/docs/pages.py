"""Reads documents: their fenced blocks and their links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    ROOT / "models" / "demo-llama" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\S*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the file that its `title` names, and its text."""

    language: str
    title: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block, and the lines that the document shows below it."""

    command: str
    shown: str


def blocks(text: str) -> list[Block]:
    return [Block(*found.groups()) for found in _FENCE.finditer(text)]


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block in order; `^C` is a command, too."""
    command, shown = "", []
    for line in block.text.splitlines():
        if line.startswith("$ ") or line == "^C":
            if command:
                yield Step(command, "\n".join(shown))
            command, shown = line.removeprefix("$ "), []
        elif command.endswith("\\"):
            command = f"{command}\n{line}"
        else:
            shown.append(line)
    yield Step(command, "\n".join(shown))


def links(text: str) -> list[str]:
    """The targets of all links outside of code."""
    return _LINK.findall(_CODE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = _CODE.sub(lambda found: found[0].strip("`") if "\n" not in found[0] else "", text)
    names = (heading.strip().lower() for heading in _HEADING.findall(plain))
    return {re.sub(r"[^\w\- ]", "", name).replace(" ", "-") for name in names}


def shows(shown: str, printed: str) -> bool:
    """Whether `printed` is what a document shows, where `…` stands for anything.

    Space and line breaks do not count: a document breaks long lines.
    """
    parts = ("".join(part.split()) for part in shown.split("…"))
    pattern = ".*".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, "".join(printed.split()), re.DOTALL) is not None
