"""Drawings: pictures as PNG files, by matplotlib, and a curve in the terminal."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float]]  # x and y
GAP = 2  # pixels between the images of a sheet


def figure(rows: int, columns: int, width: float = 7, height: float = 3.5) -> tuple[Figure, NDArray[Any]]:
    """Return an empty figure and its axes, [rows, columns], each of this size in inches; it needs no display."""
    from matplotlib.figure import Figure  # half a second to import

    plain_text()
    picture = Figure((width * columns, height * rows), layout="constrained")
    return picture, picture.subplots(rows, columns, squeeze=False)


def plain_text() -> None:
    """Make matplotlib draw names as they are: a class `$x$` is not a formula, and missing glyphs raise no warning.

    Logarithmic axes need `plain_logarithms`, since their numbers are formulas by default.
    """
    import matplotlib

    matplotlib.rcParams["text.parse_math"] = False
    warnings.filterwarnings("ignore", message="Glyph .* missing from")


def plain_logarithms(axes: Axes) -> None:
    """Label logarithmic axes without formulas: 0.001, not 10 to the power of -3."""
    from matplotlib.ticker import LogFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))


def save(picture: Figure, path: Path, dpi: int = 120) -> None:
    """Write a figure as a PNG file, atomically."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    atomic.write_bytes(path, buffer.getvalue())


def draw(axes: Axes, curves: Mapping[str, Curve], x: str, y: str) -> None:
    """Draw curves by name, with a legend if there are several."""
    for name, (places, values) in curves.items():
        axes.plot(places, values, label=name, linewidth=1.5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize="small")


def panels(metric: str) -> dict[str, str]:
    """Return the panels of learning curves, by title: history columns, to follow `train_` and `holdout_`.

    `metric` is the title of the competition's own. Loss and F1 are always included, since the one may rise while the
    other does (LOGBOOK C).
    """
    titled = {"loss": "loss", "accuracy": "accuracy", "macro F1": "f1"}
    titled.setdefault(metric, "score")
    return titled


def sheet(images: NDArray[np.uint8], columns: int, path: Path, scale: int = 3) -> None:
    """Write images uint8 [N, H, W, C] as one PNG, row by row with a gap between them, each `scale` times its size.

    Raises ValueError unless C is 1 or 3.
    """
    from PIL import Image

    count, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f"expected images of 1 or 3 channels, got {channels}")
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = np.broadcast_to(image, (height, width, 3))
    buffer = io.BytesIO()
    size = canvas.shape[1] * scale, canvas.shape[0] * scale
    Image.fromarray(canvas).resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG")
    atomic.write_bytes(path, buffer.getvalue())


def in_terminal(values: Sequence[float], width: int = 72, height: int = 12) -> str:
    """Return a curve of equally spaced values as lines of text, from 0 to its maximum, which the first line states."""
    heights = np.asarray(values, dtype=np.float64)
    edges = np.linspace(0, len(heights), min(width, len(heights)) + 1).astype(int)
    columns = [heights[first:last].max() for first, last in itertools.pairwise(edges)]
    top = max(columns) or 1.0
    eighths = [round(value / top * height * 8) for value in columns]
    lines = []
    for line in range(height, 0, -1):
        filled = (min(max(level - (line - 1) * 8, 0), 8) for level in eighths)
        mark = f"{top:.3g}" if line == height else "0" if line == 1 else ""
        lines.append(f"{mark:>9} │" + "".join(" ▁▂▃▄▅▆▇█"[level] for level in filled).rstrip())
    return "\n".join(lines)
