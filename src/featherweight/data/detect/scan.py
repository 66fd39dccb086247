"""The files of a folder, listed once, with what is left out and why."""

from __future__ import annotations

import filecmp
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featherweight.data import tables
from featherweight.data.listing import files_below, is_hidden, is_image
from featherweight.data.masks import masks_among, told
from featherweight.errors import UserError

COMPARED = 20  # files of what looks like a copy


@dataclass
class Scan:
    """The files of a competition, as paths below `folder`, the innermost folder that holds them all."""

    outer: Path
    folder: Path
    root: Path
    files: list[str]
    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)  # folders that hold once more what lies beside them
    inner_copies: list[str] = field(default_factory=list)  # such folders further down, whose files are listed

    def path(self, name: str) -> str:
        """Return a file or folder below `folder` as a competition file writes it."""
        return relative(self.folder / name, self.root)

    def below(self, name: str) -> str:
        """Return a path that the user gives (./test, test/, in full) as one below `folder` if it lies there."""
        for path in (Path(name), self.folder / name):
            if path.is_absolute() and path.exists() and path.resolve().is_relative_to(self.folder.resolve()):
                return path.resolve().relative_to(self.folder.resolve()).as_posix()
        return name.removeprefix("./").rstrip("/")

    def without_copies(self) -> list[str]:
        """Return the images that do not lie in a folder of copies."""
        copies = tuple(f"{name}/" for name in self.inner_copies)
        return [name for name in self.images if not name.startswith(copies)] if copies else self.images

    def endings(self) -> Counter[str]:
        """Return how many files have each ending."""
        return Counter(os.path.splitext(name)[1].lower() or "no ending" for name in self.files)  # noqa: PTH122


def relative(path: Path, root: Path) -> str:
    """Return a path as written in a competition file: relative to the data folder if it lies there, else absolute."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def scan(outer: Path, root: Path) -> Scan:
    """List a folder. Raises UserError if it does not exist or a subfolder cannot be read."""
    if not outer.is_dir():
        raise UserError(f"there is no folder {outer}")
    folder = outer
    while (only := _only_folder(folder)) is not None:
        folder = only
    seen = Scan(outer, folder, root, files_below(folder))
    twice = _nested_copy(folder, seen.files)
    if twice:
        seen.files = [name for name in seen.files if not name.startswith(f"{twice}/")]
        seen.copies = [twice]
        seen.notes.append(f"{twice}/ holds the same files again: left out")
    seen.inner_copies = _inner_copies(seen)
    images = [name for name in seen.files if is_image(name.rpartition("/")[2])]
    masks = masks_among(images)
    if masks:
        seen.notes.append(f"set apart: {told(masks)}")
    dead = [name for name in images if not (folder / name).exists()]
    if dead:
        seen.notes.append(
            f"links to files that are not there ({len(dead):,}), as {dead[0]}, not counted as images: delete them "
            f"(find -L {shlex.quote(str(folder))} -type l -delete), or set image.unreadable: leave out"
        )
    left_out = {*masks, *dead}
    seen.images = [name for name in images if name not in left_out]
    seen.tables = [name for name in seen.files if name.lower().endswith(tables.ENDINGS)]
    return seen


def _only_folder(folder: Path) -> Path | None:
    inside = [path for path in folder.iterdir() if not is_hidden(path.name)]
    if len(inside) != 1 or not inside[0].is_dir():
        return None
    holds = [path for path in inside[0].iterdir() if not path.name.startswith(".")]
    return inside[0] if any(path.is_dir() for path in holds) or len(holds) > 1 else None


def _nested_copy(folder: Path, files: Sequence[str]) -> str | None:
    """Return a subfolder of `folder` that repeats those of its `files` that lie beside it, or None."""
    below: dict[str, list[str]] = defaultdict(list)
    for name in files:
        first, slash, rest = name.partition("/")
        if slash:
            below[first].append(rest)
    everything = set(files)
    for first, names in sorted(below.items()):
        others = len(everything) - len(names)
        if len(names) >= 10 and len(names) >= others / 2 and all(name in everything for name in names):
            some = sorted(names)[:: max(1, len(names) // COMPARED)]  # numbers name other images elsewhere
            if all(_same(folder / name, folder / first / name) for name in some):
                return first
    return None


def _inner_copies(scan: Scan) -> list[str]:
    """Return the folders called as the one around them that repeat what lies beside them (flowers/flowers)."""
    twice = {f"{above}/" for name in scan.files if (above := _called_alike(name))}
    copies = []
    for above in sorted(twice):
        files = [name[len(above) :] for name in scan.files if name.startswith(above)]
        if (copy := _nested_copy(scan.folder / above, files)) is not None:
            copies.append(above + copy)
    return copies


def _called_alike(file: str) -> str:
    """Return the first folder of a path that has a folder of the same name directly within; empty without one."""
    parts = file.split("/")[:-1]
    place = next((place for place in range(1, len(parts)) if parts[place] == parts[place - 1]), 0)
    return "/".join(parts[:place])


def _same(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
