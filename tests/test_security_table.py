"""docs/security.md names tests; they exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "security.md"


def test_every_test_that_the_threat_table_names_exists() -> None:
    text = TABLE.read_text("utf-8")
    files = set(re.findall(r"`((?:\w+/)?(?:test_|conf)\w+\.py)`", text))
    functions = set(re.findall(r"`(test_\w+)`", text))
    assert len(files) >= 10 and len(functions) >= 10

    # Where several files have one name, the table names the folder too.
    paths = list(TESTS.rglob("*.py"))
    known = {path.name for path in paths} | {f"{path.parent.name}/{path.name}" for path in paths}
    assert files <= known
    sources = "\n".join(path.read_text("utf-8") for path in paths)
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert functions <= defined
    rows = [line for line in text.splitlines() if line.startswith("| API")]
    assert len(rows) == 10 and all("`test_" in row for row in rows)
