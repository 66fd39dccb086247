"""Tables of text from any kind of file: CSV, lists without a header, JSON, Parquet. All become a `Table`.

Lists within a record of JSON are joined by `|`; a dictionary within one becomes a column for each of its keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featherweight.data import csv_file
from featherweight.data.csv_file import Table
from featherweight.data.json_records import records
from featherweight.data.scientific import package
from featherweight.errors import UserError
from featherweight.untrusted_files import explained

ENDINGS = (".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".parquet")
LIST_SEPARATOR = "|"
LONG = 48  # values: a longer list within a record is a picture, not a label
FILE = "file"  # the column of files in a list that names only the others
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
    if header:
        return read_list(path, header)
    return (counted(path) if ending == ".txt" else None) or with_headings(csv_file.read(path))


def with_headings(table: Table) -> Table:
    """Return a table with blank headings replaced by `column 1`; programs leave one blank above row numbers."""
    named = [name or f"column {place}" for place, name in enumerate(table.header, start=1)]
    return table if named == table.header else replace(table, header=named)


def shared(table: Table, other: Table, id: str | None) -> str | None:
    """Return the column that two tables are joined by: `id` if both have it, else the first that both have, or None."""
    both = [name for name in table.header if name in other.header]
    return id if id in both else next(iter(both), None)


def joined(path: Path, header: Sequence[str], others: Mapping[Path, Sequence[str]], id: str | None = None) -> Table:
    """Return the table in `path` with the columns of others joined by the column that `shared` returns (left join).

    Raises UserError if two tables share no column, or a key appears twice in the second.
    """
    table = read(path, header)
    for other_path, other_header in others.items():
        other = read(other_path, other_header)
        key_column = shared(table, other, id)
        if key_column is None:
            raise UserError(f"{other_path}: no column is called as one of {path}: {', '.join(table.header)}")
        new = [place for place, name in enumerate(other.header) if name not in table.header]
        beside: dict[str, list[str]] = {}
        for number, key, row in zip(other.numbers, other.column(key_column), other.rows, strict=True):
            if key in beside:
                raise UserError(f"{other_path}: row {number}: '{key}' appears twice in the column '{key_column}'")
            beside[key] = [row[place] for place in new]
        blank = [""] * len(new)
        keys = table.column(key_column)
        rows = [[*row, *beside.get(key, blank)] for key, row in zip(keys, table.rows, strict=True)]
        table = Table(path, [*table.header, *(other.header[place] for place in new)], rows, table.numbers)
    return table


def read_list(path: Path, header: Sequence[str] = ()) -> Table:
    """Read a list without a header: fields separated by tab, comma, semicolon, bar or spaces.

    Lines that begin with # are comments. Columns that `header` does not name are called `column 3`, by position.
    """
    lines = csv_file.text_of(path).splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
    if not numbered:
        raise UserError(f"{path}: the file is empty")
    best: list[list[str]] = [[line.strip()] for _, line in numbered]
    for delimiter in DELIMITERS:
        rows = [[field.strip() for field in line.strip().split(delimiter)] for _, line in numbered]
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            best = rows
            break
    else:
        best = _of_two(numbered) or best
    width = len(best[0])
    if len(header) > width:
        raise UserError(f"{path}: row {numbered[0][0]}: expected {len(header)} fields, got {width}")
    names = [*header, *(f"column {place}" for place in range(len(header) + 1, width + 1))]
    return Table(path, names, best, [number for number, _ in numbered])


def counted(path: Path) -> Table | None:
    """Return a list of files with numbers whose first line counts them and whose second names the columns but the first
    (CelebA's list_attr_celeba.txt), or None for another file.
    """
    lines = [line.split() for line in csv_file.text_of(path).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 3 or lines[0] != [str(len(lines) - 2)]:
        return None
    header, rows = lines[1], lines[2:]
    width = len(rows[0])
    if any(len(row) != width for row in rows) or len(header) not in (width - 1, width):
        return None
    named = header if len(header) == width else [FILE, *header]
    return Table(path, named, rows, list(range(3, len(lines) + 1))) if len({*named}) == width else None


def _of_two(numbered: Sequence[tuple[int, str]]) -> list[list[str]]:
    """Return lines of a file and a name of one or more words as rows of two fields; none if they are something else."""
    rows = [line.split(maxsplit=1) for _, line in numbered]
    firsts = {row[0] for row in rows}
    even = all(len(row) == 2 for row in rows) and len(firsts) == len(rows)
    named = even and any(not word.isdecimal() for row in rows for word in row[1].split())
    return [[row[0], row[1].strip()] for row in rows] if named and len({row[1] for row in rows}) < len(rows) else []


def _of_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Table:
    header: dict[str, None] = {}
    flat = [dict(_flat(record)) for record in records]
    rows = [{name: text for name, value in record.items() if (text := _text(value)) is not None} for record in flat]
    for row in rows:
        header |= dict.fromkeys(row)
    if not header:
        raise UserError(f"{path}: the records hold no text and no numbers")
    return Table(path, list(header), [[row.get(name, "") for name in header] for row in rows], _places(rows))


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a record, those of a dictionary in it by both names: `label name`."""
    for name, value in record.items():
        if isinstance(value, dict) and len(value) < LONG:
            yield from ((f"{name} {inner}", part) for inner, part in value.items())
        else:
            yield name, value


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
