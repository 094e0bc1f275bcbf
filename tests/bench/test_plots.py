import sys
from pathlib import Path

import pytest

from bench.plots import PlotFailed, draw
from tests.bench.test_result import entry, result

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_plot_is_a_picture_beside_the_result(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = result(entry("ours", "", 1000, 1200), entry("one", "fast", 400, 500))

    path = draw(drawn, tmp_path)

    assert path == tmp_path / f"{drawn.stem}.png"
    assert path.read_bytes().startswith(PNG)


def test_without_matplotlib_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(PlotFailed, match="matplotlib is not installed"):
        draw(result(entry("ours", "", 10)), tmp_path)

    assert not list(tmp_path.iterdir())
