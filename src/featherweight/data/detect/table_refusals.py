"""Tables that are recognised and cannot be learned from as they are, with advice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featherweight.data import csv_file
from featherweight.data.csv_file import Table, examples
from featherweight.data.detect.sample_submission import MASKS, SampleSubmission
from featherweight.data.file_matching import bare
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.data.detect.detected import Hints
    from featherweight.data.detect.id_column import Profile
    from featherweight.data.detect.labelled import Labelled, Survey


def refuse_masks(sample: SampleSubmission | None) -> None:
    """Refuse a competition whose sample submission asks for masks or boxes."""
    if sample is not None and any(MASKS.search(heading) for heading in sample.columns):
        raise UserError(
            f"{sample.path}: the column '{sample.columns[-1]}' asks for masks or boxes (segmentation, detection): this "
            f"program trains classifiers of whole images"
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


def refuse_uncertain(table: Table) -> None:
    """Refuse several columns of 1, 0 and -1, where -1 says that nobody knows."""
    signed = [
        name
        for name in table.header
        if {"-1"} < {v.strip().removesuffix(".0") for v in table.column(name)} - {""} <= {"-1", "0", "1"}
    ]
    if len(signed) > 1:
        raise UserError(
            f"{table.path}: {len(signed)} columns hold 1, 0 and -1 ({examples(signed, 3)}): a class each, and -1 where "
            f"it is uncertain\nwrite 1 or 0 for every -1, then pass --label '{signed[0]},{signed[1]},...' with the "
            f"columns to predict"
        )
