"""The show, short: whoever runs it in full sees the same, longer.

Queries and alerts have tests of their own with a real Prometheus and promtool, which the whole show would
repeat: tests/integration/test_metrics.py and tests/deploy/test_alerts.py.
"""

from pathlib import Path

import pytest

from tests.show.__main__ import show
from tests.show.sections import SECTIONS

SHOWN = [title for title in SECTIONS if title not in ("Queries", "Alerts")]


@pytest.mark.timeout(240)
def test_everything_can_be_seen_of_a_server_under_load(tmp_path: Path) -> None:
    said: list[str] = []
    verdicts = show(tmp_path, 1, said.append, SHOWN)
    text = "\n".join(said)
    assert verdicts == dict.fromkeys(SHOWN, True), text
    assert "MISSING" not in text
