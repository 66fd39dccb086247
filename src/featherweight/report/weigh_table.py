"""Parameter counts of any models as a table for the terminal, as CSV, and as one HTML page that works offline."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.markup import escape

from featherweight import atomic
from featherweight.budget import ModelSize
from featherweight.console import show_table
from featherweight.errors import count_of
from featherweight.pages import template
from featherweight.report.tables import blank_table

Limits = Mapping[str, float]  # the most of each of LIMITED that a model may have
LIMITED = ("parameters", "bytes", "macs", "score", "folded")
COLUMNS: dict[str, tuple[str, Callable[[ModelSize], float | None]]] = {
    "parameters": ("parameters", lambda one: one.parameters),
    "folded": ("folded", lambda one: one.folded),
    "statistics": ("statistics", lambda one: one.statistics),
    "averaged": ("EMA copy", lambda one: one.averaged or None),
    "others": ("optimizer, other", lambda one: one.others or None),
    "bits": ("bits", lambda one: one.bits),
    "zeros": ("zeros", lambda one: one.zeros),
    "score": ("score", lambda one: one.score),
    "macs": ("multiply-adds", lambda one: one.macs),
    "bytes": ("bytes", lambda one: one.bytes),
}
MEANINGS = {  # of columns, on the page
    "parameters": "frozen or not, of any precision; shared memory once; packed weights at their unpacked size",
    "folded": "parameters after folding batch norms into the layer before them and merging branches of training",
    "statistics": "running means and variances, masks and indices: no parameters",
    "averaged": "an average of the weights, stored beside them: no part of the model",
    "others": "the optimizer's state and records of training: no part of the model",
    "bits": "in which the parameters are stored",
    "zeros": "how many parameters are 0",
    "score": "MicroNet's, a size: a parameter of 32 bits is 1, one of 8 bits 1/4; of sparse ones those that are not 0",
    "macs": "for one image",
    "bytes": "of the file",
}


def over(weight: ModelSize, limits: Limits) -> list[str]:
    """Return the quantities of a model that are over their limit, or unknown although there is a limit."""
    amounts = {key: COLUMNS[key][1](weight) for key in limits}
    return [key for key, number in amounts.items() if number is None or number > limits[key]]


def verdict(weight: ModelSize, limits: Limits) -> str:
    """Return the verdict in a word, or which of several limits it exceeds; empty without a limit."""
    if not limits:
        return ""
    beyond = over(weight, limits)
    unknown = [key for key in beyond if COLUMNS[key][1](weight) is None]
    if unknown:
        return f"{', '.join(unknown)} unknown"
    return ("OVER" if len(limits) == 1 else f"OVER: {', '.join(beyond)}") if beyond else "within the limit"


def show(weights: Sequence[ModelSize], limits: Limits) -> None:
    """Print the table, one line per model, without columns that are empty for all."""
    columns = _columns(weights)
    table = blank_table(["model", *(title for title, _ in columns.values()), ""])
    for one in weights:
        table.add_row(escape(one.name), *(_written(take(one)) for _, take in columns.values()), verdict(one, limits))
    show_table(table)


def write_csv(path: Path, weights: Sequence[ModelSize], faults: Mapping[str, str], limits: Limits) -> None:
    """Write one row per model, all columns by their keys; unknown values are empty, and so are those of files with a
    fault.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *COLUMNS, "verdict"])
    for one in weights:
        amounts = [getattr(one, key) for key in COLUMNS]
        writer.writerow([one.name, *("" if number is None else number for number in amounts), verdict(one, limits)])
    for name, fault in faults.items():
        writer.writerow([name, *[""] * len(COLUMNS), f"not weighed: {fault}"])
    atomic.write_text(path, text.getvalue())


def write_html(path: Path, weights: Sequence[ModelSize], faults: Sequence[str], limits: Limits) -> None:
    """Write the page: the smallest first, with a bar against the limit (or the largest), and the files with faults."""
    columns, beyond = _columns(weights), sum(bool(over(one, limits)) for one in weights)
    widest = limits.get("parameters") or max((one.parameters for one in weights), default=1) or 1
    rows = [
        {
            "name": one.name,
            "cells": [_written(take(one)) for _, take in columns.values()],
            "share": 100 * one.parameters / widest,
            "verdict": verdict(one, limits),
            "over": bool(over(one, limits)),
        }
        for one in sorted(weights, key=lambda one: one.parameters)
    ]
    titles = {title: MEANINGS[key] for key, (title, _) in columns.items()}
    counts = [count_of(len(weights), "model")]
    if limits:
        stated = ", ".join(f"{COLUMNS[key][0]} {_written(number)}" for key, number in limits.items())
        counts = [f"Limit: {stated}", f"{len(weights) - beyond:,} of {counts[0]} within"]
    counts += [f"{count_of(len(faults), 'file')} not weighed"] if faults else []
    page = template("report", "weights.html.jinja").render(
        titles=titles, rows=rows, faults=faults, counts="; ".join(counts), limited="parameters" in limits
    )
    atomic.write_text(path, page)


def _columns(weights: Sequence[ModelSize]) -> dict[str, tuple[str, Callable[[ModelSize], float | None]]]:
    """Return the columns that are not empty for all."""
    return {key: column for key, column in COLUMNS.items() if any(column[1](one) is not None for one in weights)}


def _written(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.1f}".removesuffix(".0") if isinstance(number, float) else f"{number:,}"
