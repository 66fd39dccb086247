"""The report itself: `runs/NAME/report/report.html`, which needs no other file, and its figures as PNG beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from featherweight import atomic, yaml
from featherweight.errors import UserError
from featherweight.pages import template
from featherweight.report import advice, evidence, figures
from featherweight.report.evidence import Evidence, Picture
from featherweight.runs import ledger, predictions
from featherweight.runs.expected_score import Expected
from featherweight.runs.run import Run

SIDE = 192  # pixels of a shown picture at most, which keeps the page small
COLORS = ("#3b82c4", "#e07b39", "#4c9f70", "#9467bd", "#c0a02c", "#d64550", "#5fa8a8", "#8c6d5a")


def write(run: Run) -> Path:
    """Write the report of a finished run; return the page. Raises UserError for a run that is not finished."""
    if run.competition.target == "several":
        raise UserError(f"{run.name}: a report shows one class per image, and here an image has several")
    gathered = evidence.gather(run)
    folder = run.folder / "report"
    drawn = _figures(gathered)
    for name, (figure, _) in drawn.items():
        atomic.write_bytes(folder / f"{name}.png", figures.png(figure))
    filled = template("report", "report.html.jinja", picture=picture, overlay=overlay, inline=_inline)
    page = filled.render(
        **_words(gathered),
        figures={
            name: figures.svg(figure, label)
            for name, (figure, label) in (drawn | _narrow(gathered)).items()
            if name != "curves"  # the page shows each panel by itself
        },
        curves=_curves(gathered),
    )
    target = folder / "report.html"
    atomic.write_text(target, page)
    return target


def _figures(gathered: Evidence) -> dict[str, tuple[Figure, str]]:
    """Return every figure with its alternative text."""
    matrix, groups = evidence.clustered_classes(gathered.confusion, gathered.classes)
    drawn = {
        "confusion": (figures.confusion(matrix, _names(groups)), "Confusion matrix of the holdout"),
        "reliability": (
            figures.reliability(*evidence.calibration(gathered.probs, gathered.true)),
            "Reliability diagram",
        ),
        "balance": (figures.balance(gathered.counts, gathered.classes), "Images of each class"),
    }
    if gathered.history is not None:
        curves = figures.curves(gathered.history, gathered.run.competition.metric.name)
        drawn["curves"] = (curves, "Loss, metrics and learning rate by epoch")
    return drawn


def _narrow(gathered: Evidence) -> dict[str, tuple[Figure, str]]:
    """Return the figures that replace others on a phone."""
    matrix, groups = evidence.clustered_classes(gathered.confusion, gathered.classes)
    figure = figures.confusion(matrix, _names(groups), narrow=True)
    return {"confusion_narrow": (figure, "Confusion matrix of the holdout, for a narrow page")}


def _curves(gathered: Evidence) -> list[str]:
    """Return each panel of the curves as a figure of its own."""
    if gathered.history is None:
        return []
    shown = figures.shown_curves(gathered.history, gathered.run.competition.metric.name)
    return [
        figures.svg(figures.curve(gathered.history, title, panel), f"{title} by epoch")
        for title, panel in shown.items()
    ]


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    return [group[0] if len(group) == 1 else f"{group[0]} + {len(group) - 1}" for group in groups]


def _words(gathered: Evidence) -> dict[str, Any]:
    """Return the values for the template."""
    run, accuracy = gathered.run, float((gathered.predicted == gathered.true).mean())
    _, groups = evidence.clustered_classes(gathered.confusion, gathered.classes)
    rows = ledger.submissions()
    submissions = ledger.records(rows[rows["run"] == run.name])
    weighed = gathered.weighed
    return {
        "run": run,
        "title": run.competition.title,
        "metric": run.competition.metric.name.replace("_", " "),
        "result": gathered.result,
        "weighed": weighed,
        "parts": [
            {"name": group.name, "count": group.parameters, "color": COLORS[place % len(COLORS)]}
            for place, group in enumerate(group for group in weighed.groups if group.parameters)
        ],
        "teachers": gathered.teachers,
        "submissions": submissions,
        "accuracy": accuracy,
        "confidence": float(gathered.probs.max(1).mean()),
        "plain_accuracy": gathered.plain_accuracy,
        "views": " x ".join(view.name for view in predictions.views(run.recipe, run.competition)),
        "per_class": evidence.by_class(gathered.confusion, gathered.classes),
        "confused": evidence.most_confused(gathered.confusion, gathered.classes),
        "groups": [group for group in groups if len(group) > 1],
        "mistakes": gathered.mistakes,
        "advice": advice.advise(run, gathered.result.holdout, gathered.history, gathered.probs, gathered.true),
        "wrong": int((gathered.predicted != gathered.true).sum()),
        "suspects": gathered.suspects,
        "trained": int(gathered.counts["train"].sum()),
        "epochs": run.epochs,
        "held": len(gathered.true),
        "tested": gathered.tested,
        "findings": gathered.findings,
        "near": gathered.near,
        "divided": divided(run, gathered.came_divided),
        "expected": Expected.read(run),
        "recipe": yaml.dump(run.recipe.model_dump(mode="json")),
        "competition": yaml.dump(run.competition.model_dump(mode="json")),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def divided(run: Run, came_divided: bool) -> str:
    """Return in words how the holdout was made; `came_divided`: the data has a validation part of its own."""
    split, competition = run.recipe.split, run.competition
    if came_divided:
        return "Held out: the validation part that came with the data"
    if split.folds is not None:
        how = f"fold {split.fold} of {split.folds}"
    else:
        how = f"{split.holdout:.0%} of each class" if split.holdout < 1 else f"{split.holdout:,.0f} images"
    joined = competition.group or competition.groups or competition.source.arguments.get("group")
    return f"Held out: {how}, seed {split.seed}{f', images of one group together ({joined})' if joined else ''}"


def picture(shown: Picture) -> str:
    """Return a picture as a data URI."""
    return _inline(shown.image)


def overlay(shown: Picture) -> str:
    """Return the picture under its heat map, bright where the model looked, as a data URI."""
    assert shown.heat is not None
    heat = matplotlib.colormaps["inferno"](shown.heat)[..., :3] * 255
    return _inline((0.4 * shown.image + 0.6 * heat).astype(np.uint8))


def _inline(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    kind = "PNG" if max(image.size) <= 64 else "JPEG"
    image.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
