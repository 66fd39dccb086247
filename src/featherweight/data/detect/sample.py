"""The sample submission: what a competition wants written, and so what it calls an id and a class."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight.data import csv_file
from featherweight.data.detect.scan import Scan
from featherweight.errors import UserError

NAMED = re.compile(r"submi|^samples?[ _-]*(entry|solution|answers?|predictions?|format)?[ _-]*\d*\.")
MASKS = re.compile(r"encodedpixels|predictionstring|rle|bbox", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """A sample submission: its heading, its ids, and the values of its second column as they are written."""

    path: Path
    header: list[str]
    ids: list[str]
    values: list[str]

    @property
    def columns(self) -> list[str]:
        """The headings after the id."""
        return self.header[1:]

    @property
    def distinct(self) -> list[str]:
        """The different values of the second column, in their order."""
        return list(dict.fromkeys(self.values))

    @property
    def fractions(self) -> bool:
        """Are the values probabilities, and not all of them 0 or 1?"""
        numbers = numbers_of(self.distinct)
        return numbers is not None and all(0 <= n <= 1 for n in numbers) and any(n not in (0, 1) for n in numbers)

    @property
    def quantities(self) -> bool:
        """Are there fractions above 1 among them: something measured, and no class?"""
        numbers = numbers_of(self.distinct)
        return numbers is not None and any(n != int(n) and not 0 <= n <= 1 for n in numbers)

    @property
    def ranked(self) -> int:
        """How many names every value lists, where that is several, the same number always, and none twice; else 0."""
        lists = [value.split() for value in self.distinct]
        counts = {len(parts) for parts in lists}
        if len(counts) != 1 or counts == {1} or any(len(set(parts)) < len(parts) for parts in lists):
            return 0
        return counts.pop() if lists else 0


def find(scan: Scan) -> Sample | None:
    """The sample submission among the files, if there is one."""
    named = [name for name in scan.tables if NAMED.search(name.rpartition("/")[2].lower()) and _is_text(name)]
    for name in sorted(named, key=lambda name: ("sample" not in name.lower(), name.count("/"), len(name), name)):
        try:
            table = csv_file.read_sample(scan.folder / name)
        except UserError:
            continue
        if len(table.header) >= 2 and table.rows:
            values = [row[1].strip() for row in table.rows]
            return Sample(table.path, table.header, [row[0] for row in table.rows], values)
    return None


def refuse_row_numbers(sample: Sample | None) -> None:
    """Raise UserError if the first column of a sample submission has no heading, and so holds no ids."""
    if sample is not None and not sample.header[0]:
        raise UserError(
            f"{sample.path}: row 1: the first column has no heading: a program has numbered the rows\n"
            f"delete that column, so that the ids stand first (pandas: to_csv(..., index=False)), and run init again"
        )


def numbers_of(values: Sequence[str]) -> list[float] | None:
    """The finite numbers that all of these are, or None."""
    numbers = [number for value in values if (number := csv_file.number_of(value)) is not None]
    return numbers if numbers and len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None


def shapes(values: Sequence[str]) -> set[str]:
    """What values look like: hexadecimal names by their length, numbers as such, others as they are."""

    def shape(value: str) -> str:
        if value.isdecimal():
            return "number"
        return re.sub(r"[0-9a-f]{6,}", lambda match: f"<{len(match[0])}>", value)

    return {shape(value) for value in values} or {""}


def _is_text(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv", ".txt"))
