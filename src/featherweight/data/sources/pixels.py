"""Images as rows of a table: one column per pixel, all pixels as text in one column, or bands as lists in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.data import csv_file, tables
from featherweight.data.listing import Label, Listing, Samples, Stored, existing, numbered
from featherweight.data.pixel_frames import frame, parted
from featherweight.data.pixel_range import BYTES, Limits, scaled, spread
from featherweight.errors import UserError
from featherweight.schema import NonNegativeInt53, Number, Text

if TYPE_CHECKING:
    import pandas as pd

CURE = "(set source.range: [BLACK, WHITE])"


def pixels(  # the parameters are the keys of a competition's file
    root: Path,
    *,
    train: Text | list[Text],
    test: Text | list[Text] | None = None,
    label: Text = "label",
    id: Text | None = None,
    test_id: Text | None = None,
    test_label: Text | None = None,
    labels: Text | None = None,
    group: Text | None = None,
    values: Text | None = None,
    bands: list[Text] = [],
    split: Text | None = None,
    valid_rows: list[Text] = [],
    test_rows: list[Text] = [],
    leave_out: list[Text] = [],
    range: list[Number] = [0.0, 255.0],
    channels: Literal["last", "first"] = "last",
    first_id: NonNegativeInt53 = 1,
) -> Listing:
    """Tables `train` (CSV, Parquet, JSON) with a column `label` and one column per pixel, row by row, and `test`.

    `values` names a column that holds all pixels as text instead, `bands` those that hold one channel each as a list;
    with two bands the third channel is their mean. `leave_out` names columns that are neither pixels nor anything else.
    The `range` of the numbers is from black to white. Where the labels stand in a table of their own, `labels` names
    it, and `id` the column that both have. The column `group`, in the table of the classes, says which images belong
    together; a blank is an image alone. Without an `id` (of the test: `test_id`) an image's id is its row, counted
    from `first_id`. `test_label` is the column of the test's classes, where they are known. Rows whose column `split`
    holds one of `valid_rows` are held out, those of `test_rows` are the labelled test. Of three channels, a pixel's
    come one after the other (`channels: last`) or a whole picture of each does (`first`).
    """
    trains, tests = _paths(root, train), _paths(root, test)
    layout = Layout(values, bands, leave_out, (range[0], range[-1]), channels, first_id)
    beside = existing(root, labels) if labels else None

    def part(wanted: Sequence[str] | None) -> Samples:
        within = {} if beside else {"label": label, "group": group}
        read = _joined([_read(path, layout, {"id": id, **within, "split": split}) for path in trains])
        labels = _beside(beside, id, label, read) if beside else read.text["label"]
        groups = _beside(beside, id, group, read) if beside and group else read.text.get("group")
        rows = np.arange(len(read.images))
        if split:
            chosen = set(wanted) if wanted is not None else None
            others = {*valid_rows, *test_rows}
            here = [v in chosen if chosen is not None else v not in others for v in map(str.strip, read.text["split"])]
            rows = np.flatnonzero(here)
        return read.samples(rows, labels, groups)

    def predict() -> Samples:
        if not tests:
            samples = part(test_rows)
            return Samples(samples.ids, samples.images, places=samples.places)
        of_tests = replace(layout, leave_out=[*leave_out, *filter(None, (test_label, group))])
        text = {"id": test_id or (None if labels else id)}
        read = _joined([_read(path, of_tests, text) for path in tests])
        return read.samples(np.arange(len(read.images)), None)

    def answers() -> Mapping[str, Label]:
        if not tests:
            samples = part(test_rows)
            return dict(zip(samples.ids, samples.labels or (), strict=True))
        labels = [name for path in tests for name in tables.read(path).column(test_label or label)]
        return dict(zip(predict().ids, labels, strict=True))

    return Listing(
        train=Stored([*trains, *([beside] if beside else [])], lambda: part(None)),
        predict=Stored(tests or trains, predict) if tests or test_rows else None,
        valid=Stored(trains, lambda: part(valid_rows)) if valid_rows else None,
        answers=answers if test_label or test_rows else None,
    )


@dataclass(frozen=True)
class Layout:
    """How pixels are arranged in a table, by the keys of a competition's file."""

    values: str | None
    bands: Sequence[str]
    leave_out: Sequence[str]
    range: Limits
    channels: str
    first_id: int


@dataclass(frozen=True)
class PixelRows:
    """Images in tables, uint8 [N, H, W] or [N, H, W, 3], their text columns by meaning, and where each row stands.

    Without ids, rows are counted from `first_id`.
    """

    images: NDArray[np.uint8]
    text: Mapping[str, Sequence[str]]
    places: Sequence[str]
    first_id: int

    def samples(
        self, rows: NDArray[np.int64], labels: Sequence[str] | None, groups: Sequence[str] | None = None
    ) -> Samples:
        """Return some of the rows as images; without ids, an id is the row's number. A blank group is its image's."""
        ids = self.text.get("id") or numbered(len(self.images), self.first_id)
        return Samples(
            [ids[row] for row in rows],
            self.images[rows],
            None if labels is None else [labels[row] for row in rows],
            None if groups is None else [groups[row] if groups[row].strip() else f"/{ids[row]}" for row in rows],
            places=[self.places[row] for row in rows],
        )


def _paths(root: Path, names: str | Sequence[str] | None) -> list[Path]:
    return [existing(root, name) for name in ([names] if isinstance(names, str) else names or ())]


def _read(path: Path, layout: Layout, columns: Mapping[str, str | None]) -> PixelRows:
    wanted = {what: name for what, name in columns.items() if name}
    table = frame(path, list(wanted.values()))
    for name in [*wanted.values(), *layout.bands, *([layout.values] if layout.values else [])]:
        if name not in table.columns:
            shown = csv_file.examples([str(column) for column in table.columns], 8)
            raise UserError(f"{path}: row 1: there is no column '{name}'; the columns are {shown}")
    if "group" in wanted:
        table[wanted["group"]] = table[wanted["group"]].fillna("")
    for name in wanted.values():
        if table[name].isna().any():
            row = int(np.flatnonzero(table[name].isna())[0]) + 2
            raise UserError(f"{path}: row {row}: there is no value in the column '{name}'")
    if not len(table):
        raise UserError(f"{path}: there are no rows")
    if layout.bands:
        images = _banded(table, layout, path)
    elif layout.values:
        images = _spelled(table, layout.values, layout, path)
    else:
        skipped = [name for name in {*wanted.values(), *layout.leave_out} if name in table.columns]
        images = _square(_numbers(table.drop(columns=skipped), layout.range, path), layout.channels, path)
    text = {what: [str(value) for value in table[name]] for what, name in wanted.items()}
    return PixelRows(images, text, [f"{path}:{row}" for row in range(1, len(table) + 1)], layout.first_id)


def _joined(parts: Sequence[PixelRows]) -> PixelRows:
    if len(parts) == 1:
        return parts[0]
    text = {what: [value for part in parts for value in part.text[what]] for what in parts[0].text}
    try:
        images = np.concatenate([part.images for part in parts])
    except ValueError:
        raise UserError(f"{parts[0].places[0]}: the tables hold images of different sizes") from None
    return PixelRows(images, text, [place for part in parts for place in part.places], parts[0].first_id)


def _beside(path: Path, id: str | None, column: str, rows: PixelRows) -> list[str]:
    """Return each image's value in a column of a separate table."""
    table = tables.read(path)
    of = dict(zip(table.column(id or table.header[0]), table.column(column), strict=True))
    missing = next((name for name in rows.text.get("id", [""]) if name not in of), None)
    if missing is not None:
        raise UserError(f"{path}: there is no row for the image '{missing}'")
    return [of[name] for name in rows.text["id"]]


def _numbers(table: pd.DataFrame, limits: Limits, path: Path) -> NDArray[np.uint8]:
    import pandas as pd

    low, high = limits
    for name in table.columns:
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = str(table[name].iloc[row])
            raise UserError(f"{path}: row {row + 2}: {name}: expected a pixel of {low:g} to {high:g}, got {value!r}")
    pixels = table.to_numpy(dtype=np.float32)
    _refuse_dark(pixels, limits, path)
    return scaled(pixels, limits)


def _spelled(table: pd.DataFrame, column: str, layout: Layout, path: Path) -> NDArray[np.uint8]:
    """Return pixels stored as text in one column, separated by spaces or commas."""
    values = parted(table, column, path)
    _refuse_beyond(values, layout.range, path, column, first=2)
    _refuse_dark(values, layout.range, path)
    return _square(scaled(values, layout.range), layout.channels, path)


def _refuse_beyond(values: NDArray[np.float32], limits: Limits, path: Path, column: str, first: int = 1) -> None:
    """Raise UserError for rows [N, P] with pixels beyond black and white; `first` is the number of the first row."""
    low, high = limits
    wrong = ~((values >= np.float32(low)) & (values <= np.float32(high))).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        shown = f"{values[row].min():g} to {values[row].max():g}"
        where = f"{path}: row {row + first}: {column}"
        raise UserError(f"{where}: expected pixels of {low:g} to {high:g}, got {shown} {CURE}")


def _refuse_dark(values: NDArray[np.float32], limits: Limits, path: Path) -> None:
    """Raise UserError for fractions of 0 to 1, which would all be black on a scale of 0 to 255."""
    here = spread(values, str(path))
    if limits == BYTES and here.low >= 0 and 0 < here.high <= 1 and not np.array_equal(values, np.round(values)):
        raise UserError(f"{path}: pixels go from {here.low:g} to {here.high:g}, not 0 to 255 {CURE}")


def _banded(table: pd.DataFrame, layout: Layout, path: Path) -> NDArray[np.uint8]:
    """Return images with one channel per column of lists."""
    bands_read = []
    for name in layout.bands:
        try:
            band = np.array([np.asarray(cell, dtype=np.float32).ravel() for cell in table[name]])
        except (ValueError, TypeError):
            raise UserError(f"{path}: {name}: expected lists of equally many numbers") from None
        _refuse_beyond(band, layout.range, path, name)
        _refuse_dark(band, layout.range, path)
        bands_read.append(_square(scaled(band, layout.range), "last", path))
    if len(bands_read) == 2:
        bands_read.append(((bands_read[0].astype(np.uint16) + bands_read[1]) // 2).astype(np.uint8))
    if len(bands_read) not in (1, 3):
        raise UserError(f"{path}: {len(bands_read)} bands; expected 1, 2 or 3")
    return bands_read[0] if len(bands_read) == 1 else np.stack(bands_read, axis=-1)


def _square(rows: NDArray[np.uint8], channels: str, path: Path) -> NDArray[np.uint8]:
    square = csv_file.square_image(rows.shape[1])
    if square is None:
        raise UserError(f"{path}: {rows.shape[1]:,} pixel columns are not those of a square image of 1 or 3 channels")
    side, depth = square
    if depth == 1:
        return rows.reshape(-1, side, side)
    if channels == "last":
        return rows.reshape(-1, side, side, depth)
    return np.ascontiguousarray(rows.reshape(-1, depth, side, side).transpose(0, 2, 3, 1))
