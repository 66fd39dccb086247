"""Check a submission: return what it says, or refuse it with the row of the first fault."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.console import say
from featherweight.data.csv_file import number_of
from featherweight.errors import UserError, count_of, nearest
from featherweight.evaluation.class_metrics import Answers
from featherweight.submission.csv_format import Form

SEPARATOR = "save it with that separator (Excel takes its own from the language of the system)"


def check(path: Path, form: Form) -> Answers | NDArray[np.float64]:
    """Return what a submission says about the form's ids, in their order.

    These are classes int64 [N], sets of classes uint8 [N, K], rankings int64 [N, k] (-1 for missing places), or
    probabilities float64 [N, K]. Raises UserError with the row of the first fault.
    """
    header, rows, numbers = _read(path, form.delimiter)
    if tuple(header) != form.columns:
        given, wanted = form.delimiter.join(header), form.delimiter.join(form.columns)
        other = next((mark for mark in ";,\t" if tuple(given.split(mark)) == form.columns), "")
        remedy = f": the columns are separated by {other!r}, expected {form.delimiter!r}; {SEPARATOR}" if other else ""
        raise UserError(f"{path}: row 1: the header is '{given}', expected '{wanted}'{remedy}")
    known = {id: place for place, id in enumerate(form.ids)}
    read = _Reader(form)
    rows_of: dict[str, int] = {}
    cells: list[Any] = []
    out_of_order = ""
    for number, row in zip(numbers, rows, strict=True):
        where = f"{path}: row {number}"
        if len(row) != len(form.columns):
            raise UserError(f"{where}: expected {len(form.columns)} fields, got {len(row)}")
        id, *values = row
        if id in rows_of:
            raise UserError(f"{where}: the id '{id}' is in row {rows_of[id]} already")
        if id not in known:
            raise UserError(f"{where}: the id '{id}' is not one of the images to predict{nearest(id, form.ids)}")
        cells.append(read.row(values, where, id))
        if not out_of_order and known[id] != len(rows_of):
            expected = form.ids[len(rows_of)] if len(rows_of) < len(form.ids) else "the end"
            out_of_order = f"{where}: the id '{id}' stands where '{expected}' belongs"
        rows_of[id] = number
    missing = [id for id in form.ids if id not in rows_of]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(form.ids)} ids are missing, the first is '{missing[0]}'")
    if out_of_order:
        raise UserError(out_of_order)
    answers = np.array(cells, dtype=read.dtype)
    return answers.reshape(len(form.ids), -1) if answers.ndim == 2 or (not len(answers) and read.wide) else answers


def check_upload(path: Path, form: Form) -> int:
    """Check a submission that is to be uploaded, and return its number of rows; say what is valid here and refused by
    some competitions: empty fields. Raises UserError as `check` does.
    """
    answers = check(path, form)
    blank = int((~answers.astype(bool).any(axis=1)).sum()) if form.takes == "set" and not form.empty else 0
    if blank:
        say(
            f"{path.name}: {blank:,} of {count_of(len(answers), 'row')} have no class, so an empty field, which some "
            f"competitions refuse: if the sample submission has a word for it, set submission.empty to that word"
        )
    return len(answers)


class _Reader:
    """Reads the fields after the id according to the form."""

    def __init__(self, form: Form) -> None:
        self.form, self.index = form, {name: k for k, name in enumerate(form.classes)}
        self.order = [self.index[name] for name in form.columns[1:]] if form.one_column_per_class else []
        certain, sets = form.takes in ("probabilities", "probability"), form.several
        self.dtype: Any = np.float64 if certain else np.uint8 if sets and form.takes != "ranked" else np.int64
        self.wide = certain or sets or form.takes == "ranked"

    def row(self, values: list[str], where: str, id: str) -> int | list[int] | list[float]:
        form = self.form
        if form.takes == "probabilities":
            return probabilities(values, self.order, where, id, empty=form.several)
        if form.takes == "probability":
            certain = _probability(values[0], where, id)
            return [certain if k == form.positive else 1 - certain for k in (0, 1)]
        if form.takes == "one_hot":
            return self._hot(values, where, id)
        if form.takes == "ranked":
            return self._ranked(form.parts(values[0]), where, id)
        if form.takes == "set":
            chosen = self._distinct(form.parts(values[0]), where, id)
            return [int(k in chosen) for k in range(len(form.classes))]
        return self._class(values[0], where, id)

    def _class(self, name: str, where: str, id: str) -> int:
        if name not in self.index:
            raise UserError(f"{where}: {unknown(name, id, self.form.classes)}")
        return self.index[name]

    def _distinct(self, names: list[str], where: str, id: str) -> list[int]:
        chosen = [self._class(name, where, id) for name in names]
        if len(set(chosen)) < len(chosen):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{where}: the class '{twice}' appears twice (the id '{id}')")
        return chosen

    def _ranked(self, names: list[str], where: str, id: str) -> list[int]:
        most = self.form.k or 1
        if not 1 <= len(names) <= most:
            raise UserError(f"{where}: {len(names)} classes for the id '{id}', expected 1 to {most}")
        return [*self._distinct(names, where, id), *[-1] * (most - len(names))]

    def _hot(self, values: list[str], where: str, id: str) -> int | list[int]:
        row = [0] * len(self.order)
        for k, value in zip(self.order, values, strict=True):
            if value.strip() not in ("0", "1", "0.0", "1.0"):
                raise UserError(f"{where}: '{value}' is neither 0 nor 1 (the id '{id}')")
            row[k] = int(float(value))
        if self.form.several:
            return row
        if sum(row) != 1:
            raise UserError(f"{where}: {sum(row)} classes hold 1 for the id '{id}', expected one")
        return row.index(1)


def probabilities(values: Sequence[str], order: Sequence[int], where: str, id: str, empty: bool = False) -> list[float]:
    """Return a row's probabilities in class order. Raises UserError for faulty ones and, unless `empty`, for all 0."""
    row = [0.0] * len(order)
    for k, value in zip(order, values, strict=True):
        row[k] = _probability(value, where, id)
    if not empty and not any(row):
        raise UserError(f"{where}: every probability of the id '{id}' is 0")
    return row


def _probability(value: str, where: str, id: str) -> float:
    number = number_of(value)
    if number is None or not 0 <= number <= 1:
        raise UserError(f"{where}: '{value}' is not a probability (the id '{id}')")
    return number


def unknown(label: str, id: str, classes: Sequence[str]) -> str:
    """Return a message that there is no such class."""
    if label.strip().lower() in ("", "nan"):
        return f"the id '{id}' has no class"
    return f"there is no class '{label}'{nearest(label, classes)}"


def _read(path: Path, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, rows and row numbers as written; faults in rows are reported later, with their ids."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8 (Excel: CSV UTF-8)") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from None
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows[0], rows[1:], list(range(2, len(rows) + 1))
