"""The figures of reports and comparisons: each takes plain values and returns a matplotlib figure, unsaved."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from featherweight.standings import Gap

DPI = 144


def png(figure: Figure) -> bytes:
    """The figure as a PNG picture; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def holdout_against_public(gaps: Sequence[Gap]) -> Figure:
    """A point a run with its holdout interval and the band of what chance explains, in percent; red if it is more."""
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    values = [value for gap in gaps for value in (gap.low, gap.high, gap.public - gap.chance, gap.public + gap.chance)]
    low, high = max(0.0, min(values) - 0.01) * 100, max(values) * 100 + 1
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    for gap in gaps:
        x, y = gap.holdout * 100, gap.public * 100
        color = "tab:red" if gap.surprising else "tab:blue"
        across = [[x - gap.low * 100], [gap.high * 100 - x]]
        axes.errorbar(x, y, xerr=across, yerr=gap.chance * 100, fmt="o", color=color, capsize=3, linewidth=1)
        axes.annotate(gap.run, (x, y), (6, -12), textcoords="offset points", fontsize=8)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="holdout % (95 % interval)", ylabel="public leaderboard % (bars: what chance explains)")
    axes.set_title("On the line, the holdout foretells the leaderboard", fontsize=10)
    return figure
