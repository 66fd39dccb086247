"""All runs on one offline page: a table that is sorted by a click, and learning curves drawn over each other."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from featherweight import atomic, paths
from featherweight.errors import UserError
from featherweight.evaluation.metrics import metric_by_name
from featherweight.pages import template
from featherweight.runs import query
from featherweight.runs.run import Run

POINTS = 200  # of a curve at most, as many as a page has pixels for
DRAWN = 6  # curves of a competition that are drawn at first
PANELS = {"holdout_score": "", "holdout_loss": "holdout loss", "train_loss": "training loss"}  # first: the metric


def write(rows: pd.DataFrame, target: Path) -> Path:
    """Write the page of the ledger's rows, in their order; return its path."""
    differences = query.differences(rows)
    shown = [_line(row, differs, target) for row, differs in zip(rows.to_dict("records"), differences, strict=True)]
    begun: dict[str, int] = {}
    for number, line in enumerate(shown):
        line["number"] = number
        begun[line["competition"]] = begun.get(line["competition"], 0) + bool(line["curves"])
        line["drawn"] = bool(line["curves"]) and begun[line["competition"]] <= DRAWN
    curves = {line["number"]: line["curves"] for line in shown if line["curves"]}
    page = template("report", "runs.html.jinja").render(
        rows=shown,
        competitions=list(dict.fromkeys(line["competition"] for line in shown)),
        parts=[*query.scored_parts(rows), "public"],
        # A script must not contain the end of a script.
        curves=json.dumps(curves, separators=(",", ":")).replace("<", "\\u003c"),
        panels=json.dumps(PANELS),
    )
    atomic.write_text(target, page)
    return target


def _line(row: Mapping[Any, Any], differs: str, target: Path) -> dict[str, Any]:
    """Return a row as the page shows it: numbers to sort by, with their text."""
    metric = metric_by_name(row["metric"])

    def score(key: str) -> tuple[float | None, str]:
        return (None, "") if math.isnan(row[key]) else (row[key] * metric.sign, metric.shown(row[key]))

    low, high = (metric.number(row[f"holdout_{end}"]) for end in ("low", "high"))
    page = paths.runs() / row["run"] / "report" / "report.html"
    return {
        **{key: row[key] for key in ("run", "recipe", "competition", "parameters", "minutes")},
        "metric": metric.spoken,
        "holdout": score("holdout"),
        "interval": f"{low} to {high}",
        "test": score("test"),
        "predict": score("predict"),
        "public": (None, "") if math.isnan(row["public"]) else (row["public"] * metric.sign, f"{row['public']:.5f}"),
        "epochs": None if math.isnan(row["epochs"]) else int(row["epochs"]),
        "date": row["date"][:16].replace("T", " "),
        "differs": differs,
        "report": quote(os.path.relpath(page, target.parent)) if page.is_file() else None,
        "curves": _curves(row["run"]),
    }


def _curves(name: str) -> dict[str, list[list[float]]]:
    """Return the epochs and values of a run by panel, thinned to POINTS; empty if its folder is not here."""
    try:
        history = Run.find(name).history if Run.exists(name) else None
    except UserError:  # damaged, or made of other runs: shown without curves
        history = None
    if history is None or "epoch" not in history:
        return {}
    curves: dict[str, list[list[float]]] = {}
    for column in PANELS:
        if column in history and history[column].notna().any():
            known = history.dropna(subset=[column])
            some = known.iloc[_spread(len(known))]
            curves[column] = [some["epoch"].tolist(), some[column].round(5).tolist()]
    return curves


def _spread(count: int) -> list[int]:
    if count <= POINTS:
        return list(range(count))
    return [round(place * (count - 1) / (POINTS - 1)) for place in range(POINTS)]
