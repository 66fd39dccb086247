"""Find the label table: read every table, find the columns of ids and of classes, choose the best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from featherweight.data import csv_file, tables
from featherweight.data.csv_file import Table, examples
from featherweight.data.detect import columns, group_column, id_column, table_refusals
from featherweight.data.detect.columns import Column, Context
from featherweight.data.detect.detected import Hints
from featherweight.data.detect.id_column import IdHints, Profile
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import Scan
from featherweight.data.file_matching import Index
from featherweight.data.folder_rows import FOLDER, FolderIndex
from featherweight.data.label_rows import LISTED, YES, split_set
from featherweight.data.listing import is_image
from featherweight.errors import UserError, nearest

BOXES = re.compile(r"bbox|^x_?min|^xmax|encodedpixels|^rle|polygon|segmentation")
PEOPLE = re.compile(r"^(patient|subject|case|person|study|series|participant|p|s|id)[ _-]*\d+$", re.IGNORECASE)
NOISY = re.compile(r"noisy|weak|pseudo|extra|external|additional|unverified")  # labels of a second choice
FEWEST = 5  # images of a class folder, on average, where a table names the images too
WIDE, LARGE = 48, 1 << 25  # columns and bytes of a table that is pixels, and is not read here


@dataclass
class Survey:
    """The tables that name images, and what was wrong with those that could not be read."""

    scan: Scan
    index: Index
    profiles: list[Profile]
    others: list[Table] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    refusal: UserError | None = None  # why no table holds the classes, where class folders do
    unused: list[Profile] = field(default_factory=list)  # tables that hold classes too, and are not the label table
    unclear: list[Profile] = field(default_factory=list)  # tables of which several columns may be classes


def profile_all(scan: Scan, sample: SampleSubmission | None, hints: Hints, folders: dict[str, str]) -> Survey:
    """Read every table and find the column that names images in each, or the folders that they lie in.

    `folders` is the class of each image by its folder.
    """
    survey = Survey(scan, Index([("", name) for name in scan.images]), [])
    if not scan.images:
        return survey
    folder_index = FolderIndex(survey.index.files)
    for name in scan.tables:
        path = scan.folder / name
        if sample is not None and path == sample.path:
            continue
        start = csv_file.beginning(path, 2) if name.lower().endswith((".csv", ".tsv")) else None
        if start and len(start.header) >= WIDE and path.stat().st_size > LARGE:
            continue
        try:
            readings = _readings(scan, name, start)
        except UserError as error:
            if not name.lower().endswith((".txt", ".lst", ".json")):
                survey.aside.append(f"set apart: {error}")
            continue
        first, declared = sample.header[0] if sample else None, hints.declared_besides("id")
        known, index = IdHints(hints.id, hints.likely.get("id"), first, declared), survey.index
        fitting = [one for table, header in readings if (one := id_column.profile(name, table, header, index, known))]
        if not fitting:
            classes = set(folders.values())
            fitting = [
                one
                for table, header in readings
                if (one := id_column.profile_of_folders(name, table, header, index, folder_index, classes))
            ]
        if fitting:
            survey.profiles.append(max(fitting, key=lambda one: (len(one.reach), _has_headings(one))))
        elif readings:
            survey.others.append(readings[0][0])
    id_column.refuse_unknown(hints.id, [*(one.table for one in survey.profiles), *survey.others])
    return survey


def _has_headings(one: Profile) -> bool:
    """True if the first row of a table reads as headings: no image and no number."""
    heads = one.table.header
    return not one.header and not any(is_image(head) or csv_file.number_of(head) is not None for head in heads)


def _readings(scan: Scan, name: str, start: Table | None) -> list[tuple[Table, list[str]]]:
    path = scan.folder / name
    readings: list[tuple[Table, list[str]]] = []
    listed = name.lower().endswith((".txt", ".lst"))
    if name.lower().endswith(".txt") and (table := tables.counted(path)) is not None:
        return [(table, [])]
    if start and any(is_image(cell.rpartition("/")[2]) or cell.endswith("/") for cell in start.header):
        listed = True
    if listed:
        table = tables.read_list(path)
        readings.append((table, table.header))
    if not listed or name.lower().endswith(".txt"):
        try:
            readings.append((tables.read(path), []))
        except UserError:
            if not listed:
                raise
    return readings


# ------------------------------------------------------------------------------------------------- the table of labels


@dataclass
class Labelled:
    """A table with its classes: one column (perhaps of sets), or one column per class."""

    profile: Profile
    column: Column | None
    columns: list[str]
    several: bool
    separator: str | None
    points: int
    others: list[Column]


def label_table(
    survey: Survey, sample: SampleSubmission | None, hints: Hints, folders: dict[str, str]
) -> Labelled | None:
    """Return the table with the classes of the training images; `folders` is the class of each image by its folder.

    Raises UserError where tables name the images and none says which column is the class.
    """
    if not hints.label:
        table_refusals.refuse_one_list_per_class(survey.profiles)
        if not folders:
            table_refusals.refuse_tables_of_one_class(survey)
    repeated = {
        header for header, count in Counter(tuple(p.table.header) for p in survey.profiles).items() if count > 2
    }
    candidates = [p for p in survey.profiles if tuple(p.table.header) not in repeated or not folders]
    tests = [p for p in candidates if p.role == "test"]
    trains = [p for p in candidates if p.role not in ("test", "valid")]
    trains.sort(key=lambda p: (p.role != "train", -len(p.reach)))  # the first refusal is what the user reads
    labelled: list[Labelled] = []
    refusals: list[UserError] = []
    for profile in trains:
        if hints.label and not set(hints.labels) <= set(profile.table.header):
            continue
        unsolved = [p for p in tests if not set(profile.table.header) <= set(p.table.header)]  # others have the class
        features = frozenset(name for p in unsolved for name in p.table.header) if unsolved else None
        try:
            one = _labelled(survey, profile, sample, hints, features, folders)
        except UserError as error:
            if hints.label or _names_most(profile, folders, survey):
                refusals.append(error)
            survey.unclear += [profile] if isinstance(error, columns.UnclearError) else []
            continue
        if one is not None:
            labelled.append(one)
    if hints.label and not labelled and trains:
        table = max(trains, key=lambda p: len(p.reach)).table
        if set(hints.labels) <= set(table.header) and refusals:
            raise refusals[0]
        hint = nearest(hints.label, table.header)
        raise UserError(
            f"--label {hints.label}: {table.path} has no such column{hint}; there are {', '.join(table.header[:12])}"
        )
    ties = [error for error in refusals if isinstance(error, columns.TieError)]
    if not labelled and refusals and (ties or not _by_folder(trains, folders, survey)):
        raise (ties or refusals)[0]
    survey.refusal = next(iter(refusals), None)
    if not hints.label:
        stated = [one for one in labelled if not by_elimination(one)]
        labelled = stated if stated or _by_folder(trains, folders, survey) else labelled
    able = [one for one in labelled if not _labels_asked(one, sample)] or labelled
    best = max(able, key=_rank, default=None)
    survey.unused = [one.profile for one in labelled if one is not best]
    if best is not None:
        table_refusals.refuse_contradictions(best, [one for one in able if _rank(one) == _rank(best)])
        if not hints.label and by_elimination(best):
            table_refusals.refuse_classes_of_groups(best, survey.others)
    return best


def _rank(one: Labelled) -> tuple[bool, bool, bool, int]:
    """Return how likely a table is the one to train on."""
    name = one.profile.name.lower()
    return one.points > 60, one.profile.role == "train", not NOISY.search(name), len(one.profile.reach)


def by_elimination(one: Labelled) -> bool:
    """True if a table has no better column for the classes than one called as metadata or as groups of images are."""
    if one.column is None or one.points >= columns.LEAST:
        return False
    return one.points < 0 or group_column.fits(one.column.name, one.column.values)


def _labels_asked(one: Labelled, sample: SampleSubmission | None) -> bool:
    """True if a table labels most images of the sample submission, so it holds guesses or answers."""
    if sample is None or one.column is None:
        return False
    ids = one.profile.table.column(one.profile.id)
    known = Index([("", id) for id, label in zip(ids, one.column.values, strict=True) if label])
    return len(known.reach(sample.ids)) >= len(set(sample.ids)) / 2


def _names_most(profile: Profile, folders: dict[str, str], survey: Survey) -> bool:
    """True if a table names most images of the class folders, if there are any."""
    names = survey.scan.images
    return sum(any(names[place] in folders for place in p) for p in profile.reach.values()) >= 0.5 * len(folders)


def _by_folder(trains: Sequence[Profile], folders: dict[str, str], survey: Survey) -> bool:
    """True if class folders hold most images that the tables name, so that no table is needed for the classes."""
    named = {survey.scan.images[place] for p in trains for places in p.reach.values() for place in places}
    classes = set(folders.values())
    people = sum(bool(PEOPLE.search(name)) for name in classes) > len(classes) / 2
    enough = bool(folders) and not people and len(folders) >= FEWEST * len(classes)
    return enough and len(named & set(folders)) >= 0.9 * len(folders)


def _labelled(
    survey: Survey,
    profile: Profile,
    sample: SampleSubmission | None,
    hints: Hints,
    features: frozenset[str] | None,
    folders: dict[str, str],
) -> Labelled | None:
    table = profile.table
    used = [profile.id, FOLDER, *hints.declared_besides("label")]
    if not hints.label:
        hot = columns.class_columns(table, used, sample)
        if hot is not None:
            return Labelled(profile, None, hot[0], hot[1] or hints.target == "several", None, 90, [])
        table_refusals.refuse_components(table, [*(p.table for p in survey.profiles), *survey.others])
        table_refusals.refuse_uncertain(table)
    elif len(hints.labels) > 1:
        several = hints.target == "several" or not _each_once(table, hints.labels)
        return Labelled(profile, None, hints.labels, several, None, 90, [])
    if hints.group in table.header and set(table.header) <= {*used}:
        return None  # it says the groups alone
    if len(table.header) < 2:
        return None
    names = survey.scan.images
    beside = [
        folders.get(names[places[0]], "") if (places := profile.reach.get(id)) else ""
        for id in table.column(profile.id)
    ]
    context = Context(
        sample, features or frozenset(), features is not None, beside if any(beside) else (), hints.likely.get("label")
    )
    column, others = columns.choose(table, used, context, hints.label)
    mark = hints.separator
    if hints.target != "one" and mark is None:
        mark = columns.separator(column.counts, column.name, sample, hints.target, table.path)
    if sample is not None and sample.quantities and column.name in sample.columns and hints.target is None:
        raise UserError(
            f"{table.path}: '{column.name}' is a number to predict (regression), as fractions in {sample.path.name} "
            f"say: this program trains classifiers\nif its values are classes all the same: --target one, or ordered"
        )
    if column.measured and hints.target is None and column.distinct > 2:
        raise UserError(
            f"{table.path}: '{column.name}' holds fractions, as {examples(list(column.counts), 2)}: a number to predict"
            f" (regression), and this program trains classifiers\npass --label COLUMN for another column"
        )
    repeated = hints.target is None and mark is None and _long(profile, column)
    sets = mark is not None and not (mark == LISTED and all(len(split_set(v, LISTED)) == 1 for v in column.counts))
    several = hints.target == "several" or (hints.target is None and sets) or repeated
    return Labelled(profile, column, [], several, mark if several or mark == LISTED else None, column.points, others)


def _long(profile: Profile, column: Column) -> bool:
    """True if the table has one row per image and class: many images have rows of different classes.

    Raises UserError where these are objects with boxes.
    """
    labels: dict[str, set[str]] = {}
    for id, label in zip(profile.table.column(profile.id), column.values, strict=True):
        if label:
            labels.setdefault(id, set()).add(label)
    if sum(len(several) > 1 for several in labels.values()) <= 0.1 * len(labels):
        return False
    boxes = [name for name in profile.table.header if BOXES.search(name.lower())]
    if boxes:
        raise UserError(
            f"{profile.table.path}: several rows for an image, with '{boxes[0]}': boxes or masks of objects "
            f"(detection, segmentation), and this program trains classifiers of whole images\n"
            f"if the classes of an image are wanted all the same, pass --target several"
        )
    table_refusals.refuse_denials(profile, column.name)
    return True


def _each_once(table: Table, names: Sequence[str]) -> bool:
    columns = [table.column(name) for name in names]
    return all(sum(v[row].strip().lower() in YES for v in columns) == 1 for row in range(len(table.rows)))
