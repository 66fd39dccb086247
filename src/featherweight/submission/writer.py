"""Write submissions; one function formats the rows for the holdout and for the images to predict."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import plain
from featherweight.evaluation.probability_metrics import normalized, ranking
from featherweight.submission.csv_format import Form


def write(
    path: Path, form: Form, ids: Sequence[str], probs: NDArray[np.floating], answers: Answers | None = None
) -> None:
    """Write a submission in the form's columns and order.

    `probs`, float [N, K], has its rows in the order of `ids` (of images) and its columns in class order. `answers` are
    the decided classes, int64 [N] or sets [N, K] (see `decisions`); by default the plain answers.
    """
    row_of = {id: row for row, id in enumerate(ids)}
    rows = [row_of[image] for image in form.images]
    text = io.StringIO()
    # The csv module writes a bare carriage return without quotes, and readers take it for the end of a row.
    returns = any("\r" in field for field in (*form.columns, *form.ids, *form.classes))
    writer = csv.writer(
        text,
        delimiter=form.delimiter,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL,
    )
    writer.writerow(form.columns)
    answers = plain(probs, form.several) if answers is None else answers
    writer.writerows(
        [id, *fields] for id, fields in zip(form.ids, _fields(form, probs[rows], answers[rows]), strict=True)
    )
    atomic.write_text(path, text.getvalue())


def _fields(form: Form, probs: NDArray[np.floating], answers: Answers) -> Iterator[list[str]]:
    """Yield the fields after the id for each row."""
    classes = form.classes
    if form.takes == "probabilities":
        order = [classes.index(name) for name in form.columns[1:]]
        certain = (probs.astype(np.float64).clip(0, 1) if form.several else normalized(probs))[:, order]
        # Among several columns the others show how far from 1 a probability is, so it needs fewer digits.
        kept = _probability if form.several else "{:.8g}".format
        yield from ([kept(p) for p in row] for row in certain.tolist())
    elif form.takes == "probability":
        yield from ([_probability(p)] for p in normalized(probs)[:, form.positive].tolist())
    elif form.takes == "ranked":
        yield from ([form.separator.join(classes[k] for k in row[: form.k])] for row in ranking(probs))
    elif form.takes == "one_hot":
        order = [classes.index(name) for name in form.columns[1:]]
        sets = answers if form.several else np.eye(len(classes), dtype=np.int64)[answers]
        yield from ([str(int(yes)) for yes in row] for row in sets[:, order])
    elif form.several:
        yield from ([form.separator.join(classes[k] for k in np.flatnonzero(row)) or form.empty] for row in answers)
    else:
        yield from ([classes[k]] for k in answers)


def _probability(p: float) -> str:
    """Return a probability as text; near 1 in full precision, so that rounding does not make it certain."""
    return f"{p:.8g}" if p < 0.999 else f"{p:.17g}"
