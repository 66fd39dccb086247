"""Files that say which number means which class: label_num_to_disease_map.json, class_map.csv, classes.txt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from featherweight.data import tables
from featherweight.data.detect.sample_submission import NAMED, SampleSubmission
from featherweight.data.detect.scan import Scan, scan
from featherweight.errors import UserError

MOST_COLUMNS = 12
LARGEST = 1 << 25  # bytes of a file that could be one


def codes(
    folder: Path, root: Path, classes: Sequence[str], sample: SampleSubmission | None
) -> tuple[dict[str, str], str]:
    """Return what a file in `folder` writes for each class, and the file's name; an empty dictionary without one.

    The file has a column of the classes and another that agrees with it, row for row: numbers from 0 on, or all names
    that the sample submission writes. It may be the label table itself.
    """
    if sample is None:
        return {}, ""
    written = sample.columns if len(sample.columns) > 1 else sample.distinct
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
            if not 2 <= len(table.header) <= MOST_COLUMNS or len(table.rows) < len(classes) - 1:
                continue
            rows = [table.header, *table.rows] if read is tables.read_list else table.rows
            by_class = _mapping(rows, wanted, written)
            if by_class:
                return {label: by_class[label] for label in classes}, name
    return {}, ""


def _mapping(rows: Sequence[Sequence[str]], wanted: set[str], written: Collection[str]) -> dict[str, str]:
    columns = [[row[place].strip() for row in rows] for place in range(len(rows[0]))]
    for names in columns:
        if not wanted <= set(names):
            continue
        for others in columns:
            pairs = {(name, other) for name, other in zip(names, others, strict=True) if name in wanted}
            codes = dict(pairs)
            one_to_one = len(pairs) == len(codes) == len(set(codes.values()))
            if others is not names and one_to_one and _may_be_written(set(codes.values()), written):
                return codes
    return {}


def _may_be_written(codes: set[str], written: Collection[str]) -> bool:
    """True if codes are what a sample submission writes, or numbers from 0 on where it writes such."""
    if set(written) <= codes:
        return True
    numbered = all(code.isdecimal() for code in (*codes, *written))
    return numbered and {int(code) for code in codes} == {*range(len(codes))} and max(map(int, written)) < len(codes)
