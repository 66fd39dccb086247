"""Tables of text from any kind of file: CSV, lists without a header, JSON, Parquet. All become a `Table`.

JSON may be a list of records, a record for every line, a mapping from names to labels or records, or images with their
annotations as COCO has them (a row for each image and class). Lists within a record are joined by `|`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featherweight.data import csv_file
from featherweight.data.csv_file import Table
from featherweight.data.listing import is_image
from featherweight.data.scientific import package
from featherweight.errors import UserError
from featherweight.untrusted_files import explained, read_bytes, read_text

ENDINGS = (".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".parquet")
LIST_SEPARATOR = "|"
LONG = 48  # values: a longer list within a record is a picture, not a label
DELIMITERS = ("\t", ",", ";", "|", None)  # None: any white space


def read(path: Path, header: Sequence[str] = ()) -> Table:
    """Return the table in a file; `header` names the columns of a list without a header.

    Raises UserError with the row for a file that is no table.
    """
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl"):
        return _of_records(path, records(path))
    if ending == ".parquet":
        return _parquet(path)
    return read_list(path, header) if header else with_headings(csv_file.read(path))


def with_headings(table: Table) -> Table:
    """Return a table with blank headings replaced by `column 1`; programs leave one blank above row numbers."""
    named = [name or f"column {place}" for place, name in enumerate(table.header, start=1)]
    return table if named == table.header else replace(table, header=named)


def joined(path: Path, header: Sequence[str], others: Mapping[Path, Sequence[str]]) -> Table:
    """Return the table in `path` with the columns of others joined by the first shared column (left join).

    Raises UserError if two tables share no column, or a key appears twice in the second.
    """
    table = read(path, header)
    for other_path, other_header in others.items():
        other = read(other_path, other_header)
        shared = next((name for name in table.header if name in other.header), None)
        if shared is None:
            raise UserError(f"{other_path}: no column is called as one of {path}: {', '.join(table.header)}")
        new = [place for place, name in enumerate(other.header) if name not in table.header]
        beside: dict[str, list[str]] = {}
        for number, key, row in zip(other.numbers, other.column(shared), other.rows, strict=True):
            if key in beside:
                raise UserError(f"{other_path}: row {number}: '{key}' appears twice in the column '{shared}'")
            beside[key] = [row[place] for place in new]
        blank = [""] * len(new)
        rows = [[*row, *beside.get(key, blank)] for key, row in zip(table.column(shared), table.rows, strict=True)]
        table = Table(path, [*table.header, *(other.header[place] for place in new)], rows, table.numbers)
    return table


def read_list(path: Path, header: Sequence[str] = ()) -> Table:
    """Read a list without a header: fields separated by tab, comma, semicolon, bar or spaces.

    Columns that `header` does not name are called `column 3`, by position.
    """
    lines = read_text(path).splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise UserError(f"{path}: the file is empty")
    best: list[list[str]] = [[line.strip()] for _, line in numbered]
    for delimiter in DELIMITERS:
        rows = [[field.strip() for field in line.strip().split(delimiter)] for _, line in numbered]
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            best = rows
            break
    width = len(best[0])
    if len(header) > width:
        raise UserError(f"{path}: row {numbered[0][0]}: expected {len(header)} fields, got {width}")
    names = [*header, *(f"column {place}" for place in range(len(header) + 1, width + 1))]
    return Table(path, names, best, [number for number, _ in numbered])


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON file. Raises UserError if it has none."""
    content = read_bytes(path)
    with explained(path, "not a JSON file"):
        text = content.decode("utf-8-sig")
        try:
            content_read = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            content_read = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = _records(content_read)
    if not rows:
        raise UserError(f"{path}: no list of records, no mapping, and no images with annotations")
    return rows


def _records(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _annotated(content)
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), (list, dict)):
        return _records(next(iter(content.values())))
    if isinstance(content, dict) and len(content) > 1 and all(map(_lists_files, content.values())):
        return [{"key": file, "value": name} for name, files in content.items() for file in files]
    if isinstance(content, dict):
        if all(isinstance(value, dict) for value in content.values()):
            return [{"key": key, **value} for key, value in content.items()]
        return [{"key": key, "value": value} for key, value in content.items() if not isinstance(value, dict)]
    if isinstance(content, list):
        return [record for record in content if isinstance(record, dict)]
    return []


def _lists_files(value: Any) -> bool:
    """True for a list of image names, as in a mapping from classes to files."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and is_image(one) for one in value)


def _annotated(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return COCO records: each image once per class in its annotations; without annotations, each image once."""
    images = {_id(image): image for image in content["images"] if isinstance(image, dict)}
    by_image: dict[tuple[str, str], dict[str, Any]] = {}
    for note in content.get("annotations") or ():
        if isinstance(note, dict) and str(note.get("image_id")) in images:
            key = str(note["image_id"])
            about = {name: value for name, value in note.items() if name not in ("id", "image_id", "bbox", "area")}
            about |= {"bbox": "yes"} if note.get("bbox") else {}
            by_image.setdefault((key, str(note.get("category_id"))), {**images[key], **about})
    return list(by_image.values()) or list(images.values())


def _id(image: Mapping[str, Any]) -> str:
    return str(image.get("image_id", image.get("id", image.get("file_name"))))


def _of_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Table:
    header: dict[str, None] = {}
    rows = [{name: text for name, value in record.items() if (text := _text(value)) is not None} for record in records]
    for row in rows:
        header |= dict.fromkeys(row)
    if not header:
        raise UserError(f"{path}: the records hold no text and no numbers")
    return Table(path, list(header), [[row.get(name, "") for name in header] for row in rows], _places(rows))


def _text(value: Any) -> str | None:
    """Return a value as a CSV would write it, or None if it does not fit into a table."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (str, int, float)):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, list) and len(value) < LONG and all(isinstance(part, (str, int)) for part in value):
        return LIST_SEPARATOR.join(map(str, value))
    return None


def _places(rows: Iterable[Any]) -> list[int]:
    return [number for number, _ in enumerate(rows, start=1)]


def _parquet(path: Path) -> Table:
    reader = package("pyarrow.parquet", f"{path}: a Parquet file")
    with explained(path, "not a Parquet file"):
        frame = reader.read_table(path)
        plain = [
            field.name
            for field in frame.schema
            if not str(field.type).startswith(("binary", "large_binary", "list", "struct", "map"))
        ]
        columns = [["" if value is None else _text(value) or "" for value in frame[name].to_pylist()] for name in plain]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(path, plain, rows, _places(rows))
