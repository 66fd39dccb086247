"""Files that say which number means which class: label_num_to_disease_map.json, class_map.csv, classes.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight.data import tables
from featherweight.data.detect.sample import NAMED
from featherweight.data.detect.scan import Scan, scan
from featherweight.errors import UserError

LARGEST = 1 << 22  # bytes of a file that could be one


def codes(folder: Path, root: Path, classes: Sequence[str]) -> tuple[dict[str, str], str]:
    """The number that a file in `folder` gives each class, and the file's name; an empty dictionary without one."""
    seen: Scan = scan(folder, root)
    wanted = set(classes)
    for name in seen.tables:
        path = seen.folder / name
        if path.stat().st_size > LARGEST or NAMED.search(name.rpartition("/")[2].lower()):
            continue
        for read in (tables.read, tables.read_list):
            try:
                table = read(path)
            except UserError:
                continue
            if not 2 <= len(table.header) <= 6 or not len(classes) <= len(table.rows) <= 2 * len(classes) + 2:
                continue
            by_class = _mapping([table.header, *table.rows] if read is tables.read_list else table.rows, wanted)
            if by_class:
                return {label: by_class[label] for label in classes}, name
    return {}, ""


def _mapping(rows: Sequence[Sequence[str]], wanted: set[str]) -> dict[str, str]:
    width = len(rows[0])
    for names in range(width):
        if not wanted <= {row[names].strip() for row in rows}:
            continue
        for numbers in range(width):
            codes = {row[names].strip(): row[numbers].strip() for row in rows if row[names].strip() in wanted}
            distinct = len(set(codes.values())) == len(wanted)
            if numbers != names and distinct and all(code.isdecimal() for code in codes.values()):
                return codes
    return {}
