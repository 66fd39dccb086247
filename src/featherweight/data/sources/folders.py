"""One folder per class, at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from featherweight.console import say, say_once
from featherweight.data import csv_file, tables
from featherweight.data.csv_file import Table
from featherweight.data.file_matching import match
from featherweight.data.listing import Faults, Listing, Samples, walk
from featherweight.data.sources.torchvision import Named, export
from featherweight.errors import UserError, count_of
from featherweight.schema import Flag, Text

FEW = 3  # images outside the class folders that may be left out


def folders(  # the parameters are the keys of a competition's file
    root: Path,
    *,
    path: Text,
    train: Text | list[Text] = "train",
    test: Text | list[Text] = "test",
    valid: Text | None = None,
    without: list[Text] = [],
    rename: dict[Text, Text] = {},
    train_list: Text | None = None,
    valid_list: Text | None = None,
    test_list: Text | None = None,
    list_header: list[Text] = [],
    list_id: Text | None = None,
    test_labels: Flag = True,
    test_table: Text | None = None,
    torchvision: Named | None = None,
) -> Listing:
    """`train/<class>/**/*` and `test/<class>/**/*` (or a flat `test/*`) under `path`; an id is the path below either.

    `train` may be several folders, and so may `test`; the other parts, and the folders `without`, are left out of it
    where they lie within. `valid` names a validation
    folder that came with the data, or a flat one whose classes the table `valid_list` holds (columns: file, class); it
    is then what is held out. `train_list` and `test_list`, and `valid_list` without `valid`, are lists of files below
    `train` that say which part an image belongs to. `list_id` names the column of files in lists with headings;
    `list_header` names the columns of lists without them, of which the first holds the files.
    `rename` gives folders other class names, several folders one class perhaps. `torchvision` names the torchvision
    data set that fills the folder when it is not there and the internet is. `test_labels: false` says that the folders
    in `test` are not classes, though they are called like some. `test_table` names in its first column the images of
    `test` to predict, where others lie there too.
    """
    folder = root / path
    trains, tests = ([given] if isinstance(given, str) else given for given in (train, test))
    if not folder.is_dir():
        if torchvision is None:
            raise UserError(f"there is no data folder {folder}: put {trains[0]}/<class>/* and {tests[0]}/* there")
        say(f"{folder} is not there: filling it with torchvision's {torchvision}")
        export(torchvision, folder)
    labelled = _labelled(folder, trains, [*([valid] if valid else []), *tests, *without], rename)
    if valid is not None and not (folder / valid).is_dir():
        raise UserError(f"there is no validation folder {folder / valid}")
    found = [(one, file) for one in tests for file in _images(folder, one, without)]
    tested = [file if len(tests) == 1 else f"{one}/{file}" for one, file in found]
    classes = set(map(str, labelled.labels or ()))
    known = test_labels and bool(tested) and all(_class(file, rename) in classes and "/" in file for _, file in found)
    held_out = None
    predict = Samples(tested, [f"{folder}/{one}/{file}" for one, file in found]) if tested else None
    if predict and test_table:
        predict = asked_for(predict, root / test_table)
    answers = {id: _class(file, rename) for id, (_, file) in zip(tested, found, strict=True)} if known else {}
    if valid and valid_list:
        held_out = _by_table(folder / valid, root / valid_list, list_header, rename)
    elif valid:
        held_out = _labelled(folder, [valid], without, rename)
    elif valid_list:
        held_out = _chosen(labelled, root / valid_list, list_header, list_id)
    if test_list:
        listed = _chosen(labelled, root / test_list, list_header, list_id)
        predict, answers = (
            Samples(listed.ids, listed.images),
            dict(zip(listed.ids, map(str, listed.labels or ()), strict=True)),
        )
    if train_list:
        labelled = _chosen(labelled, root / train_list, list_header, list_id)
    elif not valid and valid_list:
        labelled = _without(labelled, held_out)
    return Listing(
        train=_without(labelled, predict) if test_list else labelled,
        predict=predict,
        valid=held_out,
        answers=(lambda: answers) if answers else None,
    )


def asked_for(samples: Samples, table: Path) -> Samples:
    """Return the images that the first column of a table names. Raises UserError if one of them is not there."""
    listed = csv_file.read_sample(table)
    ids = listed.column(listed.header[0])
    place_of, _ = match(ids, [("", id) for id in samples.ids])
    if lost := [id for id in ids if id not in place_of]:
        raise UserError(f"{table}: '{lost[0]}' names no one image to predict (of {len(lost):,} rows)")
    places = sorted(set(place_of.values()))
    images = list(map(str, samples.images))
    return Samples([samples.ids[place] for place in places], [images[place] for place in places])


def are_few(loose: int, files: int) -> bool:
    """True if images beside class folders are so few that they may be left out (a cover, a diagram)."""
    return 10 * loose <= files and loose <= max(FEW, files // 100)


def _class(file: str, rename: dict[str, str]) -> str:
    first = file.split("/")[0]
    return rename.get(first, first)


def _images(folder: Path, part: str, others: Sequence[str]) -> list[str]:
    """Return the images below `part`, by their paths there, without those in the folders `others`, of which some may
    lie within.
    """
    inside = others if part == "." else [one.removeprefix(f"{part}/") for one in others if one.startswith(f"{part}/")]
    outside = tuple(f"{one}/" for one in inside)
    return [file for file in walk(folder / part) if not file.startswith(outside)]


def _labelled(folder: Path, trains: Sequence[str], others: Sequence[str], rename: dict[str, str]) -> Samples:
    ids: list[str] = []
    images: list[str] = []
    labels: list[str] = []
    for train in trains:
        within = folder / train
        files = _images(folder, train, others)
        if not files:
            raise UserError(f"there are no images in {within}: expected {within.name}/<class>/*.jpg, .png, ...")
        loose = [file for file in files if "/" not in file]
        if loose and are_few(len(loose), len(files)):
            say_once(f"{within}: left out: {count_of(len(loose), 'image')} in no class folder, as {loose[0]}")
            files = [file for file in files if "/" in file]
        elif loose:
            more = f", nor are {len(loose) - 1:,} more" if len(loose) > 1 else ""
            where = f"{within.name}/<class>/{loose[0]}"
            raise UserError(f"{within / loose[0]}: this image is in no class folder{more}; expected {where}")
        ids += files if len(trains) == 1 else [f"{train}/{file}" for file in files]
        images += [f"{within}/{file}" for file in files]
        labels += [_class(file, rename) for file in files]
    return Samples(ids, images, labels)


def _by_table(folder: Path, table: Path, header: Sequence[str], rename: dict[str, str]) -> Samples:
    """Return the images of a flat folder with the classes from a table of files and classes."""
    listing = _read(table, header)
    if len(listing.header) < 2:
        raise UserError(f"{table}: expected a column of files and one of classes, got one column")
    files = walk(folder)
    names = listing.column(listing.header[0])
    place_of, _ = match(names, [("", file) for file in files])
    rows = [row for row, name in enumerate(names) if name in place_of]
    if not rows:
        raise UserError(f"{table}: none of its {len(names):,} rows names an image in {folder}")
    _tell(table, names, place_of)
    listed = [files[place_of[names[row]]] for row in rows]
    labels = [rename.get(name, name) for name in (listing.rows[row][1].strip() for row in rows)]
    return Samples(listed, [f"{folder}/{file}" for file in listed], labels)


def _tell(table: Path, names: Sequence[str], known: Mapping[str, int]) -> None:
    """Report which rows of a list are left out because they name no image or several."""
    problems = Faults(str(table))
    problems.add("rows that name no one image", [name for name in names if name not in known])
    times = Counter(known[name] for name in set(names) if name in known)
    problems.add("different rows of one image", [name for name in sorted(set(names)) if times[known.get(name, -1)] > 1])
    problems.settle(leave_out=True)


def _chosen(labelled: Samples, table: Path, header: Sequence[str], id: str | None) -> Samples:
    """Return the images that a list of files names."""
    listing = tables.read(table) if id else _read(table, header)
    names = listing.column(id or listing.header[0])
    place_of, _ = match(names, [("", id) for id in labelled.ids])
    if not place_of:
        raise UserError(f"{table}: none of its {len(names):,} rows names an image of the class folders")
    _tell(table, names, place_of)
    return _take(labelled, sorted(set(place_of.values())))


def _read(table: Path, header: Sequence[str]) -> Table:
    return tables.read(table, header) if header else tables.read_list(table)


def _without(labelled: Samples, others: Samples | None) -> Samples:
    gone = set(others.ids) if others else set()
    return _take(labelled, [place for place, id in enumerate(labelled.ids) if id not in gone])


def _take(samples: Samples, places: Sequence[int]) -> Samples:
    labels = samples.labels or []
    images = list(map(str, samples.images))
    return Samples(
        [samples.ids[place] for place in places],
        [images[place] for place in places],
        [labels[place] for place in places],
    )
