"""Images as rows of a CSV, a column a pixel."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.data import csv_file
from featherweight.data.listing import Listing, Samples, Stored, existing, numbered
from featherweight.errors import UserError
from featherweight.schema import Index, Text

if TYPE_CHECKING:
    import pandas as pd


def pixels(
    root: Path,
    *,
    train: Text,
    test: Text | None = None,
    label: Text = "label",
    id: Text | None = None,
    channels: Literal["last", "first"] = "last",
    first_id: Index = 1,
) -> Listing:
    """A `train` CSV with a `label` column and a column a pixel (0 to 255), row by row; a `test` CSV without labels.

    Without an `id` column an image's id is its row, counted from `first_id`. Of three channels, a pixel's come one
    after the other (`channels: last`) or a whole picture of each does (`first`).
    """

    def stored(name: str, labelled: bool) -> Stored:
        path = existing(root, name)
        return Stored([path], lambda: _read(path, label if labelled else None, id, channels, first_id))

    return Listing(train=stored(train, True), test=stored(test, False) if test else None)


def _read(path: Path, label: str | None, id: str | None, channels: str, first_id: int) -> Samples:
    import pandas as pd  # half a second, which commands that read no pixels do without

    start = csv_file.beginning(path, 5)
    if start is None:
        start = csv_file.read(path)  # which says what is wrong
    for name in filter(None, (label, id)):
        start.column(name)
    text = [name for name in (label, id) if name]
    with path.open("rb") as stream:
        delimiter = csv_file.sniff(stream.read(1 << 16).decode("utf-8-sig", "ignore"))
    try:
        table = pd.read_csv(path, sep=delimiter, dtype=dict.fromkeys(text, str), encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not a table of pixels ({error})") from None
    table.columns = table.columns.str.strip()
    for name in text:
        if table[name].isna().any():
            row = int(np.flatnonzero(table[name].isna())[0]) + 2
            raise UserError(f"{path}: row {row}: there is no value in the column '{name}'")
    images = _square(_numbers(table.drop(columns=text), path), channels, path)
    ids = list(table[id]) if id else numbered(len(table), first_id)
    return Samples(ids, images, list(table[label]) if label else None)


def _numbers(table: pd.DataFrame, path: Path) -> NDArray[np.uint8]:
    import pandas as pd

    for name in table.columns:
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = ~((values >= 0) & (values <= 255))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            given = str(table[name].iloc[row])
            raise UserError(f"{path}: row {row + 2}: {name}: expected a pixel of 0 to 255, got {given!r}")
    if not len(table):
        raise UserError(f"{path}: there are no rows")
    numbers: NDArray[np.uint8] = table.to_numpy(dtype=np.float32).round().astype(np.uint8)
    return numbers


def _square(rows: NDArray[np.uint8], channels: str, path: Path) -> NDArray[np.uint8]:
    count = rows.shape[1]
    for depth in (1, 3):
        side = math.isqrt(count // depth)
        if side * side * depth == count and side > 1:
            if depth == 1:
                return rows.reshape(-1, side, side)
            if channels == "last":
                return rows.reshape(-1, side, side, depth)
            return np.ascontiguousarray(rows.reshape(-1, depth, side, side).transpose(0, 2, 3, 1))
    raise UserError(f"{path}: {count:,} pixel columns make no square image of 1 or 3 channels")
