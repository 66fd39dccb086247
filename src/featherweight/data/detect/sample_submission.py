"""The sample submission: the columns, ids and class names that a competition expects."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight.data import csv_file
from featherweight.data.csv_file import examples
from featherweight.data.detect.scan import Scan
from featherweight.errors import UserError

NAMED = re.compile(r"submi|^samples?[ _-]*(entry|solution|answers?|predictions?|format)?[ _-]*\d*\.")
MASKS = re.compile(r"encodedpixels|predictionstring|rle|bbox", re.IGNORECASE)


@dataclass(frozen=True)
class SampleSubmission:
    """A sample submission: its header, its ids, and the values of its second column as written."""

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
        """The different values of the second column, in order of appearance."""
        return list(dict.fromkeys(self.values))

    @property
    def fractions(self) -> bool:
        """True if the values are probabilities that are not all 0 or 1."""
        numbers = numbers_of(self.distinct)
        return numbers is not None and all(0 <= n <= 1 for n in numbers) and any(n not in (0, 1) for n in numbers)

    @property
    def quantities(self) -> bool:
        """True if some values are fractions outside 0 to 1, so measurements rather than classes."""
        numbers = numbers_of(self.distinct)
        return numbers is not None and any(n != int(n) and not 0 <= n <= 1 for n in numbers)

    @property
    def ranked(self) -> int:
        """The number of names in each value, if it is the same everywhere and more than one; else 0."""
        lists = [value.split() for value in self.distinct]
        counts = {len(parts) for parts in lists}
        if len(counts) != 1 or counts == {1} or any(len(set(parts)) < len(parts) for parts in lists):
            return 0
        return counts.pop() if lists else 0


def find(scan: Scan) -> SampleSubmission | None:
    """Return the sample submission among the files, or None."""
    named = [name for name in scan.tables if NAMED.search(name.rpartition("/")[2].lower()) and _is_text(name)]
    chosen: SampleSubmission | None = None
    for name in sorted(named, key=lambda name: ("sample" not in name.lower(), name.count("/"), len(name), name)):
        if chosen is not None and "sample" not in name.lower():
            break
        try:
            table = csv_file.read_sample(scan.folder / name)
        except UserError:
            continue
        if len(table.header) >= 2 and table.rows:
            values = [row[1].strip() for row in table.rows]
            one = SampleSubmission(table.path, table.header, [row[0] for row in table.rows], values)
            wider = chosen is not None and one.header == chosen.header and {*one.ids} > {*chosen.ids}
            chosen = one if chosen is None or wider else chosen  # a later stage asks for more images
    return chosen


def others(scan: Scan, sample: SampleSubmission | None) -> list[str]:
    """Return the message that other files are called as samples are, if there are any."""
    names = [name for name in scan.tables if NAMED.search(name.rpartition("/")[2].lower()) and _is_text(name)]
    left = [name for name in names if sample and scan.folder / name != sample.path]
    if not sample or not left:
        return []
    return [f"sample submission: {sample.path.name}; not used: {examples(left, 3)} (move away those that do not hold)"]


def refuse_row_numbers(sample: SampleSubmission | None) -> None:
    """Raise UserError if the first column of a sample submission holds no ids: it has no heading, or has classes."""
    if sample and len(sample.header) == 2 and len(set(sample.ids)) < len(sample.ids) == len(set(sample.values)):
        path = shlex.quote(str(sample.path))
        swap = f"awk -F, -v OFS=, '{{sub(/\\r$/, \"\"); print $2, $1}}' {path} > swapped.csv && mv swapped.csv {path}"
        raise UserError(
            f"{sample.path}: row 1: '{sample.header[0]}' has the same value in several rows, and '{sample.header[1]}' "
            f"has not: the ids stand second\nsubmissions are written with the ids first, and Kaggle takes columns in "
            f"any order; swap them, and run init again" + (f":\n{swap}" if csv_file.is_plain(sample.path) else "")
        )
    if sample is not None and not sample.header[0]:
        raise UserError(
            f"{sample.path}: row 1: the first column has no heading: a program has numbered the rows\n"
            f"delete that column, so that the ids stand first (pandas: to_csv(..., index=False)), and run init again"
        )


def numbers_of(values: Sequence[str]) -> list[float] | None:
    """Return the values as finite numbers, or None if one is not a number."""
    numbers = [number for value in values if (number := csv_file.number_of(value)) is not None]
    return numbers if numbers and len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None


def shapes(values: Sequence[str]) -> set[str]:
    """Return the patterns of values: hexadecimal names by length, numbers as such, others unchanged."""

    def shape(value: str) -> str:
        if value.isdecimal():
            return "number"
        return re.sub(r"[0-9a-f]{6,}", lambda match: f"<{len(match[0])}>", value)

    return {shape(value) for value in values} or {""}


def _is_text(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv", ".txt"))
