"""Tables with a row for each folder of images (a study, a patient), read as tables with a row for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from featherweight.data.csv_file import Table
from featherweight.data.file_matching import File, shared_folders

FOLDER = "folder of images"  # the column that is added
ALONE = "none"  # in place of a column of groups: the images of a folder do not belong together
MOST = 0.9  # of a column's values that must name folders


class FolderIndex:
    """The folders of images, by every ending of their paths; they are listed once, when they are first asked for."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files

    def named_by(self, values: Sequence[str]) -> set[str]:
        """Return the folders of images that most of these values name; empty if they do not."""
        found = self._matched(values)
        return set(found.values()) if found and len(found) >= MOST * len(set(values)) else set()

    def rows_of_images(self, table: Table, column: str) -> Table:
        """Return the table with a row for each image below the folder that `column` names, and a column with that
        folder.

        In these rows `column` holds the image's path. Rows that name no folder stay as they are.
        """
        place, folder_of = table.header.index(column), self._matched(table.column(column))
        rows, numbers = [], []
        for number, row in zip(table.numbers, table.rows, strict=True):
            folder = folder_of.get(row[place], "")
            for name in self._below.get(folder, [row[place]]):
                rows.append([*row[:place], name, *row[place + 1 :], folder])
                numbers.append(number)
        return Table(table.path, [*table.header, FOLDER], rows, numbers)

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        """The paths of the images below each folder."""
        below: dict[str, list[str]] = defaultdict(list)
        for folder, file in self._files:
            path = f"{folder}/{file}" if folder else file
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                below["/".join(parts[:depth])].append(path)
        return below

    @cached_property
    def _ending(self) -> dict[str, list[str]]:
        """The folders whose paths end so."""
        ending: dict[str, list[str]] = defaultdict(list)
        for folder in self._below:
            parts = folder.split("/")
            for depth in range(len(parts)):
                ending["/".join(parts[depth:])].append(folder)
        return ending

    def _matched(self, values: Sequence[str]) -> dict[str, str]:
        """Return the folder that each value names: the one folder whose path ends so.

        The same number of leading folders is cut off all values, so that a path into another part of the data names
        none.
        """
        parts_of = {value: value.replace("\\", "/").strip("/").split("/") for value in values if value.strip()}
        best: dict[str, str] = {}
        for cut in range(shared_folders(list(parts_of.values())) + 1):
            keys = {value: "/".join(parts[cut:]) for value, parts in parts_of.items()}
            named = {value: self._ending.get(key, []) for value, key in keys.items()}
            found = {value: folders[0] for value, folders in named.items() if len(folders) == 1}
            best = found if len(found) > len(best) else best
        return best
