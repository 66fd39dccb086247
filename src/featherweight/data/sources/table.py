"""A table of labels beside folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featherweight.data import tables
from featherweight.data.csv_file import Table
from featherweight.data.file_matching import File, bare
from featherweight.data.folder_rows import ALONE, FolderIndex
from featherweight.data.folder_rows import FOLDER as FOLDER_ROW
from featherweight.data.label_rows import FOLDER, Columns, LabelRows, match_near
from featherweight.data.listing import Faults, Label, Listing, Samples, is_image, walk
from featherweight.errors import UserError
from featherweight.schema import Flag, Text


def table(  # the parameters are the keys of a competition's file
    root: Path,
    *,
    labels: Text,
    images: list[Text],
    id: Text | None = None,
    label: Text | None = None,
    columns: list[Text] = [],
    folders: Flag = False,
    several: Flag = False,
    separator: Text = " ",
    group: Text | None = None,
    header: list[Text] = [],
    join: dict[Text, list[Text]] = {},
    split: Text | None = None,
    valid_rows: list[Text] = [],
    test_rows: list[Text] = [],
    valid: Text | None = None,
    valid_images: list[Text] = [],
    test: list[Text] = [],
    test_table: Text | None = None,
    test_id: Text | None = None,
    test_file: Text | None = None,
    test_label: Text | None = None,
    faults: Literal["stop", "leave out"] = "stop",
) -> Listing:
    """A table `labels` (CSV, JSON, Parquet, or a list whose columns `header` names) and folders of `images`.

    The column `id` (default: the first) names files, by path or name, with or without ending; with `folders`, it names
    folders, whose images all have the row's class, and belong together without a `group` (`none`: they do not). The
    class stands in `label` (default: the second column), is the column of `columns` that holds 1, or is the folder the
    image lies in (`label: /folder`). With `several` an image has a set of classes: those of `columns` that hold 1, or
    the parts of `label` between `separator` (`[]`: lists as Python writes them). The column `group` says which images
    belong together; a blank is an image alone. `join` adds the columns of other tables, each with its header, or []
    where it has one, by the column `id` or else the first that both tables have.

    Rows whose column `split` holds one of `valid_rows` are held out, those of `test_rows` are the test, with their
    classes if they have any; the table `valid` holds rows that are held out, of images in the folders `valid_images` if
    these are others than `images`, and perhaps called alike. The `test` folders hold the images to predict; where a
    folder is also one of `images`, those in it without a label. `test_table` lists them: their ids in `test_id`, their
    files in `test_file`, their classes, where known, in `test_label`; where it names images with a label, these are the
    test, with their classes.

    Rows and files that do not match stop everything, or are listed and left out.
    """
    for folder in [*images, *valid_images, *test]:
        if not (root / folder).is_dir():
            raise UserError(f"there is no image folder {root / folder}")
    joined = tables.joined(root / labels, header, {root / path: names for path, names in join.items()}, id)
    if len(joined.header) < 2 and label != FOLDER:
        raise UserError(f"{joined.path}: row 1: expected a column of ids and one of labels, got '{joined.header[0]}'")
    held = tables.read(root / valid, header) if valid else None
    first = id or joined.header[0]
    named = None if columns else label or next(name for name in joined.header if name != first)
    together = FOLDER_ROW if folders and group is None else None if group == ALONE else group
    wanted = Columns(first, named, columns, several, separator, together)
    files = _apart(images, test, _files(root, images))
    listed = LabelRows(root, labels, _by_image(joined, first, files) if folders else joined, wanted, files)
    held_out = None
    if valid and held:
        held_files = _files(root, valid_images) or files
        held = _by_image(held, first, held_files) if folders else held
        held_out = LabelRows(root, valid, held, wanted, held_files)
    rows = _by_split(listed.listing, split, valid_rows, test_rows)
    shared = set(images) & set(test)
    asked = {row for row in listed.unlabelled if row in rows["test"] or listed.folder_of(row) in shared}
    used = {*listed.place_of.values(), *(held_out.place_of.values() if held_out and not valid_images else ())}
    used -= {listed.place_of[listed.ids[row]] for row in asked if row not in rows["test"]}
    solved: list[int] = []
    asking = None
    if test_table:
        asking = AskedImages.read(root, test_table, header, (test_id, test_file, test_label))
        tested = asking.places(files)
        used |= tested
        solved = [row for row in rows["train"] if shared and listed.place_of.get(listed.ids[row]) in tested]
        rows["train"] = sorted({*rows["train"]} - {*solved})
    spare = [files[place] for place in sorted(set(range(len(files))) - used)]
    _settle(listed, held_out, asked, [] if shared else spare, faults)
    if not listed.usable(rows["train"]):
        raise UserError(f"{joined.path}: no row has both a label and an image")
    to_predict = [file for file in spare if file[0] in shared]
    to_predict += _files(root, [folder for folder in test if folder not in shared])
    predict: Samples | None
    answers: dict[str, Label] = {}
    if asking:
        predict, answers = asking.samples([*to_predict, *files] if shared else to_predict)
        answers |= _classes_of(predict, listed.samples(solved))
    elif rows["test"]:
        predict, answers = _rows_of_test(root, listed, rows["test"])
    else:
        predict = _unlisted(root, to_predict, plain=not any(is_image(name) for name in listed.place_of))
    held_out_samples = held_out.samples(range(len(held_out.ids))) if held_out else None
    return Listing(
        train=listed.samples(rows["train"]),
        predict=predict,
        valid=listed.samples(rows["valid"]) if rows["valid"] else held_out_samples,
        answers=(lambda: answers) if answers else None,
    )


@dataclass(frozen=True)
class AskedImages:
    """A table, `name` below the data folder, that lists the images to predict; its columns of their ids, their files
    and, where known, their classes.
    """

    root: Path
    name: str
    table: Table
    id: str
    file: str
    label: str | None

    @classmethod
    def read(cls, root: Path, name: str, header: Sequence[str], columns: tuple[str | None, ...]) -> AskedImages:
        """Read the table. The `columns` of ids, files and classes may be None: the first holds the ids, and the ids
        name the files. In a list without headings they are among those of `header`.
        """
        within = [header.index(column) for column in columns if column in header]
        if not within and columns[0] == "column 1":  # as lists are called whose columns have no names
            table = tables.read_list(root / name)
        else:
            table = tables.read(root / name, header[: max(within) + 1] if within else ())
        id = columns[0] or table.header[0]
        return cls(root, name, table, id, columns[1] or id, columns[2])

    def places(self, files: Sequence[File]) -> set[int]:
        """Return the places of those `files` that the table names."""
        return set(match_near(self.table.column(self.file), files, self.name)[0].values())

    def samples(self, files: Sequence[File]) -> tuple[Samples, dict[str, Label]]:
        """Return the images, and their classes by id if the table has them. Raises UserError if one is not there."""
        path, ids, named = self.table.path, self.table.column(self.id), self.table.column(self.file)
        place_of, several = match_near(named, files, self.name)
        lost = [name for name in named if name not in place_of]
        if lost:
            why = "could be several files" if lost[0] in several else "has no image"
            raise UserError(f"{path}: '{lost[0]}' {why} (of {len(lost):,} rows)")
        twice = _repeated(ids)
        if twice is not None:
            raise UserError(f"{path}: the id '{twice}' appears twice")
        images = [str(self.root / "/".join(files[place_of[name]])) for name in named]
        one = _repeated(images)
        if one is not None and len(set(named)) == len(named):
            raise UserError(f"{path}: different rows name one image, {one}")
        answers = dict(zip(ids, self.table.column(self.label), strict=True)) if self.label else {}
        return Samples(ids, images), {id: label.strip() for id, label in answers.items() if label.strip()}


def _files(root: Path, folders: Sequence[str]) -> list[File]:
    return [(folder, file) for folder in folders for file in walk(root / folder)]


def _by_image(listing: Table, id: str, files: Sequence[File]) -> Table:
    """Return a table of rows of folders, named by the column `id`, as one of rows of their images."""
    return FolderIndex(files).rows_of_images(listing, id)


def _settle(
    listed: LabelRows, held_out: LabelRows | None, asked: Collection[int], spare: Sequence[File], faults: str
) -> None:
    """Report rows and files that do not match: raise UserError, or list what is left out."""
    problems = Faults(str(listed.listing.path))
    listed.add_faults(problems, asked=asked)
    if held_out:
        held_out.add_faults(problems, f" of {held_out.listing.path.name}")
    problems.add("images without a label", ["/".join(file) for file in spare])
    problems.settle(faults == "leave out")


def _repeated(values: Sequence[str]) -> str | None:
    """Return the first value that occurs several times, or None."""
    return next((value for value, times in Counter(values).items() if times > 1), None)


def _apart(images: Sequence[str], test: Sequence[str], files: list[File]) -> list[File]:
    """Return files of the folders `images` without those in a `test` folder within one of them."""
    within = tuple(f"{folder}/" for folder in test if any(folder.startswith(f"{above}/") for above in images))
    return [file for file in files if not "/".join(file).startswith(within)] if within else files


def _by_split(listing: Table, split: str | None, valid: Sequence[str], test: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each part; rows whose `split` says nothing else are for training."""
    rows: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    values = [value.strip() for value in listing.column(split)] if split else [""] * len(listing.rows)
    for row, value in enumerate(values):
        rows["valid" if split and value in valid else "test" if split and value in test else "train"].append(row)
    return rows


def _rows_of_test(root: Path, listed: LabelRows, rows: Sequence[int]) -> tuple[Samples, dict[str, Label]]:
    """Return the images of these rows, those without a class last, and the classes by id of those that have one."""
    solved, unlabelled = listed.samples(rows), listed.unlabelled
    blank = [row for row in rows if row in unlabelled]
    asked = [str(root / "/".join(listed.files[listed.place_of[listed.ids[row]]])) for row in blank]
    samples = Samples([*solved.ids, *(listed.ids[row] for row in blank)], [*map(str, solved.images), *asked])
    return samples, dict(zip(solved.ids, solved.labels or (), strict=True))


def _classes_of(samples: Samples, known: Samples) -> dict[str, Label]:
    """Return the classes by id of those `samples` whose images are among the `known` ones."""
    class_of = dict(zip(map(str, known.images), known.labels or (), strict=True))
    pairs = zip(samples.ids, map(str, samples.images), strict=True)
    return {id: class_of[file] for id, file in pairs if file in class_of}


def _unlisted(root: Path, files: Sequence[File], plain: bool) -> Samples | None:
    """Return the images to predict, named by their files, without endings if the training ids have none."""
    if not files:
        return None
    ids = [bare(file) if plain else file for _, file in files]
    twice = _repeated(ids)
    if twice is not None:
        raise UserError(f"{root / files[0][0]}: there are several images to predict called {twice}")
    return Samples(ids, [str(root / folder / file) for folder, file in files])
