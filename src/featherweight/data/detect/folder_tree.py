"""Folders of images as a tree: which folders are classes, and which hold the same classes in several forms."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from featherweight.data.csv_file import examples
from featherweight.data.detect.folder_roles import role
from featherweight.data.sources.folders import are_few
from featherweight.errors import UserError

# What the same pictures are called in several forms, the plainest first.
FORMS = re.compile(
    r"(?P<plain>originals?|raw|colou?r|rgb|images?|imgs?|photos?|full)|gr[ae]y([ _-]?scale)?|segment(ed|ation)s?|"
    r"masks?|masked|edges?|crop(ped)?|resized?|thumb(nail)?s?|augment(ed|ation)?|enhanced|processed|pre-?processed|normali[sz]ed|"
    r"clahe|binary|binari[sz]ed|black[ _-]?white|bw|contours?|heatmaps?|depth|infrared|nir|small|large|\d+x\d+",
)
PIECES = re.compile(r"(part|batch|fold|chunk|images?|imgs?|train|shard|set|zip|data)[ _-]*\d+$")
DAYS = r"(19|20)\d\d([ _.-]?\d\d){0,2}"
NUMBERED = re.compile(r"(patient|subject|case|person|study|series|participant|session|day|part|batch|p|s|id)[ _-]*\d+")
WITHIN = re.compile(  # what folders within a class are called
    rf"{FORMS.pattern}|{PIECES.pattern}|{NUMBERED.pattern}|\d+x|{DAYS}|left|right|front|back|side|top|bottom|indoors?|"
    r"outdoors?|day|night|male|female|young|old"
)
TAKES = re.compile(rf"(?:.*[ _-])?{PIECES.pattern}|{NUMBERED.pattern}|{DAYS}")  # of pictures, each with all classes
PEOPLE = re.compile(rf"{NUMBERED.pattern}|\d+")
DATA = {"image", "images", "img", "imgs", "data", "dataset", "datasets", "annotation", "annotations", "files", "master"}
WHICH_DATA = {"extra", "additional", "external", "preprocessed", "processed", "resized", "cropped", "raw", "original"}
MOST_NAMED = 20  # folders in a command
AFFIX = re.compile(
    r"^(with|images?|imgs?|data)[ _-]+|[ _-]+(images?|imgs?|data|data[ _-]?set|leaf|leaves|form|version)$"
)


def _regrouping(folders: Sequence[str], parts: Sequence[str]) -> str:
    """Return the command that makes parts of classes of classes of parts; nothing where it is long or would fail."""
    names = [last(folder) for folder in folders]
    if len(names) > MOST_NAMED or not {*names}.isdisjoint(parts) or len({*names}) < len(names):
        return ""
    listed = shlex.join(parts)
    return (
        f"; in the folder that holds the class folders:\nmkdir {listed} && for c in {shlex.join(names)}; do "
        f'for p in {listed}; do mv "$c/$p" "$p/$c"; done; done'
    )


class Tree:
    """Folders and the images below them, by path."""

    def __init__(self, files: Sequence[str]) -> None:
        self.count: Counter[str] = Counter()
        self.direct: dict[str, list[str]] = defaultdict(list)
        self.inner: dict[str, set[str]] = defaultdict(set)
        self.beside: list[str] = []  # folders without class folders beside the one that has them
        self.aside: dict[str, list[str]] = {}  # the folders that hold the classes of another in other forms
        for file in files:
            parts = file.split("/")[:-1]
            self.direct["/".join(parts)].append(file)
            for depth in range(len(parts) + 1):
                here = "/".join(parts[:depth])
                self.count[here] += 1
                if depth < len(parts):
                    self.inner[here].add("/".join(parts[: depth + 1]))

    def children(self, folder: str) -> list[str]:
        """Return the direct subfolders that hold images."""
        return sorted(self.inner.get(folder, ()))

    def flat(self, folder: str) -> bool:
        """True if images lie in the folder itself, not counting a few beside many in subfolders."""
        loose = len(self.direct.get(folder, ()))
        return loose > 0 and not (len(self.inner.get(folder, ())) > 1 and are_few(loose, self.count[folder]))

    def loose(self, folder: str) -> list[str]:
        """Return the few images that lie beside subfolders of many."""
        return [] if self.flat(folder) else self.direct.get(folder, [])

    def class_root(self, folder: str) -> str | None:
        """Return the folder at or below `folder` whose subfolders hold the images, or None if images lie there
        directly.
        """
        while not self.flat(folder):
            inner = self.children(folder)
            form = self.form(inner)
            if form is None and len(inner) > 1:
                return folder
            if not inner:
                return None
            folder = form or inner[0]
        return None

    def names(self, folder: str) -> set[str]:
        """Return the names of the direct subfolders."""
        return {last(name) for name in self.children(folder)}

    def branching(self, folder: str) -> str:
        """Return the first folder at or below one that holds images or several subfolders."""
        while not self.flat(folder) and len(inner := self.children(folder)) == 1:
            folder = inner[0]
        return folder

    def alike(self, folders: Sequence[str]) -> tuple[list[str], set[str]]:
        """Return the folders that hold mostly the same subfolder names, if at least half do, and the shared names."""
        held = {folder: self.names(self.branching(folder)) for folder in folders}
        parted = [folder for folder in folders if len(held[folder]) > 1]
        shared = set.intersection(*(held[folder] for folder in parted)) if parted else set()
        every = {name for folder in parted for name in held[folder]}
        same = len(parted) >= max(2, len(folders) / 2) and len(shared) >= 2 and 2 * len(shared) >= len(every)
        return (parted, shared) if same else ([], set())

    def takes(self, folders: Sequence[str]) -> bool:
        """True if the folders are parts or days of the pictures by their names, and each holds the same classes."""
        parted, shared = self.alike(folders)
        called = all(TAKES.fullmatch(last(folder).lower()) for folder in folders)
        return called and parted == [*folders] and not all(WITHIN.fullmatch(name.lower()) for name in shared)

    def around(self, folders: Sequence[str]) -> list[str]:
        """Return the folders whose subfolders are named like all other folders: the same classes again, not a class."""
        names = {folder: self.names(self.branching(folder)) for folder in folders}
        every = {last(folder) for folder in folders}
        return [folder for folder in folders if len(every) > 2 and every - {last(folder)} <= names[folder]]

    def form(self, folders: Sequence[str]) -> str | None:
        """Return the folder to use if several hold the same classes in different forms (colour, grey), else None.

        Raises UserError where folders hold the same classes and nothing says how they differ, or the same parts.
        """
        parted, shared = self.alike(folders)
        if not shared or self.takes(folders) or all(PIECES.search(last(folder).lower()) for folder in folders):
            return None
        listed, held = examples([f"{folder}/" for folder in parted]), examples(sorted(shared))
        if {"train", "test"} <= {role(name) for name in shared} or {"train", "valid"} <= {
            role(name) for name in shared
        }:
            direct = all(self.branching(one) == one for one in parted)
            command = _regrouping(parted, sorted(shared)) if direct else ""
            raise UserError(
                f"each of {listed} holds the parts {held}: parts within classes are not read here\n"
                f"put the images into train/<class>/ and test/<class>/{command}"
            )
        if len(parted) < len(folders) and len(shared) <= len(parted):
            return None
        matches = [FORMS.fullmatch(AFFIX.sub("", last(folder).lower())) for folder in folders]
        plain = [folder for folder, match in zip(folders, matches, strict=True) if match and match["plain"]]
        if sum(match is not None for match in matches) >= len(folders) - 1 and len(plain) <= 1:
            others = [folder for folder, match in zip(folders, matches, strict=True) if match is None]
            chosen = next(iter([*plain, *others, *folders]))
            self.aside[chosen] = [folder for folder in folders if folder != chosen]
            return chosen
        if len(shared) > len(parted) and not any(role(name) or WITHIN.fullmatch(name.lower()) for name in shared):
            raise UserError(
                f"each of {listed} holds the same {len(shared)} folders ({held}), so these are the classes, and those "
                f"are not\nwhere they are forms of the same images, run init on one of them; else put the images of a "
                f"class into one folder"
            )
        return None

    def innermost(self, folder: str, classes: Collection[str] = ()) -> str:
        """Return the folder that directly holds the images: this one, or its only subfolder that is not a class."""
        while not self.flat(folder):
            inner = self.children(folder)
            within = self.form(inner) or (inner[0] if len(inner) == 1 else None)
            if within is None or last(within) in classes:
                break
            folder = within
        return folder

    def people(self, folders: Sequence[str]) -> bool:
        """True if there is a folder per person or number, each with the same few classes."""
        named = sum(bool(PEOPLE.fullmatch(last(folder).lower())) for folder in folders)
        if len(folders) < 5 or named < 0.9 * len(folders) or any(self.flat(folder) for folder in folders):
            return False
        within = Counter(name for folder in folders for name in self.names(folder))
        strange = any(
            role(name) or FORMS.fullmatch(name.lower()) or NUMBERED.fullmatch(name.lower()) for name in within
        )
        often = all(count >= len(folders) / 4 for count in within.values())
        return 2 <= len(within) <= len(folders) / 2 and often and not strange


def last(name: str) -> str:
    """Return a folder's own name."""
    return name.rpartition("/")[2]


def hold_data(folders: Sequence[str]) -> bool:
    """True if at least half of the folders have names of data folders (extra_images) rather than of classes."""
    named = [re.findall(r"[^\W\d_]+", last(folder).lower()) for folder in folders]
    called = [words for words in named if set(words) & DATA and set(words) <= DATA | WHICH_DATA]
    return 2 * len(called) >= len(folders)


def between(folder: str, level: str) -> list[str]:
    """Return the folders between a folder and the one that holds the parts."""
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(level.split("/")) if level else 1, len(parts))]


def related(name: str, others: Iterable[str | None]) -> bool:
    """True if a folder is one of the others, inside one, or contains one."""
    here = f"{name}/"
    return any(f"{other}/".startswith(here) or here.startswith(f"{other}/") for other in others if other is not None)


def path_below(name: str, level: str) -> str:
    """Return a folder's path below `level`; a dot for `level` itself."""
    return name[len(level) :].lstrip("/") or "."
