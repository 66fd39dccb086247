"""Tables that are recognised and cannot be learned from as they are, with advice."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featherweight.data import csv_file
from featherweight.data.csv_file import Table, examples
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.sample_submission import MASKS, SampleSubmission
from featherweight.data.file_matching import bare
from featherweight.data.label_rows import NO, YES, is_signed
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.data.detect.detected import Hints
    from featherweight.data.detect.id_column import Profile
    from featherweight.data.detect.labelled import Labelled, Survey
    from featherweight.data.detect.scan import Scan

FIRST, ENOUGH = 200, 8  # rows that are looked at, and values of any column that show what it holds
RUN_HEADINGS = re.compile(r"encod|rle|mask|segment|pixels", re.IGNORECASE)


def refuse_masks(sample: SampleSubmission | None) -> None:
    """Refuse a competition whose sample submission asks for masks or boxes."""
    if sample is not None and any(MASKS.search(heading) for heading in sample.columns):
        raise UserError(
            f"{sample.path}: the column '{sample.columns[-1]}' asks for masks or boxes (segmentation, detection): this "
            f"program trains classifiers of whole images"
        )


def regression(table: Table, column: str) -> UserError:
    """Return the error for a column of measured numbers."""
    return UserError(
        f"{table.path}: '{column}' holds fractions: numbers to predict (regression), no classes\n"
        f"this program trains classifiers; one class per image would have to stand in a column of its own (--label)"
    )


def refuse_runs(scan: Scan, sample: SampleSubmission | None) -> None:
    """Refuse tables of masks as run lengths (`28094 3 28358 7`: start, length, ...), unless the sample has classes."""
    if sample is not None and any(value and not _runs(value) for value in sample.distinct):
        return
    for name in scan.tables:
        start = csv_file.beginning(scan.folder / name, FIRST) if name.lower().endswith((".csv", ".tsv")) else None
        for place, heading in enumerate(start.header if start else ()):
            values = [row[place].strip() for row in start.rows] if start else []
            given = [value for value in values if value]
            starts = [start for value in given for start in value.split()[::2]]
            enough = len(given) >= (1 if RUN_HEADINGS.search(heading) else ENOUGH)
            differ = len({*starts}) > max(len(starts) / 2, len(given))  # as places in images do, and no tags
            if enough and differ and all(map(_runs, given)):
                raise UserError(
                    f"{scan.folder / name}: '{heading}' holds masks as run lengths (segmentation), as "
                    f"'{given[0][:40]}': this program trains classifiers of whole images\nif another column has the "
                    f"classes: --label COLUMN"
                )


def _runs(text: str) -> bool:
    """True if a text is pairs of start and length, one run after the other."""
    fields = text.split()
    if not fields or len(fields) % 2 or not all(map(str.isdecimal, fields)):
        return False
    runs = [(int(start), int(length)) for start, length in zip(fields[::2], fields[1::2], strict=True)]
    return all(start + length <= later for (start, length), (later, _) in itertools.pairwise(runs))


def refuse_rows_of_no_image(survey: Survey) -> None:
    """Refuse a table with a row for most images of which no column names them: it may hold their classes."""
    for table in survey.others:
        if role(table.path.name) == "test" or table.path.suffix.lower() in (".txt", ".lst"):
            continue
        if 2 * len(table.rows) >= len(survey.scan.images) and len(table.header) > 1:
            raise UserError(
                f"{table.path}: {len(table.rows):,} rows beside {len(survey.scan.images):,} images, and no column names"
                f" the images, as {survey.scan.images[0]}: which row is of which image?\nadd a column with their names;"
                f" or move the table away, and the classes are taken from the names of the images"
            )


def refuse_components(table: Table, others: Sequence[Table]) -> None:
    """Refuse several targets: another table lists this table's columns as values."""
    for other in others:
        if other.path == table.path:
            continue
        for name in other.header:
            values = set(other.column(name)[:3000])
            if 2 <= len(values) <= 12 and values <= set(table.header):
                listed = ", ".join(sorted(values))
                raise UserError(
                    f"{table.path}: {len(values)} targets ({listed}), as '{name}' in {other.path.name} says\n"
                    f"one model has one target here: pass --label COLUMN for one of them, to train it alone"
                )


def refuse_one_list_per_class(profiles: Sequence[Profile]) -> None:
    """Refuse lists that each say for one class whether an image shows it (PASCAL VOC: 1, 0, -1)."""
    lists = [one for one in profiles if one.header and len(one.table.header) == 2]
    signed = [one for one in lists if {"-1"} < set(one.table.column(one.header[1])) <= {"-1", "0", "1"}]
    if len(signed) > 1:
        raise UserError(
            f"{signed[0].table.path}: {len(signed)} lists say of one class each which images show it (1) or not (-1)\n"
            f"an image may show several: join them to one table with a column for each class, of 1 and 0"
        )


def refuse_tables_of_one_class(survey: Survey) -> None:
    """Refuse tables that each list the images of one class, called as that class."""
    files = [{place for places in one.reach.values() for place in places} for one in survey.profiles]
    names = [one.name for one in survey.profiles]
    apart = len(set().union(*files)) == sum(map(len, files))
    known = any(one.role or _may_have_classes(one) for one in survey.profiles)
    if len(files) < 2 or known or not apart or sum(map(len, files)) < 0.9 * len(survey.index.files):
        return
    command = _joining(survey)
    how = f":\n{command}\nthen" if command else ", of image and label,"
    raise UserError(
        f"{survey.scan.folder}: {len(names)} tables that each list images, as of one class each: "
        f"{examples(names, 3)}; join them to one{how} move those tables away, and run init again"
    )


def _joining(survey: Survey) -> str | None:
    """Return the command that joins tables of one class each, if they are alike and line tools can read them."""
    forms = {
        (one.table.header.index(one.id) + 1, 1 if one.header else 2, one.name.rpartition(".")[2])
        for one in survey.profiles
    }
    classes = [bare(one.name) for one in survey.profiles]
    if len(forms) > 1 or not all(csv_file.is_plain(one.table.path) for one in survey.profiles):
        return None
    if any(mark in name for mark in ',"&\\' for name in classes):
        return None
    ((place, skip, ending),) = forms
    return (
        f"cd {shlex.quote(str(survey.scan.folder))} && (echo image,label; for c in {shlex.join(classes)}; do tail -n "
        f'+{skip} "$c.{ending}" | cut -d, -f{place} | tr -d "\\r" | sed "s/$/,${{c##*/}}/"; done) > all_labels.csv'
    )


def _may_have_classes(one: Profile) -> bool:
    """True if a column besides the ids has two or more values, as classes have them."""
    return any(
        1 < len(set(one.table.column(name))) < len(one.table.rows) for name in one.table.header if name != one.id
    )


def refuse_groups_alone(profiles: Sequence[Profile], hints: Hints) -> None:
    """Refuse tables that name the images and have the column of groups that the user named, and no other."""
    for one in profiles:
        if hints.group in one.table.header:
            raise UserError(
                f"{one.table.path}: no column can be the class besides '{one.id}' and '{hints.group}' (--group)\n"
                f"pass another --group, or add the classes to that table"
            )


def refuse_classes_of_groups(one: Labelled, others: Sequence[Table]) -> None:
    """Refuse a table that has a group of each image as its only class, where another table describes the groups."""
    name = one.column.name if one.column is not None else None
    for other in others:
        if name in other.header and len(other.header) > 1:
            table = one.profile.table.path
            raise UserError(
                f"{table}: its only column besides the images is '{name}', and {other.path.name} describes each "
                f"'{name}'\nadd the columns of {other.path.name} to {table.name} (pandas: merge on '{name}') and run "
                f"init again with --label COLUMN --group {name}; if '{name}' is the class: --label {name}"
            )


def refuse_contradictions(best: Labelled, rivals: Sequence[Labelled]) -> None:
    """Raise UserError if tables as good as the best one divide the same images into classes in different ways."""
    mine = _label_of(best)
    for rival in rivals:
        theirs = _label_of(rival)
        pairs = {(mine[id], theirs[id]) for id in mine if id in theirs}
        alike = len(pairs) == len(set(mine.values())) == len(set(theirs.values()))
        if theirs.keys() == mine.keys() and not alike:
            one, other = sorted((best.profile.name, rival.profile.name))
            raise UserError(
                f"{best.profile.table.path.parent}: {one} and {other} say different classes of the same images\n"
                f"{_choice([best, rival])}; where each table is about one class, join them to one table with a column "
                f"for each"
            )


def _choice(rivals: Sequence[Labelled]) -> str:
    """Return how to say which of several label tables counts: by the column, where they call it differently."""
    columns = {one.column.name: one.profile.name for one in rivals if one.column is not None}
    if len(columns) < len(rivals):
        return "move those away that are not to be predicted"
    ways = " or ".join(f"--label {shlex.quote(name)} ({table})" for name, table in sorted(columns.items()))
    return f"pass {ways} for the classes, and --group COLUMN for one that says which images belong together"


def _label_of(one: Labelled) -> dict[str, str]:
    if one.column is None:
        return {}
    return dict(zip(one.profile.table.column(one.profile.id), one.column.values, strict=True))


def refuse_denials(profile: Profile, label: str) -> None:
    """Refuse a row for each image and class where a column of 1 and 0 seems to say whether the image shows it."""
    table = profile.table
    ids = table.column(profile.id)
    for name in table.header:
        values = [value.strip().lower() for value in table.column(name)]
        if name in (profile.id, label) or not {*values} <= {*YES, *NO} - {""} or len({*values}) != 2:
            continue
        kinds = set(zip(ids, values, strict=True))
        if len(kinds) - len({*ids}) > 0.1 * len({*ids}):
            raise UserError(
                f"{table.path}: a row for each image and '{label}', and '{name}' is {' or '.join(sorted({*values}))}: "
                f"does it say whether the image shows that class?\nthen keep the rows that say yes alone; if it says "
                f"something else, pass --target several"
            )


def refuse_uncertain(table: Table) -> None:
    """Refuse several columns of 1, 0 and -1, where -1 says that nobody knows."""
    signed = [
        name
        for name in table.header
        if {"-1"} < {v.strip().removesuffix(".0") for v in table.column(name)} - {""} <= {"-1", "0", "1"}
    ]
    if len(signed) > 1 and not all(is_signed(table.column(name)) for name in signed):
        raise UserError(
            f"{table.path}: {len(signed)} columns hold 1, 0 and -1 ({examples(signed, 3)}): a class each, and -1 where "
            f"it is uncertain\nwrite 1 or 0 for every -1, then pass --label '{signed[0]},{signed[1]},...' with the "
            f"columns to predict"
        )
