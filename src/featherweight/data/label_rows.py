"""The rows of a label table with the files that they name and their classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight.data.csv_file import Table, examples
from featherweight.data.file_matching import File, is_rubbish, match
from featherweight.data.listing import Faults, Label, Samples
from featherweight.errors import UserError

FOLDER = "/folder"  # in place of a label column: an image's class is the name of its folder
MINUS = ("-1", "-1.0")  # no, in a column that has no 0
LISTED = "[]"  # the separator of sets written as lists of Python: ['rust', 'scab']
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


def split_set(text: str, separator: str) -> tuple[str, ...]:
    """Return the classes in a set as text: split at the separator or, for `[]`, read as a Python or JSON list."""
    if separator == LISTED:
        inner = text.strip().strip("[]()")
        quoted = re.findall(r"""'([^']*)'|"([^"]*)\"""", inner)
        names = [one or other for one, other in quoted] or re.split(r"[,\s]+", inner)
    else:
        names = text.split(None if separator == " " else separator)
    return tuple(name.strip() for name in names if name.strip())


@dataclass(frozen=True)
class Columns:
    """The columns of a label table by their meaning, named as the keys of `table`."""

    id: str
    label: str | None
    columns: Sequence[str]
    several: bool
    separator: str
    group: str | None


class LabelRows:
    """The rows of a label table with their files and classes."""

    def __init__(self, root: Path, name: str, listing: Table, wanted: Columns, files: Sequence[File]) -> None:
        self.root, self.listing, self.files, self.several = root, listing, files, wanted.several
        self.ids = listing.column(wanted.id)
        self.rubbish = {row for row, id in enumerate(self.ids) if is_rubbish(id)}
        self.place_of, self.ambiguous = match_near([id for id in self.ids if not is_rubbish(id)], files, name)
        ids_of: dict[int, set[str]] = defaultdict(set)
        for id, place in self.place_of.items():
            ids_of[place].add(id)
        self.one_file = {id: place for id, place in self.place_of.items() if len(ids_of[place]) > 1}
        self.groups = listing.column(wanted.group) if wanted.group else None
        self.labels: list[Label | None] = self._labels(wanted)
        self.sets: dict[str, list[str]] = defaultdict(list)  # the classes of an id in all its rows
        for id, label in zip(self.ids, self.labels, strict=True):
            for name in (label,) if isinstance(label, str) else label or ():
                if name not in self.sets[id]:
                    self.sets[id].append(name)
        self.disputed = set() if wanted.several else {id for id, names in self.sets.items() if len(names) > 1}

    def _labels(self, wanted: Columns) -> list[Label | None]:
        if wanted.columns:
            return [*_of_columns(self.listing, wanted)]
        if wanted.label == FOLDER:
            places = [self.place_of.get(id) for id in self.ids]
            return [None if place is None else self.files[place][1].split("/")[0] for place in places]
        assert wanted.label is not None
        classes = [name.strip() for name in self.listing.column(wanted.label)]
        if not wanted.several and wanted.separator == LISTED:  # lists of one class each
            classes = [parts[0] if len(parts := split_set(name, LISTED)) == 1 else name for name in classes]
        if not wanted.several:
            return [name or None for name in classes]
        return [split_set(name, wanted.separator) for name in classes]

    @property
    def unlabelled(self) -> set[int]:
        """The rows that have an image but no class, and whose image has no class in another row."""
        labelled = {id for id, names in self.sets.items() if names}
        empty = [row for row, label in enumerate(self.labels) if label is None and self.ids[row] not in labelled]
        return {row for row in empty if self.ids[row] in self.place_of and row not in self.rubbish}

    def folder_of(self, row: int) -> str:
        """Return the image folder of a row's file; the row must have a file."""
        return self.files[self.place_of[self.ids[row]]][0]

    def add_faults(self, problems: Faults, of: str = "", asked: Collection[int] = ()) -> None:
        """Add all faults of these rows; `of` names their table, `asked` are the rows to predict."""
        empty = [row for row, label in enumerate(self.labels) if label is None and row not in self.rubbish]
        named = [row for row in empty if self.ids[row] in self.place_of and row not in asked]
        problems.add(f"rows without a label{of}", [self._row(row) for row in named])
        disputed = [f"{id} ({', '.join(sorted(self.sets[id]))})" for id in sorted(self.disputed)]
        problems.add(f"ids with several labels{of}", disputed)
        problems.add(f"ids that could be several files{of}", sorted(self.ambiguous))
        shared = [f"{id} ({'/'.join(self.files[self.one_file[id]])})" for id in sorted(self.one_file)]
        problems.add(f"different ids of one image{of}", shared)
        known = {*self.place_of, *self.ambiguous}
        absent = [id for row, id in enumerate(self.ids) if id not in known and row not in self.rubbish]
        problems.add(f"labels without an image{of}", list(dict.fromkeys(absent)))

    def usable(self, rows: Sequence[int]) -> list[int]:
        """Return the rows among `rows` that have an image and a class, each image once."""
        seen: set[int] = set()
        fine = []
        for row in rows:
            id = self.ids[row]
            place = self.place_of.get(id)
            faulty = id in self.disputed or id in self.one_file or row in self.rubbish
            if place is None or self.labels[row] is None or faulty or place in seen:
                continue
            seen.add(place)
            fine.append(row)
        return fine

    def samples(self, rows: Sequence[int]) -> Samples:
        """Return the images of these rows with their classes and groups."""
        fine = self.usable(rows)
        labels = [tuple(self.sets[self.ids[row]]) if self.several else self.sets[self.ids[row]][0] for row in fine]
        return Samples(
            [self.ids[row] for row in fine],
            [str(self.root / "/".join(self.files[self.place_of[self.ids[row]]])) for row in fine],
            labels,
            [self.groups[row] if self.groups[row].strip() else self._alone(row) for row in fine]
            if self.groups
            else None,
        )

    def _alone(self, row: int) -> str:
        """Return a group of its own for an image whose group is unknown."""
        return f"/{self.ids[row]}"

    def _row(self, row: int) -> str:
        return f"row {self.listing.numbers[row]} ({self.listing.rows[row][0]})"


def is_signed(values: Iterable[str]) -> bool:
    """True if all values are 1 or -1, and some are -1: yes and no, as CelebA has them."""
    given = {value.strip() for value in values}
    return given <= {*YES, *MINUS} and not given.isdisjoint(MINUS)


def match_near(ids: Sequence[str], files: Sequence[File], table: str) -> tuple[dict[str, int], set[str]]:
    """Match ids to files in the table's own folder if all of them are there, else to all files (see `match`)."""
    own = table.rpartition("/")[0]
    near = [place for place, file in enumerate(files) if "/".join(file).startswith(f"{own}/")] if own else []
    if near and len(near) < len(files):
        place_of, several = match(ids, [files[place] for place in near])
        if len(place_of) == len(set(ids)):
            return {id: near[place] for id, place in place_of.items()}, several
    return match(ids, files)


def _of_columns(table: Table, wanted: Columns) -> list[Label]:
    """Return the classes from a table with one column per class."""
    columns = [table.column(name) for name in wanted.columns]
    labels: list[Label] = []
    absent = [MINUS if is_signed(values) else NO for values in columns]
    for place, number in enumerate(table.numbers):
        names = []
        for name, values, no in zip(wanted.columns, columns, absent, strict=True):
            value = values[place].strip().lower()
            if value in YES:
                names.append(name)
            elif value not in no:
                raise UserError(f"{table.path}: row {number}: {name}: expected 0 or 1, got '{values[place]}'")
        if not wanted.several and len(names) != 1:
            raise UserError(
                f"{table.path}: row {number}: {len(names)} of the columns {examples(list(wanted.columns))} are 1; "
                f"where an image has a set of classes, set source.several: true and target: several"
            )
        labels.append(tuple(names) if wanted.several else names[0])
    return labels
