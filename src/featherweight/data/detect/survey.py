"""What a folder is: which source reads it, with which keys. It looks at names, tables and a few files.

Every way of reading is tried in a stated order, on evidence: a label table that names the images, one folder per class,
classes in file names, files of thousands of images. What stays unclear is refused with what was seen; what was chosen
among several is listed with the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from featherweight.data.csv_file import examples
from featherweight.data.detect import (
    array_files,
    by_folder,
    by_name,
    by_table,
    group_column,
    labelled,
    pixel_tables,
    refusals,
    table_refusals,
)
from featherweight.data.detect import sample_submission as samples
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import Scan, relative, scan
from featherweight.data.label_rows import FOLDER
from featherweight.errors import UserError


def survey(folder: Path, root: Path, hints: Hints | None = None) -> Detected:
    """Detect the layout of `folder`; paths are relative to `root`, the data folder, if they lie below it.

    Raises UserError saying what was seen where nothing fits, or where several things do.
    """
    hints = hints or Hints()
    seen = scan(folder, root)
    if hints.test is not None:
        hints = replace(hints, test=seen.below(hints.test))
    sample = samples.find(seen)
    table_refusals.refuse_masks(sample)
    if not hints.label:
        table_refusals.refuse_runs(seen, sample)
    samples.refuse_row_numbers(sample)
    detected = _images(seen, sample, hints) if seen.images else None
    if detected is None:
        readings = [reading(seen, hints) for reading in (array_files.idx, array_files.pickles, array_files.arrays)]
        candidates = [pixel_tables.find(seen, sample, hints), *readings]
        known = [reading for reading in candidates if reading is not None]
        if not known:
            refusals.refuse(seen, array_files.unreadable(seen.outer))
        detected = known[0]
        for other in known[1:]:
            detected.assumed.append(f"source: {detected.source['name']}; the folder holds {other.source['name']} too")
        detected.sample = sample
    detected.notes = [*seen.notes, *detected.notes]
    detected.assumed += samples.others(seen, detected.sample)
    return detected


def _images(seen: Scan, sample: SampleSubmission | None, hints: Hints) -> Detected | None:
    folders = by_folder.classes_of(seen)
    tables = labelled.profile_all(seen, sample, hints, folders)
    pattern = _pattern(tables, hints)
    if pattern is not None and (by_names := by_name.read(seen, hints, pattern)) is not None:
        by_names.sample = sample
        return by_names
    table = labelled.label_table(tables, sample, hints, folders)
    if table is not None and _covers(tables, table, folders):
        reading = by_table.TableDetector(tables, table, sample, hints)
        reading.detected.sample = sample
        detected = reading.read(folders)
    else:
        if table is None and hints.label:
            there = f"there are {examples(seen.tables, 4)}" if seen.tables else "there is no table"
            raise UserError(
                f"--label {hints.label}: no table with such a column names the images of {seen.outer}; {there}\n"
                f"a class in the names of the files is found by a pattern with parentheses, as --label '^(.+?)_'"
            )
        split = _official_split(tables, seen, folders)
        other = split or by_folder.read(seen, tables, sample, hints)
        if other is None:
            refusals.refuse_channels(seen)
            other = by_name.read(seen, hints)
            if other is not None:
                refusals.refuse_unread_labels(seen, tables.aside)
                refusals.refuse_boxes(seen)
                table_refusals.refuse_rows_of_no_image(tables)
                other.assumed[:0] = _unused(tables)
        if other is None:
            table_refusals.refuse_groups_alone(tables.profiles, hints)
            return None
        detected = other
        detected.assumed += _groups_in_tables(tables, hints)
        detected.sample = sample
        if table is None and tables.refusal is not None:
            reason = str(tables.refusal).splitlines()[0].removesuffix(":")
            detected.assumed.append(f"the classes are the folders ({reason}; pass --label COLUMN)")
        elif table is not None:
            named = f"{table.profile.name} has classes of {len(table.profile.reach):,} images"
            detected.assumed.append(f"the classes are the folders: {named}, and is not used (pass --label COLUMN)")
        detected.assumed += _strange(tables, folders)
    detected.notes += tables.aside[:3]
    return detected


def _pattern(tables: labelled.Survey, hints: Hints) -> str | None:
    """Return --label if no table has such a column, and it is a pattern of file names."""
    there = {name for one in (*(p.table for p in tables.profiles), *tables.others) for name in one.header}
    return None if not hints.label or there & {hints.label, *hints.labels} else by_name.pattern_in(hints.label)


def _unused(tables: labelled.Survey) -> list[str]:
    """Return a message about tables that seem to hold no classes of images, or nothing."""
    root = tables.scan.folder
    names = [one.name for one in tables.profiles]
    others = [one.path.relative_to(root).as_posix() for one in tables.others]
    names += [name for name in others if not name.lower().endswith((".txt", ".lst"))]
    if not names:
        return []
    return [
        f"the classes are in the names of the files: {examples(names, 3)} are not used, as no column names images "
        "and another their classes"
    ]


def _groups_in_tables(tables: labelled.Survey, hints: Hints) -> list[str]:
    """Return a message about a table that says which images belong together, where no table has the classes.

    Raises UserError if the user named its column.
    """
    for one in tables.profiles:
        table = one.table
        if hints.group is not None and hints.group in table.header and hints.group != one.id:
            raise UserError(
                f"--group {hints.group}: {table.path} has that column, and no column of classes, which the folders or "
                f"names of the images are\nadd them to it as a column, to be named with --label; or pass --group none, "
                f"and set groups: in the competition's file to a CSV of id ('{one.id}') and group ('{hints.group}')"
            )
        columns = [name for name in table.header if name != one.id and group_column.fits(name, table.column(name))]
        if hints.group is None and columns and one.role != "test":
            return [
                f"not used: {one.name}, whose '{columns[0]}' seems to say which images belong together (to use it: "
                f"groups in this file, a CSV of id and group)"
            ]
    return []


def _strange(tables: labelled.Survey, folders: dict[str, str]) -> list[str]:
    """Return a message about tables of more rows than there are class folders, whose rows name none of the images."""
    root, classes = tables.scan.folder, len(set(folders.values()))
    large = [one for one in tables.others if len(one.header) > 1 and len(one.rows) > classes > 0]
    names = [one.path.relative_to(root).as_posix() for one in large if not one.path.name.endswith((".txt", ".lst"))]
    return [f"not used, since its rows name none of the images: {examples(names, 3)}"] if names else []


def _covers(tables: labelled.Survey, table: labelled.Labelled, folders: dict[str, str]) -> bool:
    """True if the table names enough of the images in class folders, if there are any."""
    named = {tables.scan.images[place] for places in table.profile.reach.values() for place in places}
    return not folders or len(named & set(folders)) >= 0.5 * len(folders) or table.points >= 100


def _official_split(tables: labelled.Survey, seen: Scan, folders: dict[str, str]) -> Detected | None:
    """Return class folders with a list of files by number and a list of the numbers for training (CUB), or None."""
    for profile in tables.profiles:
        joined = by_table.split_of_lists(tables, profile) if folders else None
        if joined is None:
            continue
        join, held = joined
        top = sorted(
            {
                file[: -len(id)].rstrip("/")
                for id, places in profile.reach.items()
                for file in [seen.images[places[0]]]
                if file.endswith(id)
            }
        )
        if len(top) != 1:
            continue
        source: dict[str, Any] = {
            "name": "table",
            "labels": seen.path(profile.name),
            "header": profile.header,
            "id": profile.id,
        }
        source |= {"label": FOLDER, "images": [seen.path(top[0] or ".")], "split": "training", "valid_rows": held}
        source["join"] = {relative(Path(path), seen.root): header for path, header in join.items()}
        name = next(iter(join)).rpartition("/")[2]
        detected = Detected(source, notes=[f"{top[0]}/<class>/*: class folders; {profile.name} lists the images"])
        detected.notes.append(f"{name}: the images marked 0 are held out")
        detected.assumed.append(f"held out: the images marked 0 in {name} (source.valid_rows)")
        return detected
    return None
