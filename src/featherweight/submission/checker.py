"""The one checker: what a submission says, or the row of the first thing that would be refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError, nearest
from featherweight.submission.layout import Form


def check(path: Path, form: Form) -> NDArray[np.int64] | NDArray[np.float64]:
    """What a submission says of the form's ids, in their order: classes int64 [N], or probabilities float64 [N, K].

    Raises UserError with the row of the first thing that would be refused.
    """
    header, rows, numbers = _read(path)
    if tuple(header) != form.columns:
        raise UserError(f"{path}: row 1: the header is '{','.join(header)}', expected '{','.join(form.columns)}'")
    known = {id: place for place, id in enumerate(form.ids)}
    index = {name: place for place, name in enumerate(form.classes)}
    order = [index[name] for name in form.columns[1:]] if form.probabilities else []
    rows_of: dict[str, int] = {}
    given: list[int | list[float]] = []
    out_of_order = ""
    for number, row in zip(numbers, rows, strict=True):
        where = f"{path}: row {number}"
        if len(row) != len(form.columns):
            raise UserError(f"{where}: expected {len(form.columns)} fields, got {len(row)}")
        id, *values = row
        if id in rows_of:
            raise UserError(f"{where}: the id '{id}' stands in row {rows_of[id]} already")
        if id not in known:
            raise UserError(f"{where}: the id '{id}' is not in the test set{nearest(id, form.ids)}")
        if form.probabilities:
            given.append(probabilities(values, order, where, id))
        elif form.positive is not None:
            given.append(_pair(values[0], form.positive, where, id))
        elif values[0] in index:
            given.append(index[values[0]])
        else:
            raise UserError(f"{where}: {unknown(values[0], id, form.classes)}")
        if not out_of_order and known[id] != len(rows_of):
            expected = form.ids[len(rows_of)] if len(rows_of) < len(form.ids) else "the end"
            out_of_order = f"{where}: the id '{id}' stands where '{expected}' belongs"
        rows_of[id] = number
    missing = [id for id in form.ids if id not in rows_of]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(form.ids)} ids are missing, the first is '{missing[0]}'")
    if out_of_order:
        raise UserError(out_of_order)
    if form.probabilities or form.positive is not None:
        return np.array(given, dtype=np.float64).reshape(len(form.ids), len(form.classes))
    return np.array(given, dtype=np.int64)


def probabilities(values: Sequence[str], order: Sequence[int], where: str, id: str) -> list[float]:
    """The probabilities of a row, in class order. Raises UserError where one is none, or all are 0."""
    row = [0.0] * len(order)
    for place, value in zip(order, values, strict=True):
        row[place] = _probability(value, where, id)
    if not any(row):
        raise UserError(f"{where}: every probability of the id '{id}' is 0")
    return row


def _pair(value: str, positive: int, where: str, id: str) -> list[float]:
    """The probabilities of both classes, given the positive one's."""
    certain = _probability(value, where, id)
    return [certain if place == positive else 1 - certain for place in (0, 1)]


def _probability(value: str, where: str, id: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UserError(f"{where}: '{value}' is not a probability (the id '{id}')") from None
    if not 0 <= number <= 1:
        raise UserError(f"{where}: {value} is not a probability (the id '{id}')")
    return number


def unknown(label: str, id: str, classes: Sequence[str]) -> str:
    """In words, that there is no such class."""
    if label.strip().lower() in ("", "nan"):
        return f"the id '{id}' has no class"
    return f"there is no class '{label}'{nearest(label, classes)}"


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """As written: a submission's rows may be faulty, and then the fault is told by the id it stands beside."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from None
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows[0], rows[1:], list(range(2, len(rows) + 1))
