"""Tables whose rows are images: one column per pixel, a column of pixels as text, or bands in JSON."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.data import csv_file, json_records, tables
from featherweight.data.csv_file import Table, examples, square_image
from featherweight.data.detect import columns
from featherweight.data.detect.columns import Context
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.sample_submission import SampleSubmission, numbers_of
from featherweight.data.detect.scan import Scan
from featherweight.data.detect.split_column import parts_of, record_split
from featherweight.data.detect.table_refusals import refuse_components
from featherweight.data.pixel_frames import frame, spread_of
from featherweight.data.pixel_range import BYTES, together
from featherweight.data.scientific import package
from featherweight.errors import UserError
from featherweight.untrusted_files import explained

PIXELS = 48  # numbers in a row: 4 x 4 pixels of 3 channels
PIXEL = re.compile(r"^(pixels?|pix|px|p|x|v|attr|\d+x)?[ _-]*\d+$", re.IGNORECASE)  # as columns of pixels are called
ID = re.compile(r"^(id|image_?id|.*_id|index|image|idx)$", re.IGNORECASE)


@dataclass
class Pixels:
    """A table of images: its pixel columns, how they are written, and the other columns as text."""

    name: str
    pixels: list[str]
    text: list[str]
    way: str  # columns, values or bands
    rows: list[list[str]] = field(default_factory=list)  # some, of the text columns


def find(scan: Scan, sample: SampleSubmission | None, hints: Hints) -> Detected | None:
    """Return the source of images stored in tables, or None. Raises UserError if the class column is unclear."""
    pixels = [one for name in scan.tables if (one := _look(scan, name)) is not None]
    pixels = [one for one in pixels if sample is None or scan.folder / one.name != sample.path]
    if not pixels:
        return None
    labelled = [(one, label) for one in pixels if (label := _label(one, sample, hints)) is not None]
    beside = None
    if not labelled:
        beside = _beside(scan, pixels, sample, hints)
        if beside is None:
            return None
        trains = [one for one in pixels if role(one.name) != "test"]
        label = beside[1]
    else:
        labelled.sort(key=lambda one: (role(one[0].name) == "test", role(one[0].name) != "train", one[0].name))
        trains, label = [labelled[0][0]], labelled[0][1]
    first = trains[0]
    names = [scan.path(one.name) for one in trains]
    source: dict[str, Any] = {"name": "pixels", "train": names[0] if len(names) == 1 else names, "label": label}
    detected = Detected(source, notes=[f"{one.name}: {_way(one)}" for one in trains])
    if first.way != "columns":
        source |= {"values": first.pixels[0]} if first.way == "values" else {"bands": first.pixels}
    id = hints.id or next((name for name in first.text if ID.search(name) and name != label), None)
    if beside is not None:
        source |= {"labels": scan.path(beside[0]), "id": beside[2]}
        detected.notes.append(f"{beside[0]}: labels in '{label}', ids in '{beside[2]}'")
    elif id is not None:
        source["id"] = id
    within = beside[0] if beside is not None else first.name
    if hints.group is not None and hints.group in (label, source.get("id")):
        raise UserError(f"--group {hints.group}: that column of {within} holds the classes, or the ids of the images")
    if hints.group in (first.text if beside is None else tables.read(scan.folder / within).header):
        source["group"] = hints.group
    elif hints.group in first.text:
        raise UserError(
            f"--group {hints.group}: that column is in {first.name}, and the classes are in {within}, where groups are "
            f"read too\nadd it to {within} as a column, and run init again"
        )
    split = _split(scan, first, sample, detected)
    skip = [name for name in first.text if name not in (label, source.get("id"), source.get("group"), split)]
    if first.way == "columns" and skip:
        source["leave_out"] = skip
    _test(scan, pixels, trains, detected, label)
    _scale(scan, trains, [one for one in pixels if scan.path(one.name) in _named(source.get("test"))], detected)
    return detected


def _way(one: Pixels) -> str:
    if one.way == "columns":
        return f"one column per pixel, {len(one.pixels):,} of them"
    return f"the pixels in '{one.pixels[0]}'" if one.way == "values" else f"bands of pixels in {', '.join(one.pixels)}"


def _look(scan: Scan, name: str) -> Pixels | None:
    path = scan.folder / name
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl"):
        return _look_at_json(scan, name)
    if ending == ".parquet":
        reader = package("pyarrow.parquet", f"{path}: a Parquet file")
        with explained(path, "not a Parquet file"):
            schema = reader.read_schema(path)
        kinds = {field.name: str(field.type) for field in schema}
        numeric = [one for one, kind in kinds.items() if re.match(r"u?int|float|double", kind)]
        wide = [one for one in numeric if one.isdecimal()]
        wide = wide if len(wide) >= PIXELS else [one for one in numeric if PIXEL.search(one)]
        known = set(wide)
        text = [one for one in kinds if one not in known]
        if len(wide) < PIXELS:
            return None
        with explained(path, "not a Parquet file"):
            columns = [
                [_cell(value) for value in reader.read_table(path, columns=[one])[one].to_pylist()] for one in text
            ]
        return Pixels(name, wide, text, "columns", [list(row) for row in zip(*columns, strict=True)])
    start = csv_file.beginning(path, 200)
    if start is None or not start.rows:
        return None
    long = [
        head
        for place, head in enumerate(start.header)
        if all(len(row[place].replace(",", " ").split()) >= PIXELS for row in start.rows[:5])
    ]
    if long:
        text = [one for one in start.header if one not in long]
        return Pixels(name, long[:1], text, "values", _some(start, text))
    if len(start.header) < PIXELS:
        return None
    numbered = [one for one in start.header if re.search(r"\d+$", one)]
    if numbered == start.header and square_image(len(numbered) - 1) and not square_image(len(numbered)):
        numbered = numbered[1:]  # the class stands first
    named = sum(bool(PIXEL.search(one)) for one in numbered) > 0.9 * len(numbered)
    is_numbered = set(numbered)
    text = [one for one in start.header if one not in is_numbered]
    cells = {row[place] for place, one in enumerate(start.header) if one in is_numbered for row in start.rows[:20]}
    numbers = numbers_of(sorted(cells))
    fitting = numbers is not None and (named or all(number >= 0 and number == int(number) for number in numbers))
    return Pixels(name, numbered, text, "columns", _some(start, text)) if len(numbered) >= PIXELS and fitting else None


def _cell(value: object) -> str:
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def _some(start: Table, text: list[str]) -> list[list[str]]:
    places = [start.header.index(one) for one in text]
    return [[row[place] for place in places] for row in start.rows]


def _look_at_json(scan: Scan, name: str) -> Pixels | None:
    try:
        records = json_records.records(scan.folder / name)
    except UserError:
        return None
    bands = [key for key, value in records[0].items() if isinstance(value, list) and len(value) >= PIXELS]
    if not bands:
        return None
    text = [key for key in records[0] if key not in bands]
    rows = [[str(record.get(key, "")) for key in text] for record in records]
    return Pixels(name, bands, text, "bands", rows)


def _label(one: Pixels, sample: SampleSubmission | None, hints: Hints) -> str | None:
    if hints.label is not None:
        return hints.label if hints.label in one.text else None
    declared = hints.declared_besides("label")
    named = [name for name in one.text if columns.STRONGER.search(name.lower()) and name not in declared]
    if len(named) == 1:
        return named[0]
    if not one.rows or not one.text:
        return None
    table = Table(Path(one.name), one.text, one.rows, list(range(len(one.rows))))
    try:
        used = [name for name in one.text if ID.search(name) or name in declared]
        return columns.choose(table, used, Context(sample, frozenset(), False), None)[0].name
    except UserError:
        return None


def _beside(
    scan: Scan, pixels: list[Pixels], sample: SampleSubmission | None, hints: Hints
) -> tuple[str, str, str] | None:
    """Return a label table for a table of pixels, by its ids: its name, its label column, its id column."""
    shared = {name for one in pixels for name in one.text}
    for name in scan.tables:
        path = scan.folder / name
        if (
            any(one.name == name for one in pixels)
            or (sample is not None and path == sample.path)
            or role(name) == "test"
        ):
            continue
        try:
            table = tables.read(path)
        except UserError:
            continue
        id = next((head for head in table.header if head in shared), None)
        if id is None or len(table.header) < 2:
            continue
        if hints.label is None:
            refuse_components(table, _small(scan, pixels))
        used = [id, *hints.declared_besides("label")]
        column, _ = columns.choose(table, used, Context(sample, frozenset(), False), hints.label)
        return name, column.name, id
    return None


def _small(scan: Scan, pixels: list[Pixels]) -> list[Table]:
    """Return the tables that hold no pixels."""
    small = []
    for name in scan.tables:
        if all(one.name != name for one in pixels) and name.lower().endswith(".csv"):
            with suppress(UserError):
                small.append(csv_file.read(scan.folder / name))
    return small


def _split(scan: Scan, one: Pixels, sample: SampleSubmission | None, detected: Detected) -> str | None:
    """Record the column that assigns rows to parts (FER-2013's Usage), and return its name."""
    for place, name in enumerate(one.text):
        called = name.lower() in ("usage", "split", "part", "set", "subset")
        if not called and not (one.rows and parts_of({row[place] for row in one.rows} | {"train"})):
            continue
        values = _whole_column(scan.folder / one.name, one, name)
        if record_split(detected, name, values, test_elsewhere=sample is not None):
            return name
        if called:
            shown = examples(sorted({value.strip() for value in values}), 4)
            detected.assumed.append(
                f"the column '{name}' ({shown}) is not understood: all rows are trained on (source.split)"
            )
    return None


def _whole_column(path: Path, one: Pixels, name: str) -> list[str]:
    """Return all values of a text column; the parts of a table may come one after another."""
    if one.way == "bands" or path.suffix.lower() == ".parquet":
        return [row[one.text.index(name)] for row in one.rows]
    return [str(value) for value in frame(path, [name], only=[name])[name]]


def _test(scan: Scan, pixels: list[Pixels], trains: list[Pixels], detected: Detected, label: str) -> None:
    """Record the table of images to predict: one like the first without labels, or named test."""
    first = trains[0]
    rest = [
        one for one in pixels if one not in trains and one.way == first.way and len(one.pixels) == len(first.pixels)
    ]
    tests = [one for one in rest if label not in one.text] or [one for one in rest if role(one.name) == "test"]
    for one in rest:
        if one not in tests:
            detected.assumed.append(f"{one.name}: labelled images too, set apart (source.train: a list takes both)")
    if not tests:
        return
    tests = tests if len(trains) > 1 else tests[:1]
    names = [scan.path(one.name) for one in tests]
    detected.source["test"] = names[0] if len(names) == 1 else names
    id = next((name for name in tests[0].text if ID.search(name) and name != label), None)
    if id is not None and id != detected.source.get("id"):
        detected.source["test_id"] = id
    solved = label in tests[0].text
    if solved:
        detected.source["test_label"] = label
    seen = ", with their classes, which the scorer alone sees" if solved else ""
    detected.notes.append(f"{', '.join(one.name for one in tests)}: images to predict{seen}")


def _scale(scan: Scan, trains: list[Pixels], tests: list[Pixels], detected: Detected) -> None:
    """Set one pixel range for the whole data set if the values are not 0 to 255."""
    first = trains[0]
    if first.way == "bands":
        parts = [record for one in (*trains, *tests) for record in json_records.records(scan.folder / one.name)]
        values = [record[name] for record in parts for name in first.pixels]
        low, high = float(np.min(values)), float(np.max(values))
        if low >= 0 and high <= 255 and high > 1:
            return
    else:
        spreads = [spread_of(scan.folder / one.name, one.pixels, one.way) for one in (*trains, *tests)]
        whole = together(spreads)
        low, high = whole.limits()
        if whole.low >= 0 and whole.high <= 1:  # black and white alone, or fractions
            low, high = 0.0, float(whole.high > 0)
        if (low, high) == BYTES:
            return
    if low == high:
        return
    detected.source["range"] = [low, high]
    detected.assumed.append(f"pixels from {low:g} (black) to {high:g} (white) in every image (source.range)")


def _named(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else names or []
