"""The documents hang together: indexes are complete, links lead somewhere, titles name decisions."""

import pkgutil
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links

DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
NEVER_WRITTEN = {25}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text(page: Path) -> str:
    return page.read_text("utf-8")


def indexed(index: Path) -> list[str]:
    """The pages that the rows of an index name, in order."""
    return re.findall(r"^\| .*?\[[^]]*\]\(([\w/.-]+\.md)\)", text(index), re.MULTILINE)


@pytest.mark.parametrize("folder", [DOCS, DECISIONS], ids=name)
def test_an_index_lists_every_page_of_its_folder_once(folder: Path) -> None:
    index = folder / "README.md"
    pages = {page.name for page in folder.glob("*.md")} - {index.name}
    listed = [page for page in indexed(index) if "/" not in page]

    assert sorted(listed) == sorted(pages)


def test_the_readme_and_the_index_of_documents_lead_on() -> None:
    assert "docs/README.md" in links(text(ROOT / "README.md"))
    assert "decisions/README.md" in links(text(DOCS / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(text(page)):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(text(file))):
            broken.append(link)

    assert not broken


def test_decisions_are_numbered_without_gaps_save_those_that_were_never_written() -> None:
    numbers = [int(page.name[:4]) for page in sorted(DECISIONS.glob("0*.md"))]

    assert numbers == [n for n in range(1, max(numbers) + 1) if n not in NEVER_WRITTEN]


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("0*.md")), ids=name)
def test_a_decision_is_named_by_its_title_and_says_context_decision_consequences(
    page: Path,
) -> None:
    number, _, slug = page.stem.partition("-")
    title = text(page).splitlines()[0]

    assert title.startswith(f"# {int(number)}. ")
    assert set(slug.split("-")) <= set(re.findall(r"[a-z0-9]+", title.lower()))
    for part in ("**Status.**", "**Context.**", "**Decision.**", "**Consequences.**"):
        assert text(page).count(part) == 1, part


def test_every_function_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`((?:api|workers|shared)(?:\.\w+)+)`", text(DOCS / "architecture.md"))
    assert len(named) > 20

    assert [name for name in dict.fromkeys(named) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_path_of_the_repository_that_a_document_names_exists() -> None:
    tops = "api|workers|shared|client|cli|bench|tests|deploy|docs|examples|findings|models"
    path = re.compile(rf"`((?:{tops})/[\w./-]*?)(?:::\w+)?`")
    missing = {
        (name(page), found)
        for page in PAGES
        for found in path.findall(text(page))
        if not (ROOT / found).exists()
    }

    assert missing == set()
