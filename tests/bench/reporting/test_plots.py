import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.reporting.plots import PlotFailed, draw, plot
from tests.bench.reporting.test_result import entry, result
from tests.conftest import require


def test_a_plot_shows_the_medians_with_their_spread_and_is_put_beside_the_result(
    tmp_path: Path,
) -> None:
    require(find_spec("matplotlib"), "matplotlib")
    drawn = result(entry("ours", "", 1000, 1200), entry("one", "fast", 400, 500))

    from matplotlib import image

    [panel] = plot(drawn).axes
    path = draw(drawn, tmp_path)

    assert [bar.get_width() for bar in panel.patches] == [1100, 450]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["ours, ", "one, fast"]
    assert [text.get_text().strip() for text in panel.texts] == ["1,100", "450"]
    [whiskers] = [lines for lines in panel.collections if len(lines.get_segments()) == 2]
    assert [[x for x, _ in segment] for segment in whiskers.get_segments()] == [
        [1000, 1200],
        [400, 500],
    ]
    assert path == tmp_path / f"{drawn.stem}.png"
    assert image.imread(path).std() > 0, "it is a picture, and not blank"


def test_without_matplotlib_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(PlotFailed, match="matplotlib is not installed"):
        draw(result(entry("ours", "", 10)), tmp_path)

    assert not list(tmp_path.iterdir())
