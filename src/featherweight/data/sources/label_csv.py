"""A table of labels beside folders of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featherweight.data import tables
from featherweight.data.csv_file import Table, examples
from featherweight.data.file_matching import File, bare, is_rubbish, match
from featherweight.data.listing import Faults, Label, Listing, Samples, is_image, walk
from featherweight.errors import UserError
from featherweight.schema import Flag, Text

FOLDER = "/folder"  # the label column that is no column: an image's class is the folder it lies in
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what, as the keys of `table`."""

    id: str
    label: str | None
    columns: Sequence[str]
    several: bool
    separator: str
    group: str | None


def table(  # the parameters are the keys of a competition's file
    root: Path,
    *,
    labels: Text,
    images: list[Text],
    id: Text | None = None,
    label: Text | None = None,
    columns: list[Text] = [],
    several: Flag = False,
    separator: Text = " ",
    group: Text | None = None,
    header: list[Text] = [],
    join: dict[Text, list[Text]] = {},
    split: Text | None = None,
    valid_rows: list[Text] = [],
    test_rows: list[Text] = [],
    valid: Text | None = None,
    test: list[Text] = [],
    test_table: Text | None = None,
    test_id: Text | None = None,
    test_file: Text | None = None,
    test_label: Text | None = None,
    faults: Literal["stop", "leave out"] = "stop",
) -> Listing:
    """A table `labels` (CSV, JSON, Parquet, or a list whose columns `header` names) and folders of `images`.

    The column `id` (default: the first) names files, by path or name, with or without ending. The class stands in
    `label` (default: the second column), is the column of `columns` that holds 1, or is the folder the image lies in
    (`label: /folder`). With `several` an image has a set of classes: those of `columns` that hold 1, or the parts of
    `label` between `separator`. The column `group` says which images belong together; a blank is an image alone.
    `join` adds the columns of other tables, each with its header, or [] where it has one.

    Rows whose column `split` holds one of `valid_rows` are held out, those of `test_rows` are the labelled test; the
    table `valid` holds rows that are held out. The `test` folders hold the images to predict; where a folder is also
    one of `images`, those in it without a label. `test_table` lists them: their ids in `test_id`, their files in
    `test_file`, their classes, where known, in `test_label`.

    Rows and files that do not match stop everything, or are listed and left out.
    """
    for folder in [*images, *test]:
        if not (root / folder).is_dir():
            raise UserError(f"there is no image folder {root / folder}")
    joined = tables.joined(root / labels, header, {root / path: names for path, names in join.items()})
    if len(joined.header) < 2 and label != FOLDER:
        raise UserError(f"{joined.path}: row 1: expected a column of ids and one of labels, got '{joined.header[0]}'")
    first = id or joined.header[0]
    named = None if columns else label or next(name for name in joined.header if name != first)
    wanted = Columns(first, named, columns, several, separator, group)
    files = [(folder, file) for folder in images for file in walk(root / folder)]
    listed = Rows(root, joined, wanted, files)
    held_out = Rows(root, tables.read(root / valid, header), wanted, files) if valid else None
    rows = _by_split(joined, split, valid_rows, test_rows)

    shared = set(images) & set(test)
    used = {*listed.place_of.values(), *(held_out.place_of.values() if held_out else ())}
    if test_table:
        names = tables.read(root / test_table)
        column = names.column(test_file or test_id or names.header[0])
        used |= set(match(column, files)[0].values())
    spare = [files[place] for place in sorted(set(range(len(files))) - used)]
    problems = Faults(str(joined.path))
    listed.add_faults(problems)
    if held_out:
        held_out.add_faults(problems, f" of {held_out.listing.path.name}")
    if not shared:
        problems.add("images without a label", ["/".join(file) for file in spare])
    problems.settle(faults == "leave out")
    if not listed.usable(rows["train"]):
        raise UserError(f"{joined.path}: no row has both a label and an image")

    plain = not any(is_image(name) for name in listed.place_of)
    to_predict = [file for file in spare if file[0] in shared]
    to_predict += [(folder, file) for folder in test if folder not in shared for file in walk(root / folder)]
    predict: Samples | None
    answers: Mapping[str, Label] = {}
    if test_table:
        searched = [*to_predict, *files] if shared else to_predict
        predict, answers = _listed(root, test_table, (test_id, test_file, test_label), searched)
    elif rows["test"]:
        solved = listed.samples(rows["test"])
        answers = dict(zip(solved.ids, solved.labels or (), strict=True))
        predict = Samples(solved.ids, solved.images)
    else:
        predict = _unlisted(root, to_predict, plain)
    held_out_samples = held_out.samples(range(len(held_out.ids))) if held_out else None
    return Listing(
        train=listed.samples(rows["train"]),
        test=predict,
        valid=listed.samples(rows["valid"]) if rows["valid"] else held_out_samples,
        answers=(lambda: answers) if answers else None,
    )


class Rows:
    """The rows of a table with the files they name and their classes."""

    def __init__(self, root: Path, listing: Table, wanted: Columns, files: Sequence[File]) -> None:
        self.root, self.listing, self.files, self.several = root, listing, files, wanted.several
        self.ids = listing.column(wanted.id)
        self.rubbish = {row for row, id in enumerate(self.ids) if is_rubbish(id)}
        self.place_of, self.ambiguous = match([id for id in self.ids if not is_rubbish(id)], files)
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
        if not wanted.several:
            return [name or None for name in classes]
        cut = None if wanted.separator == " " else wanted.separator
        return [tuple(part.strip() for part in name.split(cut) if part.strip()) for name in classes]

    def add_faults(self, problems: Faults, of: str = "") -> None:
        """Everything about these rows that does not fit; `of` says which table's they are."""
        empty = [row for row, label in enumerate(self.labels) if label is None and row not in self.rubbish]
        named = [row for row in empty if self.listing.header and self.ids[row] in self.place_of]
        problems.add(f"rows without a label{of}", [self._row(row) for row in named])
        disputed = [f"{id} ({', '.join(sorted(self.sets[id]))})" for id in sorted(self.disputed)]
        problems.add(f"ids with several labels{of}", disputed)
        problems.add(f"ids that could be several files{of}", sorted(self.ambiguous))
        known = {*self.place_of, *self.ambiguous}
        absent = [id for row, id in enumerate(self.ids) if id not in known and row not in self.rubbish]
        problems.add(f"labels without an image{of}", list(dict.fromkeys(absent)))

    def usable(self, rows: Sequence[int]) -> list[int]:
        """Those of `rows` that have an image and a class, each image once."""
        seen: set[int] = set()
        fine = []
        for row in rows:
            id = self.ids[row]
            place = self.place_of.get(id)
            if place is None or self.labels[row] is None or id in self.disputed or place in seen or row in self.rubbish:
                continue
            seen.add(place)
            fine.append(row)
        return fine

    def samples(self, rows: Sequence[int]) -> Samples:
        """The images of these rows with their classes and groups."""
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
        """The group of an image whose group is not known: itself."""
        return f"/{self.ids[row]}"

    def _row(self, row: int) -> str:
        return f"row {self.listing.numbers[row]} ({self.listing.rows[row][0]})"


def _of_columns(table: Table, wanted: Columns) -> list[Label]:
    """The classes of a table with one column per class."""
    columns = [table.column(name) for name in wanted.columns]
    labels: list[Label] = []
    for place, number in enumerate(table.numbers):
        names = []
        for name, values in zip(wanted.columns, columns, strict=True):
            value = values[place].strip().lower()
            if value in YES:
                names.append(name)
            elif value not in NO:
                raise UserError(f"{table.path}: row {number}: {name}: expected 0 or 1, got '{values[place]}'")
        if not wanted.several and len(names) != 1:
            raise UserError(
                f"{table.path}: row {number}: {len(names)} of the columns {examples(list(wanted.columns))} are 1; "
                f"where an image has a set of classes, set source.several: true and target: several"
            )
        labels.append(tuple(names) if wanted.several else names[0])
    return labels


def _by_split(listing: Table, split: str | None, valid: Sequence[str], test: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each part: all are for training, but for those that `split` says otherwise of."""
    rows: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    values = [value.strip() for value in listing.column(split)] if split else [""] * len(listing.rows)
    for row, value in enumerate(values):
        rows["valid" if split and value in valid else "test" if split and value in test else "train"].append(row)
    return rows


def _listed(
    root: Path, name: str, columns: tuple[str | None, str | None, str | None], files: Sequence[File]
) -> tuple[Samples, dict[str, Label]]:
    """The images to predict as a table lists them, and their classes by id where it holds them."""
    listing = tables.read(root / name)
    ids = listing.column(columns[0] or listing.header[0])
    named = listing.column(columns[1]) if columns[1] else ids
    place_of, several = match(named, files)
    lost = [named_ for named_ in named if named_ not in place_of]
    if lost:
        why = "could be several files" if lost[0] in several else "has no image"
        raise UserError(f"{listing.path}: '{lost[0]}' {why} (of {len(lost):,} rows)")
    twice = next((id for id, times in Counter(ids).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{listing.path}: the id '{twice}' appears twice")
    images = [str(root / "/".join(files[place_of[one]])) for one in named]
    answers = dict(zip(ids, listing.column(columns[2]), strict=True)) if columns[2] else {}
    return Samples(ids, images), {id: label.strip() for id, label in answers.items() if label.strip()}


def _unlisted(root: Path, files: Sequence[File], plain: bool) -> Samples | None:
    """The images to predict, named by their files; without endings where training images are."""
    if not files:
        return None
    ids = [bare(file) if plain else file for _, file in files]
    twice = next((id for id, times in Counter(ids).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{root / files[0][0]}: there are several images to predict called {twice}")
    return Samples(ids, [str(root / folder / file) for folder, file in files])
