"""CSV files as people and programs write them: any delimiter, byte-order marks, CRLF, quotes, blank rows at the end.

Every value is text: `007` stays `007`.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featherweight.errors import UserError, nearest
from featherweight.untrusted_files import open_regular, read_bytes, refuse_beyond_memory, regular_file

DELIMITERS = ",;\t|"
LOOKED_AT = 50  # rows that settle the delimiter
FEWEST_PIXELS = 49  # of an image in a table without headings
MOST_SHOWN = 50  # headings that a message lists
EXPANDED = 12  # bytes of memory that a byte of a table of short fields takes as lists of text
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A CSV file that has been read. `numbers` are the rows' line numbers as an editor shows them, from 1."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    numbers: list[int]
    delimiter: str = ","

    def column(self, name: str) -> list[str]:
        """Return the values under a heading. Raises UserError with the most similar heading if there is none."""
        if name not in self._places:
            raise UserError(
                f"{self.path}: row 1: there is no column '{name}'"
                f"{nearest(name, self.header)}; the columns are {', '.join(self.header[:MOST_SHOWN])}"
                f"{', ...' if len(self.header) > MOST_SHOWN else ''}"
            )
        place = self._places[name]
        return [row[place] for row in self.rows]

    @cached_property
    def _places(self) -> dict[str, int]:
        """The position of each heading, so that wide tables are not searched."""
        return {name: place for place, name in reversed(list(enumerate(self.header)))}


def read(path: Path, delimiter: str | None = None) -> Table:
    """Read a CSV file with a header row. Raises UserError with the row if the file is no such table.

    Args:
        path: the file; UTF-8, or UTF-16 with its mark.
        delimiter: one of `, ; tab |`; None finds it out.
    """
    text = text_of(path)
    delimiter = delimiter or sniff(text)
    lines = _rows(text, delimiter, path)
    numbered = [(number, row) for number, row in enumerate(lines, start=1) if any(field.strip() for field in row)]
    if not numbered:
        raise UserError(f"{path}: the file is empty")
    header = [name.strip() for name in numbered[0][1]]
    if names := _names_of_pixels(header):
        numbered, header = [(0, names), *numbered], names
    twice = next((name for name, times in Counter(header).items() if times > 1 and name), None)
    if twice is not None and all(number_of(name) is not None for name in header):
        quoted = shlex.quote(str(path))
        raise UserError(
            f"{path}: row 1 holds numbers, and no headings: put a line of these in front; of pixels after the class:\n"
            f"(python3 -c \"print('label', *range({len(header) - 1}), sep=',')\"; cat {quoted}) > with_headings.csv "
            f"&& mv with_headings.csv {quoted}"
        )
    if twice is not None:
        raise UserError(f"{path}: row {numbered[0][0]}: there are two columns called '{twice}'")
    uneven = [(number, len(row)) for number, row in numbered[1:] if len(row) != len(header)]
    if uneven:
        number, fields = uneven[0]
        others = f", and {len(uneven) - 1:,} more rows" if len(uneven) > 1 else ""
        raise UserError(f"{path}: row {number}: expected {len(header)} fields, got {fields}{others}")
    return Table(path, header, [row for _, row in numbered[1:]], [number for number, _ in numbered[1:]], delimiter)


def read_sample(path: Path) -> Table:
    """Read a sample submission: comma-separated as on Kaggle, or with another delimiter if it has no commas.

    Its values may contain other delimiters, so it is not sniffed like other tables.
    """
    table = read(path, ",")
    return table if len(table.header) > 1 else read(path)


def is_plain(path: Path) -> bool:
    """True if tools that work on lines (cut, awk) find the same fields: at commas, with no other delimiter, quotes,
    marks or blank lines.
    """
    content = read_bytes(path).replace(b"\r\n", b"\n")
    lines = content.splitlines()
    others = (b'"', b"\0", b"\r", b";", b"\t", b"|", b", ")
    odd = content.startswith(codecs.BOM_UTF8) or b"," not in content or any(mark in content for mark in others)
    return not odd and all(line.strip() for line in lines) and len({line.count(b",") for line in lines}) == 1


def _rows(text: str, delimiter: str, path: Path) -> list[list[str]]:
    spaced = _is_spaced(text, delimiter)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    lines: list[list[str]] = []
    begun = 1
    try:
        for row in reader:
            lines.append(row)
            begun = reader.line_num + 1
    except csv.Error as error:
        what = str(error)
        if "unexpected end of data" in what:
            what = "a quote is opened there and never closed"
        elif "field larger" in what:
            what = f"a field there is longer than {csv.field_size_limit():,} letters; is a quote never closed?"
        raise UserError(f"{path}: line {begun}: not a CSV file ({what})") from None
    return lines


def _is_spaced(text: str, delimiter: str) -> bool:
    """True if a blank follows every delimiter of the header row (`file, label`); such blanks are ignored."""
    heading = text.lstrip().partition("\n")[0]
    return 0 < heading.count(delimiter) == heading.count(f"{delimiter} ")


def sniff(text: str) -> str:
    """Return the delimiter that splits the first rows into equally many fields; among several, the one with most
    fields.
    """

    def fields(delimiter: str) -> int:
        counts = {len(row) for row in _first_rows(text, delimiter)}
        return counts.pop() if len(counts) == 1 else 0

    best = max(DELIMITERS, key=fields)  # the first of equals: the comma
    if fields(best) > 1:
        return best
    # No delimiter is regular; then the heading decides, and the reader says which row departs from it.
    heading = text.lstrip().split("\n", 1)[0]
    return max(DELIMITERS, key=heading.count)


def beginning(path: Path, rows: int) -> Table | None:
    """Return the header and the first rows of a table of any size, or None if the file is no table."""
    try:
        with open_regular(path) as stream:
            head = stream.read(1 << 22)
        text = _decoded(head, path)
    except (OSError, UserError):
        return None
    if len(head) == 1 << 22:
        text = text[: text.rfind("\n") + 1]
    first = _first_rows(text, sniff(text), rows + 1)
    if not first or any(len(row) != len(first[0]) for row in first):
        return None
    header = [name.strip() for name in first[0]]
    if names := _names_of_pixels(header):
        return Table(path, names, first[:rows], list(range(1, rows + 1))[: len(first)])
    return Table(path, header, first[1:], list(range(2, len(first) + 1)))


def _names_of_pixels(first: Sequence[str]) -> list[str]:
    """Return the columns of a table without headings whose rows are a class and a square image's pixels, by its first
    row; empty for other tables.
    """
    count = len(first) - 1
    square = square_image(count)
    large = square is not None and square[0] ** 2 >= FEWEST_PIXELS
    repeated = len(set(first)) < len(first)  # as headings never are
    plain = large and repeated and number_of(first[0]) is not None and all(map(str.isdecimal, first))
    return ["label", *map(str, range(count))] if plain else []


def square_image(numbers: int) -> tuple[int, int] | None:
    """Return side and channels (1 or 3) of the square image that has so many numbers; None if no image has."""
    for channels in (1, 3):
        side = math.isqrt(numbers // channels)
        if side > 1 and side * side * channels == numbers:
            return side, channels
    return None


def number_of(text: str) -> float | None:
    """Return the number in a field as spreadsheets and pandas read it, or None if the field holds no number.

    `float` also accepts `1_0` and digits of other scripts, which those programs do not.
    """
    return float(text) if NUMBER.fullmatch(text.strip()) else None


def examples(values: Sequence[str], shown: int = 5) -> str:
    """Return the first few values as text, and how many more there are."""
    more = f" and {len(values) - shown:,} more" if len(values) > shown else ""
    return ", ".join(values[:shown]) + more


def _first_rows(text: str, delimiter: str, wanted: int = LOOKED_AT) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        spaced = _is_spaced(text, delimiter)
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced):
            if any(field.strip() for field in row):
                rows.append(row)
            if len(rows) == wanted:
                break
    except csv.Error:
        return []
    return rows


def text_of(path: Path) -> str:
    """Return a table's text, of UTF-8 or of UTF-16 with its mark. Raises UserError with the line for other bytes."""
    refuse_beyond_memory(path, EXPANDED * regular_file(path).st_size)
    return _decoded(read_bytes(path), path)


def _decoded(content: bytes, path: Path) -> str:
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # a spreadsheet's "Unicode text"
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if not wide and error.reason == "unexpected end of data" and len(content) == 1 << 22:
            return content[: error.start].decode("utf-8-sig")  # a beginning that was cut inside a letter
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: line {line}: not UTF-8 text (byte {error.start}){_guess(content)}; save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}: line {line}: not a CSV file (it holds a zero byte){_guess(content)}")
    return text


def _guess(content: bytes) -> str:
    """Return the probable encoding of bytes that are not UTF-8, in words."""
    head = content[:1000]
    if head[1::2].count(0) > len(head) / 4 or head[::2].count(0) > len(head) / 4:
        return ": it looks like UTF-16 without its mark"
    return "" if b"\0" in head else ": it may be Latin-1, or a code page of Windows"
