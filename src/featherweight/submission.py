"""The submission CSV: one writer, one checker, one scorer, for the holdout as for the test set.

The scorer reads what the writer wrote and the checker let pass, so what is scored is what is uploaded. Ids are text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic, workspace
from featherweight.config import Competition
from featherweight.errors import UserError, nearest
from featherweight.scoring import Score


@dataclass(frozen=True)
class Form:
    """What a submission must look like: two columns, the ids in order, and the classes that may stand beside them."""

    columns: tuple[str, str]
    ids: list[str]
    classes: list[str]


def form(competition: Competition, ids: Sequence[str]) -> Form:
    """The form for `ids`: from the sample file where the competition has one, which then settles columns and order."""
    wanted = competition.submission
    if wanted.sample is None:
        return Form((wanted.id, wanted.label), list(ids), competition.classes)
    path = workspace.data() / wanted.sample
    header, rows = _read(path)
    if len(header) != 2:
        raise UserError(f"{path}: row 1: expected two columns, an id and a label, got {len(header)}")
    listed = [row[0] for row in rows]
    missing = set(ids) ^ set(listed)
    if missing:
        raise UserError(
            f"{path}: the sample's ids are not the test images' ids; for example '{min(missing)}' is in only one"
        )
    return Form((header[0], header[1]), listed, competition.classes)


def holdout_form(competition: Competition, ids: Sequence[str]) -> Form:
    """The form of a submission for the holdout: the same columns, its own ids."""
    return Form((competition.submission.id, competition.submission.label), list(ids), competition.classes)


def write(path: Path, form: Form, ids: Sequence[str], probs: NDArray[np.float32]) -> None:
    """Write the most probable class of each id, in the form's order. `probs` is float32 [N, K], its rows as `ids`."""
    best = {id: form.classes[place] for id, place in zip(ids, probs.argmax(1), strict=True)}
    text = io.StringIO()
    # The csv module takes a bare carriage return for the reader's business, and the reader for a new row.
    returns = any("\r" in field for field in (*form.columns, *form.ids, *form.classes))
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerow(form.columns)
    writer.writerows((id, best[id]) for id in form.ids)
    atomic.write_text(path, text.getvalue())


def check(path: Path, form: Form) -> dict[str, str]:
    """The class of every id, in order. Raises UserError with the row of the first thing that would be refused."""
    header, rows = _read(path)
    if tuple(header) != form.columns:
        raise UserError(f"{path}: row 1: the header is '{','.join(header)}', expected '{','.join(form.columns)}'")
    known, classes = {id: place for place, id in enumerate(form.ids)}, set(form.classes)
    found: dict[str, str] = {}
    rows_of: dict[str, int] = {}
    out_of_order = ""
    for number, row in enumerate(rows, start=2):
        where = f"{path}: row {number}"
        if len(row) != 2:
            raise UserError(f"{where}: expected 2 fields, got {len(row)}")
        id, label = row
        if id in found:
            raise UserError(f"{where}: the id '{id}' stands in row {rows_of[id]} already")
        if id not in known:
            raise UserError(f"{where}: the id '{id}' is not in the test set{nearest(id, form.ids)}")
        if label.strip().lower() in ("", "nan") and label not in classes:
            raise UserError(f"{where}: the id '{id}' has no class")
        if label not in classes:
            raise UserError(f"{where}: there is no class '{label}'{nearest(label, form.classes)}")
        if not out_of_order and known[id] != number - 2:
            expected = form.ids[number - 2] if number - 2 < len(form.ids) else "the end"
            out_of_order = f"{where}: the id '{id}' stands where '{expected}' belongs"
        found[id], rows_of[id] = label, number
    missing = [id for id in form.ids if id not in found]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(form.ids)} ids are missing, the first is '{missing[0]}'")
    if out_of_order:
        raise UserError(out_of_order)
    return found


def score(path: Path, form: Form, answers: Mapping[str, str], competition: Competition) -> Score:
    """Check the CSV at `path` and score it by the competition's metric against the true classes by id."""
    index = {name: place for place, name in enumerate(form.classes)}
    given = check(path, form)
    predicted = np.array([index[given[id]] for id in form.ids], dtype=np.int64)
    true = np.array([index[answers[id]] for id in form.ids], dtype=np.int64)
    result: Score = competition.metric(predicted, true)
    return result


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
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
    return rows[0], rows[1:]
