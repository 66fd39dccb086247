"""The reading of class folders: which folder is for training, which is held out, which is to be predicted."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from featherweight.data.csv_file import examples
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.labelled import Survey
from featherweight.data.detect.sample import Sample
from featherweight.data.detect.scan import Scan
from featherweight.errors import UserError

PIECES = re.compile(r"(part|batch|fold|chunk|images?|imgs?|train|shard|set|zip|data)[ _-]*\d+$")


class Tree:
    """Folders with the images below them, by their paths."""

    def __init__(self, files: Sequence[str]) -> None:
        self.count: Counter[str] = Counter()
        self.direct: Counter[str] = Counter()
        self.inner: dict[str, set[str]] = defaultdict(set)
        for file in files:
            parts = file.split("/")[:-1]
            self.direct["/".join(parts)] += 1
            for depth in range(len(parts) + 1):
                here = "/".join(parts[:depth])
                self.count[here] += 1
                if depth < len(parts):
                    self.inner[here].add("/".join(parts[: depth + 1]))

    def children(self, folder: str) -> list[str]:
        """The folders right below one that hold images."""
        return sorted(self.inner[folder])

    def class_root(self, folder: str) -> str | None:
        """The folder under (or at) `folder` whose two or more folders hold the images, and which holds none itself."""
        while not self.direct[folder]:
            inner = self.children(folder)
            if len(inner) > 1:
                return folder
            if not inner:
                return None
            folder = inner[0]
        return None

    def names(self, folder: str) -> set[str]:
        """The names of the folders right below one."""
        return {_last(name) for name in self.children(folder)}


def classes_of(scan: Scan) -> dict[str, str]:
    """Each training image's class as the folder says it that the image lies in; empty where folders are no classes."""
    roots = _roots(Tree(scan.images))
    if roots is None:
        return {}
    level, trains, _ = roots
    others = () if trains != [level] else tuple(f"{name}/" for name in _parts(Tree(scan.images), level))
    classes: dict[str, str] = {}
    for train in trains:
        start = f"{train}/" if train else ""
        for file in scan.images:
            if file.startswith(start) and not (others and file.startswith(others)) and "/" in file[len(start) :]:
                classes[file] = file[len(start) :].split("/")[0]
    return classes


def read(scan: Scan, survey: Survey, sample: Sample | None, hints: Hints) -> Detected | None:
    """The source `folders`, if that is how the images lie. Raises UserError for a test folder that is not there."""
    tree = Tree(scan.images)
    roots = _roots(tree)
    if roots is None:
        return None
    level, trains, notes = roots
    classes = {name for train in trains for name in tree.names(train)}
    if trains == [level]:
        classes -= {_last(name) for name in _parts(tree, level)}
    below = [_below(train, level) for train in trains]
    detected = Detected({"name": "folders", "path": scan.path(level) if level else scan.path("."), "train": below[0]})
    if len(below) > 1:
        detected.source["train"] = below
    detected.notes += [f"{_below(train, level)}/<class>/*: {len(classes):,} class folders" for train in trains] + notes
    if hints.rename:
        detected.source["rename"] = {
            name: hints.rename.get(name, hints.rename.get("*", name)) for name in sorted(classes)
        }
    parts = [name for name in _parts(tree, level) if not any(t == name or t.startswith(f"{name}/") for t in trains)]
    valid = _valid(tree, parts, classes)
    test, solved = _test(tree, parts, classes, level, hints)
    if solved and valid is None and test != solved:
        valid, solved = solved, None
    if valid is not None:
        detected.source["valid"] = _below(valid, level)
        if tree.class_root(valid) is None:
            _list_of_valid(detected, survey, scan, valid, classes)
        else:
            detected.notes.append(f"{_below(valid, level)}/<class>/*: held out as it is, to be scored")
            detected.assumed.append(f"held out: {_below(valid, level)} ({tree.count[valid]:,} images; source.valid)")
    if test is not None:
        detected.source["test"] = _below(test, level)
        seen = "<class>/*: its labels are seen by the scorer alone" if tree.names(test) & classes else "*: to predict"
        detected.notes.append(f"{_below(test, level)}/{seen}")
    elif below == ["."]:
        detected.source["test"] = "test"
    left = [name for name in parts if name not in (valid, test) and not _within(name, (valid, test))]
    for name in left:
        detected.notes.append(
            f"left aside: {tree.count[name]:,} images in {_below(name, level)}/ (--test if to predict)"
        )
    _lists(detected, survey, scan, trains, level)
    return detected


def _roots(tree: Tree) -> tuple[str, list[str], list[str]] | None:
    """The folder that holds the parts, and the folders in it that hold class folders of training images."""
    level = ""
    while True:
        inner = tree.children(level)
        if tree.direct[level] or not inner:
            return None
        named = [name for name in inner if role(_last(name)) == "train"]
        trains = [root for name in named if (root := tree.class_root(name)) is not None]
        if trains:
            shared = [root for root in trains if tree.names(root) & tree.names(trains[0])]
            notes = [f"{root}/ has other class folders: left aside" for root in trains if root not in shared]
            return level, shared, notes
        if named:
            return None
        parts = _parts(tree, level)
        rest = [name for name in inner if name not in parts]
        if len(rest) > 1:
            return None if all(PIECES.search(_last(name).lower()) for name in rest) else (level, [level], [])
        if len(rest) != 1 or (parts and tree.class_root(rest[0]) is None):
            return None
        if parts:
            root = tree.class_root(rest[0])
            return (level, [root], []) if root is not None else None
        level = rest[0]


def _parts(tree: Tree, level: str) -> list[str]:
    """The folders beside class folders that are parts of the data by their names."""
    inner = tree.children(level)
    named = [name for name in inner if role(_last(name)) in ("test", "valid")]
    return (
        named
        if role_of_level(tree, level)
        else [name for name in named if role(_last(name)) == "test" or len(named) < len(inner)]
    )


def role_of_level(tree: Tree, level: str) -> bool:
    """Is there a folder named train here?"""
    return any(role(_last(name)) == "train" for name in tree.children(level))


def _valid(tree: Tree, parts: Iterable[str], classes: set[str]) -> str | None:
    for name in parts:
        if role(_last(name)) == "valid":
            root = tree.class_root(name)
            if root is not None and tree.names(root) <= classes:
                return root
            return _innermost(tree, name) if root is None else None
    return None


def _test(
    tree: Tree, parts: Sequence[str], classes: set[str], level: str, hints: Hints
) -> tuple[str | None, str | None]:
    """The folder to predict, and a labelled test folder where there is one."""
    if hints.test is not None:
        wished = f"{level}/{hints.test}".strip("/") if f"{level}/{hints.test}".strip("/") in tree.count else hints.test
        if wished not in tree.count:
            listed = ", ".join(_below(name, level) for name in tree.children(level)[:8])
            raise UserError(f"--test {hints.test}: there is no such folder with images; there are {listed}")
        return _innermost(tree, wished, classes), None
    tests = [_innermost(tree, name, classes) for name in parts if role(_last(name)) == "test"]
    solved = [name for name in tests if tree.names(name) and tree.names(name) <= classes]
    flat = [name for name in tests if not tree.children(name)]
    named = [name for name in flat if not re.search("multiple|sample", name.lower())]
    other = [name for name in tests if name not in solved and name not in flat]
    chosen = (
        next(iter([*named, *solved, *flat, *other]), None)
        if not solved
        else next(iter([*(n for n in named if n not in solved and _beside(n, solved)), *solved]), None)
    )
    return chosen, next(iter(solved), None)


def _beside(flat: str, solved: Sequence[str]) -> bool:
    """Is a flat folder named for predictions where a labelled test lies beside it?"""
    return bool(re.search(r"pred|unlabel|submission|private", flat.lower()))


def _innermost(tree: Tree, folder: str, classes: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    while not tree.direct[folder] and len(inner := tree.children(folder)) == 1 and _last(inner[0]) not in classes:
        folder = inner[0]
    return folder


def _list_of_valid(detected: Detected, survey: Survey, scan: Scan, valid: str, classes: set[str]) -> None:
    """A flat validation folder: its classes stand in a list beside it."""
    for profile in survey.profiles:
        names = profile.table.header
        reached = [scan.images[place] for places in profile.reach.values() for place in places]
        if len(names) < 2 or sum(file.startswith(f"{valid}/") for file in reached) < len(profile.reach):
            continue
        id, place = (
            profile.id,
            next((p for p, name in enumerate(names) if set(profile.table.column(name)) <= classes), None),
        )
        if place is None or names.index(id) != 0 or place != 1:
            continue
        detected.source |= {"valid_list": scan.path(profile.name)}
        if profile.header:
            detected.source["list_header"] = ["file", "class"]
        detected.notes.append(f"{valid}/* with the classes of {profile.name}: held out as it is, to be scored")
        return
    del detected.source["valid"]
    detected.notes.append(f"left aside: {valid}/, whose images have no class (no list names them)")


def _lists(detected: Detected, survey: Survey, scan: Scan, trains: Sequence[str], level: str) -> None:
    """Lists of files (train.txt, test.txt) that divide the images of the class folders."""
    if len(trains) > 1 or detected.source.get("valid") or survey.scan.tables == []:
        return
    list_of: dict[str, str] = {}
    for profile in survey.profiles:
        share = sum(scan.images[places[0]].startswith(trains[0]) for places in profile.reach.values())
        if profile.header and len(profile.header) == 1 and profile.role and share >= 0.95 * len(profile.table.rows):
            list_of.setdefault(profile.role, profile.name)
    if "train" not in list_of or len(list_of) < 2:
        return
    for part, name in sorted(list_of.items()):
        detected.source[f"{part}_list"] = scan.path(name)
        detected.notes.append(f"{name}: lists the images of the part {part}")
    detected.assumed.append(
        f"the parts are those of {examples(sorted(list_of.values()))} (source.train_list, source.test_list)"
    )


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _below(name: str, level: str) -> str:
    return name[len(level) :].lstrip("/") or "."


def _within(name: str, others: Iterable[str | None]) -> bool:
    return any(other is not None and (other.startswith(f"{name}/") or name.startswith(f"{other}/")) for other in others)
