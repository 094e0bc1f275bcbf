"""The show, short: whoever runs it in full sees the same, longer."""

from pathlib import Path

import pytest

from tests.show.__main__ import show
from tests.show.sections import SECTIONS


@pytest.mark.timeout(240)
def test_everything_can_be_seen_of_a_server_under_load(tmp_path: Path) -> None:
    said: list[str] = []
    verdicts = show(tmp_path, 1, said.append)
    text = "\n".join(said)
    assert verdicts == dict.fromkeys(SECTIONS, True), text
    assert "MISSING" not in text and "NO DATA" not in text
