"""Advice on tables that have classes too, and are not the label table: how to use their rows or their columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from featherweight.data import csv_file
from featherweight.data.csv_file import examples
from featherweight.data.detect.id_column import Profile

SHARED = 0.1  # of the smaller table's images that are in both: fewer, and the tables are parts of one


def advice(unused: Sequence[Profile], used: Profile, folder: Path) -> list[str]:
    """Return a message about the unused tables of each kind: parts of the label table `used`, and other tables.

    `folder` holds them all.
    """
    known = set(used.table.header)
    parts, others = ([one for one in unused if _is_part(one, used) == part] for part in (True, False))
    messages = []
    if parts:
        messages.append(
            f"{_listed(parts)}: rows of other images; to train on them too, {_join([used, *parts], folder)}"
        )
    if others:
        columns = list(dict.fromkeys(name for one in others for name in one.table.header if name not in known))
        ways = f"move {used.name} away and run init again"
        if columns:
            ways = f"pass --label COLUMN, or --group COLUMN where it says groups of images: {examples(columns, 4)}"
        messages.append(f"{_listed(others)}: to use one instead, {ways}")
    return messages


def unclear(one: Profile) -> str:
    """Return a message about a table that is not used, and has columns that may be classes."""
    columns = [name for name in one.table.header if name != one.id]
    return f"not used: {one.name}; for classes from there pass --label COLUMN, or several: {examples(columns, 4)}"


def of_one_class(one: Profile, label: str) -> str:
    """Return a message about a table that is not used, and has one class in all rows, as sample submissions have."""
    shown = f"{one.name} has '{one.table.column(label)[0]}' in all {one.rows:,} rows, of other images"
    return f"not used: {shown}; if it is the sample submission, call it sample_submission.csv and run init again"


def _listed(tables: Sequence[Profile]) -> str:
    shown = examples([f"{one.name} ({one.rows:,} rows)" for one in tables], 3)
    return f"not used, though they have classes of images: {shown}"


def _is_part(one: Profile, other: Profile) -> bool:
    """True if two tables have the same columns and other images."""
    ours, theirs = ({place for places in p.reach.values() for place in places} for p in (one, other))
    alike = one.table.header == other.table.header and one.header == other.header
    return alike and len(ours & theirs) <= SHARED * min(len(ours), len(theirs))


def _join(tables: Sequence[Profile], folder: Path) -> str:
    """Return what joins the rows of tables: a command where line tools can read them."""
    then = "move the parts away, delete this file and run init again"
    places: dict[str, list[int]] = {}
    if any(places.setdefault(id, found) != found for one in tables for id, found in one.reach.items()):
        return f"write all rows into one table, with the folder before the name of each image, {then}"
    if tables[0].header or not all(csv_file.is_plain(one.table.path) for one in tables):
        return f"write all rows into one table, {then}"
    names = shlex.join(f"./{one.name}" for one in tables)  # awk takes a=b.csv for an assignment
    return f"{then} after:\n  cd {shlex.quote(str(folder))} && awk 'FNR > 1 || NR == 1' {names} > all_labels.csv"
