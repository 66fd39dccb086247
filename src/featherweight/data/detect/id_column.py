"""Which column of a table names images, and which files each of its values may mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from featherweight.data.csv_file import Table, examples
from featherweight.data.detect import columns
from featherweight.data.detect.folder_roles import role, within
from featherweight.data.file_matching import Index, is_rubbish
from featherweight.data.folder_rows import FolderIndex
from featherweight.data.listing import is_image
from featherweight.errors import UserError

OF_FOLDER = re.compile(r"id$|patient|subject|case|study|person|folder|dir|path", re.IGNORECASE)
SHARE = 0.3  # of a table's rows that name an image: fewer are chance
FEW = 200  # values of a column that are tried first
ALMOST = 0.9  # of the images that the best column reaches: a column that reaches so many may be the id as well


@dataclass
class Profile:
    """A table whose column `id` names images: the files each value may mean."""

    name: str
    table: Table
    header: list[str]  # given to a list that has none
    id: str
    reach: dict[str, list[int]]
    folders: bool = False  # the file has a row for each folder of images, the table one for each image

    @property
    def role(self) -> str:
        """The part of the data that the table is about, as its name says."""
        return role(self.name)

    @property
    def rows(self) -> int:
        """The number of rows that name an image."""
        return sum(value in self.reach for value in self.table.column(self.id))


@dataclass(frozen=True)
class IdHints:
    """What is known of the id column's heading: from the user, of a known competition, from the sample submission."""

    wish: str | None = None
    likely: str | None = None
    sample: str | None = None
    declared: Collection[str] = ()  # columns that the user names for something else


@dataclass
class _Candidate:
    column: str
    reach: dict[str, list[int]]
    named: int  # values that end as image files do
    is_counter: bool

    @property
    def files(self) -> int:
        """The number of different files that the values name."""
        return len({place for places in self.reach.values() for place in places})

    @property
    def score(self) -> tuple[int, int, int]:
        clear = sum(len(places) == 1 for places in self.reach.values())
        return len(self.reach), self.named, clear


def profile(name: str, table: Table, header: list[str], index: Index, hints: IdHints) -> Profile | None:
    """Return the table with the column that names images, or None if no column does.

    The column called as in the sample submission is taken if it names images, and a column that merely numbers the rows
    only if no other does. Raises UserError if two columns name images and disagree on which.
    """
    candidates = [
        one
        for column in ([hints.wish] if hints.wish in table.header else table.header)
        if (one := _candidate(name, table, column, index, hints)) is not None
    ]
    candidates = [one for one in candidates if one.column not in hints.declared] or candidates
    if not candidates:
        return None
    most, files = max(len(one.reach) for one in candidates), max(one.files for one in candidates)
    able = [one for one in candidates if len(one.reach) >= ALMOST * most and one.files >= ALMOST * files]
    able = able or [one for one in candidates if len(one.reach) == most]
    known = [one for one in able if one.column == hints.likely]
    asked = [one for one in able if hints.sample and one.column.lower() == hints.sample.lower()]
    ranked = known or asked or [one for one in able if not one.is_counter] or able
    best = max(ranked, key=lambda one: one.score)
    rival = next((one for one in ranked if one.score == best.score and _disagree(table, one, best)), None)
    if rival is not None:
        raise UserError(
            f"{table.path}: the columns '{best.column}' and '{rival.column}' both name images, and not the same ones\n"
            f"pass --id COLUMN for the one that is right"
        )
    return Profile(name, table, header, best.column, best.reach)


def profile_of_folders(
    name: str, table: Table, header: list[str], index: Index, folders: FolderIndex, classes: Collection[str]
) -> Profile | None:
    """Return a table with a row for each folder of images as one with a row for each image, or None.

    `folders` are those of the files of `index`; `classes` are the names of class folders: a table that describes these
    is none.
    """
    for column in table.header:
        values = table.column(column)
        others = [len(set(table.column(other))) for other in table.header if other != column]
        if not any(1 < count <= len(values) / 2 for count in others):
            continue
        named = folders.named_by(values)
        known = {folder.rpartition("/")[2] for folder in named} <= {*classes}
        if len(named) < 2 or (known and not OF_FOLDER.search(column)):
            continue
        wide = folders.rows_of_images(table, column)
        return Profile(name, wide, header, column, index.reach(wide.column(column)), folders=True)
    return None


def _candidate(name: str, table: Table, column: str, index: Index, hints: IdHints) -> _Candidate | None:
    every = table.column(column)
    values = [value for value in dict.fromkeys(every) if value and not is_rubbish(value)]
    if len(values) < 0.2 * len(table.rows) or not index.reach(values[:: max(1, len(values) // FEW)]):
        return None
    reach = _reach(name, values, index)
    rows = sum(value in reach for value in every)
    if rows < SHARE * len(table.rows) and len(reach) < 0.9 * len(index.files):
        return None
    named = sum(is_image(value.rpartition("/")[2]) for value in list(reach)[:FEW])
    if not named and column != hints.wish and columns.STRONGER.search(column.lower()):
        return None  # numbers of classes that happen to be names of images too
    return _Candidate(column, reach, named, counts_rows(every))


def _reach(name: str, values: Sequence[str], index: Index) -> dict[str, list[int]]:
    """Return the places that each value may mean: in the table's own folder where that holds them all."""
    own = name.rpartition("/")[0]
    files = [file for _, file in index.files]
    near = within(files, [own]) if own else []
    if near and len(near) < len(files):
        reach = Index([index.files[place] for place in near]).reach(values)
        if len(reach) == len(values):
            return {value: [near[place] for place in places] for value, places in reach.items()}
    return index.reach(values)


def counts_rows(values: Sequence[str]) -> bool:
    """True if the values are 0, 1, 2, ... or 1, 2, 3, ... in order, as programs number the rows of a table."""
    if len(values) < 3 or values[0] not in ("0", "1"):
        return False
    first = int(values[0])
    return all(value == str(number) for number, value in enumerate(values, start=first))


def _disagree(table: Table, one: _Candidate, other: _Candidate) -> bool:
    if one is other:
        return False
    pairs = zip(table.column(one.column), table.column(other.column), strict=True)
    return any(set(one.reach.get(a, ())).isdisjoint(other.reach.get(b, ())) for a, b in pairs)


def refuse_unknown(wish: str | None, tables: Sequence[Table]) -> None:
    """Raise UserError if the user named an id column that no table has."""
    headings = list(dict.fromkeys(name for table in tables for name in table.header))
    if wish is not None and wish not in headings:
        listed = examples(headings, 12) or "none"
        raise UserError(f"--id {wish}: no table has such a column; there are {listed}")
