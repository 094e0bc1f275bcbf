"""The plot beside a result: each contest's figure, by subject. The only module that needs matplotlib."""

from pathlib import Path
from typing import Any

from bench.reporting.figures import spread
from bench.reporting.goals import FIGURES
from bench.reporting.result import Outcome, Result

WIDTH = 8.0
BAR_HEIGHT = 0.32
PANEL_HEIGHT = 1.0
"""Inches; a panel's is without its bars."""
OURS, PEER = "#1b6ca8", "#b0b7bf"


class PlotFailed(Exception):
    """The message says what is missing."""


def draw(result: Result, folder: Path) -> Path:
    """Write `<stem>.png` and return its path. Raises `PlotFailed`."""
    path = folder / f"{result.stem}.png"
    plot(result).savefig(path, dpi=120)
    return path


def plot(result: Result) -> Any:
    """A figure with a panel a contest: medians as bars, from the smallest to the largest round.

    Raises `PlotFailed`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotFailed("matplotlib is not installed") from None
    heights = [PANEL_HEIGHT + BAR_HEIGHT * len(o.entries) for o in result.outcomes]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)
    for (panel,), outcome in zip(panels, result.outcomes, strict=True):
        _bars(panel, outcome)
    return figure


def _bars(panel: Any, outcome: Outcome) -> None:
    figure = FIGURES[outcome.figure]
    spreads = [spread(entry.values(outcome.figure)) for entry in outcome.entries]
    medians = [one.median for one in spreads]
    whiskers = (
        [one.median - one.low for one in spreads],
        [one.high - one.median for one in spreads],
    )
    places = range(len(medians))
    colors = [OURS] + [PEER] * (len(medians) - 1)
    bars = panel.barh(places, medians, xerr=whiskers, color=colors, error_kw={"capsize": 3})
    labels = [f" {median:,.{figure.digits}f}{figure.unit}" for median in medians]
    panel.bar_label(bars, labels, fontsize=8)
    panel.margins(x=0.12)
    panel.set_yticks(places, [f"{e.name}, {e.variant}" for e in outcome.entries], fontsize=8)
    panel.invert_yaxis()
    better = "more" if figure.more_is_better else "less"
    panel.set_title(f"{outcome.title}: {figure.title} ({better} is better)", fontsize=9, loc="left")
    panel.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
