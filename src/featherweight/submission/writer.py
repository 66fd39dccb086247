"""The one writer of submissions, for the holdout as for the competition's images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.evaluation.probability_forms import normalized
from featherweight.submission.layout import Form


def write(path: Path, form: Form, ids: Sequence[str], probs: NDArray[np.floating]) -> None:
    """Write the most probable class of each id, all its probabilities or the positive class's, in the form's order.

    `probs` is float [N, K], its rows as `ids` (of images), its columns in class order.
    """
    row_of = {id: row for row, id in enumerate(ids)}
    rows = [row_of[image] for image in form.images]
    text = io.StringIO()
    # The csv module takes a bare carriage return for the reader's business, and the reader for a new row.
    returns = any("\r" in field for field in (*form.columns, *form.ids, *form.classes))
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerow(form.columns)
    if form.probabilities:
        order = [form.classes.index(name) for name in form.columns[1:]]
        given = normalized(probs)[rows][:, order]
        writer.writerows([id, *(f"{p:.8g}" for p in row)] for id, row in zip(form.ids, given.tolist(), strict=True))
    elif form.positive is not None:
        certain = normalized(probs)[rows, form.positive].tolist()
        writer.writerows((id, f"{p:.8g}") for id, p in zip(form.ids, certain, strict=True))
    else:
        best = probs.argmax(1)
        writer.writerows((id, form.classes[best[row]]) for id, row in zip(form.ids, rows, strict=True))
    atomic.write_text(path, text.getvalue())
