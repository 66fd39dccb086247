"""The figures of reports and comparisons: each function takes plain values and returns a matplotlib figure, unsaved."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from featherweight.evaluation.metrics import spoken
from featherweight.plotting import panels, plain_logarithms, plain_text
from featherweight.runs.query import Gap

if TYPE_CHECKING:  # it imports torch, which the plot of scores does not need
    from featherweight.report.evidence import Picture

plain_text()
DPI = 144
PIXELS_PER_INCH = 92  # of a page: text of 10 points is then slightly smaller than the page's own
PANEL = (3.6, 2.9)  # inches of a panel of the curves, as wide as a phone's page
NARROW = 3.7  # width of a phone's page in inches
SHORT = 14  # letters of a class's name in a narrow figure
INK = "#010203"  # placeholder for the page's text colour, which differs in dark mode
BLUE, ORANGE, RED = "#3b82c4", "#e07b39", "#d64550"  # distinct on white, on black, and for the colour-blind
SHADES = LinearSegmentedColormap.from_list("shades", [(*to_rgb(BLUE), 0.0), (*to_rgb(BLUE), 1.0)])  # from the page up
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "featherweight",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
}


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG picture on white; the same figure gives the same bytes."""
    _arrange(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, label: str) -> str:
    """Return the figure as an SVG element: transparent, in the page's text colour, with `label` for screen readers."""
    _arrange(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Unique ids, since there are several figures on one page.
    prefix = re.sub(r"\W+", "-", label.lower())
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", text)
    width = figure.get_figwidth() * PIXELS_PER_INCH
    head = rf'<svg viewBox="\1" role="img" aria-label="{label}" style="max-width:{width:.0f}px">'
    return re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', head, text, count=1)


def _arrange(figure: Figure) -> None:
    """Compute the layout once; each way of saving would compute it again."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def curves(history: pd.DataFrame, metric: str) -> Figure:
    """Draw loss, accuracy, F1, the competition's metric and the learning rate by epoch, for training images and
    holdout, as far as the history has them, side by side.
    """
    shown = shown_curves(history, metric)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL[0] * len(shown), PANEL[1]), layout="constrained")
        for axes, (title, panel) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
            _curve(axes, history, title, panel)
    return figure


def curve(history: pd.DataFrame, title: str, panel: str) -> Figure:
    """Draw one panel of the curves as a figure, for a page that arranges them by its width."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=PANEL, layout="constrained")
        _curve(figure.subplots(), history, title, panel)
    return figure


def shown_curves(history: pd.DataFrame, metric: str) -> dict[str, str]:
    """Return the panels of a history by title: the columns after `train_` and `holdout_`, or the rate."""
    known = {title: column for title, column in panels(spoken(metric)).items() if f"holdout_{column}" in history}
    return {**known, "learning rate": "lr"}


def _curve(axes: Axes, history: pd.DataFrame, title: str, panel: str) -> None:
    axes.set_title(title, fontsize=11)
    one = "o" if len(history) < 12 else None
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel == "lr":
        axes.plot(history["epoch"], history["lr"], color=BLUE, marker=one, markersize=3)
        positive = history["lr"][history["lr"] > 0]
        if len(positive) and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
            plain_logarithms(axes)
        return
    for part, color in (("train", ORANGE), ("holdout", BLUE)):
        if f"{part}_{panel}" in history and history[f"{part}_{panel}"].notna().any():
            known = history.dropna(subset=[f"{part}_{panel}"])
            axes.plot(known["epoch"], known[f"{part}_{panel}"], color=color, label=part, marker=one, markersize=3)
    axes.legend()


def confusion(matrix: NDArray[np.int64], names: Sequence[str], *, narrow: bool = False) -> Figure:
    """Draw a confusion matrix: one row per true class, one column per predicted class, shaded by the share of the row;
    with counts if they are readable.

    `narrow` is for a phone: as wide as its screen for any number of classes, long names cut short.
    """
    size = len(names)
    counted = size <= (12 if narrow else 30)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = NARROW if narrow else min(9.0, 2.6 + 0.34 * size)
    if narrow:
        names = [name if len(name) <= SHORT else f"{name[: SHORT - 1]}…" for name in names]
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "font.size": 7 if narrow else 9 if size <= 30 else 6}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1)
        axes.set(xlabel="taken for", ylabel="true class")
        axes.spines[:].set_visible(False)
        every = range(0, size, max(1, -(-size // 30)) if narrow else 1)  # if not all names fit, some
        axes.set_xticks(every, [names[place] for place in every], rotation=90)
        axes.set_yticks(every, [names[place] for place in every])
        if counted:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                ink = "white" if shares[row, column] > 0.5 else INK
                count = int(matrix[row, column])
                axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color=ink)
    return figure


def reliability(table: pd.DataFrame, error: float) -> Figure:
    """Draw a reliability diagram: accuracy against confidence, and the number of images in each bin."""
    width = 1 / len(table)
    some = table[table["count"] > 0]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1)
        top.bar(some["middle"], some["accuracy"], width * 0.92, color=BLUE, alpha=0.55)
        top.plot(some["confidence"], some["accuracy"], "o", color=BLUE, markersize=4)
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        top.set_title(f"expected calibration error {error:.1%}", fontsize=11)
        bottom.bar(table["middle"], table["count"], width * 0.92, color=ORANGE, alpha=0.8)
        bottom.set(xlabel="confidence", ylabel="images")
    return figure


def balance(counts: dict[str, NDArray[np.int64]], names: Sequence[str]) -> Figure:
    """Draw the number of images per class, the largest first, in training and holdout."""
    order = np.argsort(-(counts["train"] + counts["holdout"]), kind="stable")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(min(10.0, 3 + 0.25 * len(names)), 2.8), layout="constrained")
        axes = figure.subplots()
        below = np.zeros(len(names))
        for part, color in (("train", ORANGE), ("holdout", BLUE)):
            axes.bar(range(len(names)), counts[part][order], bottom=below, color=color, label=part)
            below = below + counts[part][order]
        axes.set_ylabel("images")
        if len(names) <= 40:
            axes.set_xticks(range(len(names)), [names[place] for place in order], rotation=90)
        else:
            axes.set_xlabel(f"{len(names)} classes")
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def bars(counts: pd.Series[int]) -> Figure:
    """Draw one bar per class, in this order."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(min(12.0, 3 + 0.25 * len(counts)), 2.8), layout="constrained")
        axes = figure.subplots()
        axes.bar(range(len(counts)), counts.to_numpy(), color=BLUE)
        axes.set_ylabel("images")
        if len(counts) <= 40:
            axes.set_xticks(range(len(counts)), [str(name) for name in counts.index], rotation=90)
    return figure


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str], each: int = 8, most: int = 12
) -> Figure:
    """Draw the first `each` images of the first `most` classes, one class per row; `labels` [N] or [N, K]."""
    of_class = labels.T if labels.ndim == 2 else labels == np.arange(len(classes))[:, None]
    rows = [(name, np.flatnonzero(of_class[place])[:each]) for place, name in enumerate(classes[:most])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(each, len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), each, squeeze=False)
        for axes_row, (name, places) in zip(grid, rows, strict=True):
            for column, axes in enumerate(axes_row):
                axes.set_axis_off()
                if column < len(places):
                    axes.imshow(images[places[column]].squeeze(), cmap="gray", interpolation="nearest")
            axes_row[0].set_title(name, loc="left", fontsize=9)
    return figure


def mistakes(pictures: Sequence[Picture], columns: int = 8) -> Figure:
    """Draw pictures with their true and predicted classes, and beside each the picture under its heat map, if it has
    one.
    """
    cells = [(each, heat) for each in pictures for heat in (False, True) if not heat or each.heat is not None]
    rows = max(1, -(-len(cells) // columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.4 * columns, 1.7 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (each, heat) in zip(grid, cells, strict=False):
            axes.imshow(each.image.squeeze(), cmap="gray", interpolation="nearest")
            if heat:
                axes.imshow(each.heat, cmap="inferno", alpha=0.6)
            else:
                axes.set_title(f"{each.true}\nas {each.predicted}, {each.confidence:.0%}", fontsize=8)
    return figure


def holdout_against_public(gaps: Sequence[Gap]) -> Figure:
    """Draw one point per run with its holdout interval and the range that sampling explains; red outside of it.

    Each metric has axes of its own: in percent, unless it has another unit.
    """
    by_metric = {
        name: [gap for gap in gaps if gap.metric == name] for name in dict.fromkeys(gap.metric for gap in gaps)
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6 * len(by_metric), 5.5), layout="constrained")
        for axes, alike in zip(figure.subplots(1, len(by_metric), squeeze=False)[0], by_metric.values(), strict=True):
            _agreement(axes, alike)
            if len(by_metric) > 1:
                axes.set_title(alike[0].of.spoken, loc="left", fontsize=9)
        figure.suptitle("On the line, holdout and leaderboard agree", fontsize=10)
    return figure


def _agreement(axes: Axes, gaps: Sequence[Gap]) -> None:
    """Draw the public against the holdout scores of runs of one metric."""
    metric = gaps[0].of
    scale, unit = metric.scale, metric.percent
    values = [value for gap in gaps for value in (gap.low, gap.high, gap.public - gap.chance, gap.public + gap.chance)]
    low, high = max(metric.span[0], min(values) - 0.01) * scale, (max(values) + 0.01) * scale
    axes.plot([low, high], [low, high], color=INK, alpha=0.4, linewidth=1, zorder=0)
    for gap in gaps:
        x, y = gap.holdout * scale, gap.public * scale
        color = RED if gap.surprising else BLUE
        across = [[x - gap.low * scale], [gap.high * scale - x]]
        axes.errorbar(x, y, xerr=across, yerr=gap.chance * scale, fmt="o", color=color, capsize=3, linewidth=1)
        side = ("right", -6) if x > (low + high) / 2 else ("left", 6)
        axes.annotate(gap.run, (x, y), (side[1], -12), textcoords="offset points", fontsize=8, ha=side[0])
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"holdout{unit} (95 % interval)", ylabel=f"public{unit} (bars: sampling error)")
