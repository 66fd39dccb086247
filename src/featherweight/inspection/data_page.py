"""The report of `inspect`: lines for the terminal, and one HTML file with pictures that works offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from featherweight import atomic
from featherweight.data.pack import LabelledPack
from featherweight.inspection.checks import Finding, Inspection
from featherweight.pages import template

SAMPLES = 10  # pictures of each class
SHEETS = 120  # classes whose samples are shown
SIDE = 56  # pixels of a picture on the page


def lines(inspection: Inspection) -> list[str]:
    """Return the lines for the terminal."""
    shown = []
    for part, (means, deviations) in inspection.channels.items():
        mean, deviation = (" ".join(f"{value:.3f}" for value in values) for values in (means, deviations))
        shown.append(f"{part}: channel means {mean}, deviations {deviation}")
    for finding in inspection.findings:
        shown.append(
            f"{'!' if finding.warning else '-'} {finding.title}{f': {finding.detail}' if finding.detail else ''}"
        )
        if finding.advice:
            shown.append(f"    {finding.advice}")
    return shown


def write(path: Path, title: str, inspection: Inspection, train: LabelledPack, summary: Sequence[str]) -> None:
    """Write the page; `summary` are lines about the files themselves."""
    largest = max(inspection.counts)
    classes = [
        {"name": name, "count": count, "width": 100 * count / largest, "sheet": _sheet(train, place)}
        for place, (name, count) in enumerate(zip(inspection.classes, inspection.counts, strict=True))
    ]
    findings = [{"it": finding, "rows": _pictures(finding)} for finding in inspection.findings]
    page = template("inspection", "data_page.html.jinja").render(
        title=title, classes=classes, findings=findings, channels=inspection.channels, summary=summary
    )
    atomic.write_text(path, page)


def _pictures(finding: Finding) -> list[list[tuple[str, str]]]:
    return [[(_uri(_scaled(pixels)), caption) for pixels, caption in row] for row in finding.rows]


def _sheet(train: LabelledPack, label: int) -> str:
    """Return some of a class's images side by side, evenly sampled, as a data URI."""
    if label >= SHEETS or train.labels is None:
        return ""
    places = np.flatnonzero(train.labels[:, label] if train.labels.ndim == 2 else train.labels == label)
    if not len(places):
        return ""
    chosen = places[np.unique(np.linspace(0, len(places) - 1, SAMPLES).astype(int))]
    return _uri(np.concatenate([_scaled(np.asarray(train.images[place])) for place in chosen], axis=1))


def _scaled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture uint8 [SIDE, SIDE, 3] with a white margin; small images keep visible pixels."""
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    way = Pillow.Resampling.NEAREST if pixels.shape[0] < SIDE else Pillow.Resampling.BILINEAR
    return np.pad(np.asarray(picture.resize((SIDE, SIDE), way)), ((0, 0), (0, 3), (0, 0)), constant_values=255)


def _uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
