"""Match ids in tables to files, in all the ways in which tables name files."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

File = tuple[str, str]  # an image folder as in the competition file, and a path below it

HIDDEN = (".DS_Store", "Thumbs.db", "desktop.ini")  # what tables made by listing a folder hold besides images


def bare(name: str) -> str:
    """Return a name or path without its ending; a dot in a folder's name is no ending."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and "/" not in ending else name


def without_folder(name: str) -> str:
    """Return the last part of a path."""
    return name.rpartition("/")[2]


def _letters(name: str) -> str:
    """Return a file's name without what some systems do not tell apart: capital letters, ways to store an accent."""
    return unicodedata.normalize("NFC", bare(without_folder(_tidy(name)))).casefold()


def _tidy(id: str) -> str:
    return id.replace("\\", "/").removeprefix("./").lstrip("/")


def _number(name: str) -> str:
    """Return a number without leading zeros; any other name unchanged."""
    return str(int(name)) if name.isascii() and name.isdecimal() else name


# How an id may name a file: what is done to the id, and to the file (its folder as the competition says it, its path
# below that). The first way that fits most ids is taken.
WAYS: tuple[tuple[Callable[[str], str], Callable[[str, str], str]], ...] = (
    (str, lambda folder, file: file),
    (str, lambda folder, file: bare(file)),
    (str, lambda folder, file: without_folder(file)),
    (str, lambda folder, file: bare(without_folder(file))),
    (_tidy, lambda folder, file: f"{folder}/{file}"),
    (_tidy, lambda folder, file: f"{without_folder(folder)}/{file}"),
    (_tidy, lambda folder, file: f"{without_folder(folder)}/{bare(file)}"),
    (lambda id: "/".join(_tidy(id).split("/")[-2:]), lambda folder, file: "/".join(f"{folder}/{file}".split("/")[-2:])),
    (lambda id: bare(without_folder(_tidy(id))), lambda folder, file: bare(without_folder(file))),
    (lambda id: _number(bare(without_folder(id))), lambda folder, file: _number(bare(without_folder(file)))),
    (_letters, lambda folder, file: _letters(file)),
)


BY_FOLDER = 7  # number of the ways that compare folders or whole ids; the others compare the end of a path
MOST_FOLDERS = 12  # above the images, cut off an id or a file's path


class Index:
    """Files by every way of naming them; each way is computed when first used."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files
        self._names: dict[int, dict[str, list[int]]] = {}
        self._cut: dict[tuple[int, bool], dict[str, list[int]]] = {}

    def ways(self, ids: Sequence[str]) -> Iterator[dict[str, list[int]]]:
        """Yield for each way in turn the places of the files that each id may mean.

        Ids with folders are compared with their folders first. If that matches half of them, the rest are not matched
        by file name alone: a file of that name may belong to another part of the data and have another class.
        """
        wanted = set(ids)
        for way in range(BY_FOLDER):
            yield self._by_way(way, wanted)
        found = 0
        for places in (*self._by_paths(wanted), *self._by_ends(wanted)):
            yield places
            found = max(found, len(places))
        if not found or found < len(wanted) / 2:
            for way in range(BY_FOLDER, len(WAYS)):
                yield self._by_way(way, wanted)

    def _by_way(self, way: int, ids: Collection[str]) -> dict[str, list[int]]:
        names, of_id = self._way(way), WAYS[way][0]
        return {id: names[key] for id in ids if (key := of_id(id)) in names}

    def _by_paths(self, ids: Collection[str]) -> Iterator[dict[str, list[int]]]:
        """Match ids that are paths relative to another folder, by cutting leading folders off ids and files.

        The same number of folders is cut off all ids, and off all files: `/content/data/val/0.jpg` never matches
        `train/0.jpg`.
        """
        parts = {id: _tidy(id).split("/") for id in ids}
        if all(len(part) == 1 for part in parts.values()):
            return
        for cut in range(shared_folders([_path(file) for file in self.files]) + 1):
            for off in range(shared_folders(list(parts.values())) + 1):
                keys = {id: "/".join(part[off:]) for id, part in parts.items()}
                for plain in (False, True):
                    names = self._below(cut, plain)
                    spelled = {id: bare(key) if plain else key for id, key in keys.items()}
                    yield {id: names[key] for id, key in spelled.items() if key in names}

    def _by_ends(self, ids: Collection[str]) -> Iterator[dict[str, list[int]]]:
        """Match ids with folders that are the end of a path, however many folders are above: `00/7` is `img/00/7.png`.

        Nothing is cut off an id, so files of other folders never match.
        """
        parts = {id: _tidy(id).split("/") for id in ids}
        depths = {len(part) for part in parts.values() if 1 < len(part) <= MOST_FOLDERS}
        for plain in (False, True) if depths else ():
            names: dict[str, list[int]] = defaultdict(list)
            for place, file in enumerate(self.files):
                path = _path(file)
                for end in {"/".join(path[-depth:]) for depth in depths}:
                    names[bare(end) if plain else end].append(place)
            spelled = {id: "/".join(part) for id, part in parts.items() if len(part) > 1}
            keys = {id: bare(name) if plain and name not in names else name for id, name in spelled.items()}
            yield {id: names[key] for id, key in keys.items() if key in names}

    def _below(self, cut: int, plain: bool) -> dict[str, list[int]]:
        """Return the files by path without the first `cut` folders and, if `plain`, without endings."""
        if (cut, plain) not in self._cut:
            names: dict[str, list[int]] = defaultdict(list)
            for place, file in enumerate(self.files):
                path = "/".join(_path(file)[cut:])
                names[bare(path) if plain else path].append(place)
            self._cut[cut, plain] = dict(names)
        return self._cut[cut, plain]

    def reach(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the places of the files that each id may mean, by the way that matches most ids."""
        best: dict[str, list[int]] = {}
        wanted = len(set(ids))
        for places in self.ways(ids):
            if len(places) > len(best):
                best = places
            if len(best) == wanted:
                break
        return best

    def _way(self, way: int) -> dict[str, list[int]]:
        if way not in self._names:
            names: dict[str, list[int]] = defaultdict(list)
            for place, (folder, file) in enumerate(self.files):
                names[WAYS[way][1](folder, file)].append(place)
            self._names[way] = dict(names)
        return self._names[way]


def _path(file: File) -> list[str]:
    return "/".join(part for part in file if part not in ("", ".")).split("/")


def shared_folders(paths: Sequence[list[str]]) -> int:
    """Return the number of leading folders that all paths share."""
    first, last = min(paths, default=[""]), max(paths, default=[""])
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, MOST_FOLDERS, *(len(path) - 1 for path in paths))


def match(ids: Sequence[str], files: Sequence[File]) -> tuple[dict[str, int], set[str]]:
    """Return each id's place in `files`, by the way that matches most ids, and the ids that match several files."""
    best: dict[str, int] = {}
    several: set[str] = set()
    wanted = len(set(ids))
    for places in Index(files).ways(ids):
        hits = {id: there[0] for id, there in places.items() if len(there) == 1}
        if len(hits) > len(best) or not (best or several):
            best, several = hits, {id for id, there in places.items() if len(there) > 1}
        if len(best) == wanted:
            break
    return best, several


def is_rubbish(id: str) -> bool:
    """True if the id names a file that an operating system left behind."""
    return os.path.basename(id) in HIDDEN or os.path.basename(id).startswith("._")  # noqa: PTH119
