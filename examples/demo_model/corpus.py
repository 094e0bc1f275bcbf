"""The help topics of CPython, cleaned, and split into what is trained on and what is held out."""

import hashlib
import random
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One help topic after cleaning; its paragraphs are separated by blank lines."""

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The documents that are trained on and those that are kept for measuring."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]

    @property
    def train_chars(self) -> int:
        return sum(len(document.text) for document in self.train)

    @property
    def held_out_chars(self) -> int:
        return sum(len(document.text) for document in self.held_out)

    def digest(self) -> str:
        """SHA-256 of the cleaned text and its split, to tell two corpora apart."""
        sha = hashlib.sha256()
        for part in (self.train, self.held_out):
            for document in part:
                sha.update(f"{document.name}\0{document.text}\0".encode())
            sha.update(b"\0")
        return sha.hexdigest()


_STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "..."})
_UNDERLINE = re.compile(r"^([*=\-~^\"#])\1{2,}$")
_STRONG = re.compile(r"(?<![\w*\"'])\*\*([A-Za-z][\w .:()'-]*?)\*\*(?![\w*])")
_EMPHASIS = re.compile(r"(?<![\w*\"'])\*([A-Za-z_][\w .-]*?)\*(?![\w*])")
_FOOTNOTE_MARK = re.compile(r"(?<=[\w.,;:)\"])\s+\[\d+\](?=[\s.,;:)]|$)")
_FOOTNOTE_START = re.compile(r"^\[\d+\]\s+")
_ITEM = re.compile(r"^(?:\*|\d+\.)\s+")
_HYPHENATED = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
_CODE = re.compile(r"^(?:>>>|\.\.\.|#|\(Pdb\))|  #|\"\"\"$")
_WORDS = re.compile(r"\b[a-z]+(?:\s+[a-z]+){4}\b")  # no statement has five plain words in a row
_FEWEST_PROSE_WORDS = 4
_SHORT_PARAGRAPH = 40  # characters; signatures and headings may repeat, longer text may not


def tidy_line(text: str) -> str:
    """Put wrapped text on one line and drop reStructuredText emphasis and footnote marks."""
    text = " ".join(_HYPHENATED.sub("-", text).split())
    text = _FOOTNOTE_MARK.sub("", _FOOTNOTE_START.sub("", text))
    return _EMPHASIS.sub(r"\1", _STRONG.sub(r"\1", text))


def indent_of(line: str) -> int:
    """Number of spaces that a line starts with."""
    return len(line) - len(line.lstrip(" "))


def tidy_prose(block: str) -> str:
    """Reflow a paragraph; a term with its indented definition becomes "term: definition"."""
    lines = block.splitlines()
    marked = _ITEM.match(lines[0].lstrip()) or _FOOTNOTE_START.match(lines[0].lstrip())
    if marked or len(lines) == 1 or indent_of(lines[1]) <= indent_of(lines[0]):
        return tidy_line(block)
    return f"{tidy_line(lines[0])}: {tidy_line(chr(10).join(lines[1:]))}"


def is_prose(block: str) -> bool:
    """Tell sentences, which are reflowed, from code and signatures, which keep their lines."""
    text = block.strip()
    if _CODE.search(text):
        return False
    if text.startswith("**") or _ITEM.match(text) or _FOOTNOTE_START.match(text):
        return True
    if _WORDS.search(text):
        return True
    starts = text[0].isupper() or text[0] in "\"'*" or text.startswith("a ")
    ends = text[-1] in ".:;,?!)"
    return starts and ends and len(text.split()) >= _FEWEST_PROSE_WORDS


def is_dropped(lines: Sequence[str]) -> bool:
    """Tables and grammar productions: neither reads as prose nor runs as code."""
    first = lines[0].lstrip()
    return first.startswith(("+--", "+==", "|", "-[")) or any("::=" in line for line in lines)


def split_items(block: str) -> Iterator[str]:
    """Split a block at the lines that start a list item."""
    item: list[str] = []
    for line in block.splitlines():
        if item and _ITEM.match(line.lstrip()):
            yield "\n".join(item)
            item = []
        item.append(line)
    yield "\n".join(item)


def clean_topic(text: str) -> list[str]:
    """Turn one plain-text help topic into paragraphs without hard wraps, tables or grammar."""
    paragraphs: list[str] = []
    literal: list[str] = []  # neighbouring code blocks keep their indentation to one another

    def flush() -> None:
        if literal:
            paragraphs.extend(textwrap.dedent("\n\n".join(literal)).split("\n\n"))
            literal.clear()

    for block in re.split(r"\n\s*\n", text.translate(_STRAIGHT).strip("\n")):
        lines = block.splitlines()
        if not block.strip() or is_dropped(lines):
            continue
        if len(lines) > 1 and _UNDERLINE.match(lines[1].strip()):
            flush()
            paragraphs.append(tidy_prose(lines[0]))
        elif is_prose(block):
            flush()
            paragraphs.extend(tidy_prose(item) for item in split_items(block))
        else:
            literal.append(block.rstrip())
    flush()
    return paragraphs


def clean_documents(raw: Mapping[str, str]) -> list[Document]:
    """Clean every topic and keep each longer paragraph once.

    Many topics are sections of a longer one.  Without this, text of a held-out topic would also be
    in the training set.  Longer topics go first; one that is left with less than half of its text
    is dropped.
    """
    seen: set[str] = set()
    documents: list[Document] = []
    for name in sorted(raw, key=lambda key: (-len(raw[key]), key)):
        paragraphs = clean_topic(raw[name])
        fresh = [p for p in paragraphs if len(p) < _SHORT_PARAGRAPH or p not in seen]
        seen.update(paragraphs)
        new_chars = sum(len(p) for p in fresh if len(p) >= _SHORT_PARAGRAPH)
        if 2 * new_chars >= sum(map(len, paragraphs)):
            documents.append(Document(name, "\n\n".join(fresh)))
    return documents


def split_corpus(documents: Sequence[Document], share: float, seed: int) -> Corpus:
    """Keep whole documents, chosen at random, for measuring: at most `share` of the characters."""
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)
    room = share * sum(len(document.text) for document in shuffled)
    train: list[Document] = []
    held_out: list[Document] = []
    for document in shuffled:
        if len(document.text) <= room:
            held_out.append(document)
            room -= len(document.text)
        else:
            train.append(document)
    return Corpus(tuple(train), tuple(held_out))
