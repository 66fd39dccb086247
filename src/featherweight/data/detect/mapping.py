"""Files that say which number means which class: label_num_to_disease_map.json, class_map.csv, classes.txt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from featherweight.data import tables
from featherweight.data.detect.sample_submission import NAMED, numbers_of
from featherweight.data.detect.scan import Scan, scan
from featherweight.errors import UserError

MOST_COLUMNS = 12
LARGEST = 1 << 25  # bytes of a file that could be one


def codes(folder: Path, root: Path, classes: Sequence[str], written: Sequence[str]) -> tuple[dict[str, str], str]:
    """Return what a file in `folder` writes for each class, and the file's name; an empty dictionary without one.

    `written` is what the sample submission has for single classes. The file has a column of the classes and another
    that agrees with it, row for row: all that is written, or numbers from 0 or 1 on. It may be the label table itself.
    Raises UserError if files, or columns of one, say different things.
    """
    wanted = set(classes)
    if set(written) <= wanted or (numbers_of(written) and numbers_of(classes)):
        return {}, ""
    found = [(rank, name, codes) for name, codes in _mappings(folder, root, wanted) if (rank := _rank(codes, written))]
    best = [(name, codes) for rank, name, codes in found if rank == max(rank for rank, _, _ in found)]
    for name, codes in best[1:]:
        apart = next((label for label in classes if codes[label] != best[0][1][label]), None)
        if apart is not None:
            raise UserError(
                f"{folder}: cannot tell how the submission writes the classes: '{apart}' is {best[0][1][apart]} in "
                f"{best[0][0]}, and {codes[apart]} in {name}\nmove the one that is wrong away, and run init again"
            )
    return ({label: best[0][1][label] for label in classes}, best[0][0]) if best else ({}, "")


def _mappings(folder: Path, root: Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each table's name with what a column of it says for each class, where that is one text for each."""
    seen: Scan = scan(folder, root)
    for name in seen.tables:
        path = seen.folder / name
        if path.stat().st_size > LARGEST or NAMED.search(name.rpartition("/")[2].lower()):
            continue
        for read in (tables.read, tables.read_list):
            try:
                table = read(path)
            except UserError:
                continue
            if not 2 <= len(table.header) <= MOST_COLUMNS or len(table.rows) < len(wanted) - 1:
                continue
            rows = [table.header, *table.rows] if read is tables.read_list else table.rows
            found = _of_rows(rows, wanted)
            yield from ((name, codes) for codes in found)
            if found:
                break


def _of_rows(rows: Sequence[Sequence[str]], wanted: set[str]) -> list[dict[str, str]]:
    columns = [[row[place].strip() for row in rows] for place in range(len(rows[0]))]
    found: list[dict[str, str]] = []
    for names in columns:
        if not wanted <= set(names):
            continue
        for others in columns:
            pairs = {(name, other) for name, other in zip(names, others, strict=True) if name in wanted}
            codes = dict(pairs)
            if others is not names and len(pairs) == len(codes) == len(set(codes.values())):
                found.append(codes)
    return found


def _rank(codes: dict[str, str], written: Sequence[str]) -> int:
    """Return how well codes agree with what a sample submission writes, from 3; 0 if they do not.

    Numbers from 0 or 1 on are better evidence than others, such as counts of images, which may hold the sample's too. A
    sample may write a number for "any class" that is none of them, mostly 0.
    """
    numbers = {int(code) for code in codes.values()} if all(code.isdecimal() for code in codes.values()) else None
    plain = numbers in ({*range(len(codes))}, {*range(1, len(codes) + 1)})
    if set(written) <= set(codes.values()):
        return 3 if plain or numbers is None else 2
    return 1 if plain and all(text.isdecimal() and int(text) <= len(codes) for text in written) else 0
