"""Tables with a row for each folder of images (a study, a patient), read as tables with a row for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from featherweight.data.csv_file import Table
from featherweight.data.file_matching import File, shared_folders

FOLDER = "folder of images"  # the column that is added
MOST = 0.9  # of a column's values that must name folders


def names_folders(values: Sequence[str], files: Sequence[File]) -> set[str]:
    """Return the folders of images that most of these values name; empty if they do not."""
    found = _matched(values, _below(files))
    return set(found.values()) if found and len(found) >= MOST * len(set(values)) else set()


def of_images(table: Table, column: str, files: Sequence[File]) -> Table:
    """Return the table with a row for each image below the folder that `column` names, and a column with that folder.

    In these rows `column` holds the image's path. Rows that name no folder stay as they are.
    """
    below, place = _below(files), table.header.index(column)
    folder_of = _matched(table.column(column), below)
    rows, numbers = [], []
    for number, row in zip(table.numbers, table.rows, strict=True):
        folder = folder_of.get(row[place], "")
        for name in below.get(folder, [row[place]]):
            rows.append([*row[:place], name, *row[place + 1 :], folder])
            numbers.append(number)
    return Table(table.path, [*table.header, FOLDER], rows, numbers)


def _below(files: Sequence[File]) -> dict[str, list[str]]:
    """Return the paths of the images below each folder."""
    below: dict[str, list[str]] = defaultdict(list)
    for folder, file in files:
        path = f"{folder}/{file}" if folder else file
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            below["/".join(parts[:depth])].append(path)
    return below


def _matched(values: Sequence[str], below: dict[str, list[str]]) -> dict[str, str]:
    """Return the folder that each value names: the one folder whose path ends so.

    The same number of leading folders is cut off all values, so that a path into another part of the data names none.
    """
    ending: dict[str, list[str]] = defaultdict(list)
    for folder in below:
        parts = folder.split("/")
        for depth in range(len(parts)):
            ending["/".join(parts[depth:])].append(folder)
    parts_of = {value: value.replace("\\", "/").strip("/").split("/") for value in values if value.strip()}
    best: dict[str, str] = {}
    for cut in range(shared_folders(list(parts_of.values())) + 1):
        keys = {value: "/".join(parts[cut:]) for value, parts in parts_of.items()}
        found = {value: ending[key][0] for value, key in keys.items() if len(ending.get(key, ())) == 1}
        best = found if len(found) > len(best) else best
    return best
