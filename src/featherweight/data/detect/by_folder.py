"""Detect class folders: which hold training images, which are held out, which are to be predicted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from featherweight.data.csv_file import examples
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.file_lists import record_classes_of_valid, record_lists
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.folder_tree import PIECES, WITHIN, Tree, between, hold_data, last, path_below, related
from featherweight.data.detect.folders_to_predict import asked_for, choose
from featherweight.data.detect.initials import flattening, refuse_initials
from featherweight.data.detect.labelled import Survey
from featherweight.data.detect.refusals import packed
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import Scan
from featherweight.errors import UserError, count_of

MOST_TOLD = 5  # folders
CLASSES_TOO = ("valid", "private", "dev")  # words for parts of the data that classes are called as well
ASIDE = re.compile(
    r"image|img|data|mask|thumb|extra|additional|external|original|process|resiz|crop|segment|annot|sample"
)


def classes_of(scan: Scan) -> dict[str, str]:
    """Return the class of each training image by its folder; empty if the folders are not classes."""
    images = scan.without_copies()
    tree = Tree(images)
    try:
        roots = _roots(tree)
    except UserError:  # a table may tell the classes; where none does, `read` raises it again
        return {}
    if roots is None:
        return {}
    level, trains, _ = roots
    others = () if trains != [level] else tuple(f"{name}/" for name in _parts(tree, level))
    classes: dict[str, str] = {}
    for train in trains:
        start = _start(train)
        for file in images:
            if file.startswith(start) and not (others and file.startswith(others)) and "/" in file[len(start) :]:
                classes[file] = file[len(start) :].split("/")[0]
    return classes


def read(scan: Scan, survey: Survey, sample: SampleSubmission | None, hints: Hints) -> Detected | None:
    """Return the source `folders` if images lie in class folders, else None. Raises UserError for a missing test
    folder.
    """
    tree = Tree(scan.without_copies())
    try:
        roots = _roots(tree)
    except UserError as error:
        raise UserError(f"{scan.outer}: {error}") from None
    return None if roots is None else FolderDetector(scan, tree, roots).read(survey, sample, hints)


class FolderDetector:
    """Builds the keys of the source `folders` and the messages about them."""

    def __init__(self, scan: Scan, tree: Tree, roots: tuple[str, list[str], list[str]]) -> None:
        self.scan, self.tree = scan, tree
        self.level, self.trains, self.notes = level, trains, _ = roots
        self.own = trains == [level]  # the class folders lie beside the other parts
        parts = _parts(tree, level)
        if trains[0].count("/") > level.count("/") + bool(level):  # parts of a folder beside others
            parts += [part for above in between(trains[0], level) for part in _parts(tree, above)]
        self.parts = [name for name in parts if not any(related(name, [train]) for train in trains if train)]
        self.classes = {name for train in trains for name in tree.names(train)}
        if self.own:
            self.classes -= {last(name) for name in parts}
        below = [path_below(train, level) for train in trains]
        self.detected = Detected({"name": "folders", "path": scan.path(level or "."), "train": below[0]})
        if len(below) > 1:
            self.detected.source["train"] = below

    def read(self, survey: Survey, sample: SampleSubmission | None, hints: Hints) -> Detected:
        """Return the detected source."""
        detected, tree, level = self.detected, self.tree, self.level
        told = [f"{path_below(train, level)}/<class>/*: {len(self.classes):,} class folders" for train in self.trains]
        more = [f"and {len(told) - MOST_TOLD:,} more such folders"] if told[MOST_TOLD:] else []
        detected.notes += [*told[:MOST_TOLD], *more, *self.notes]
        if tree.people(self.trains):
            detected.pattern = "^([^/]+)/"
            detected.assumed.append(f"group: {detected.pattern}, the folder, as of one person (pass --group none)")
        if hints.rename:
            detected.source["rename"] = {
                name: hints.rename.get(name, hints.rename.get("*", name)) for name in sorted(self.classes)
            }
        siblings = [name for name in tree.children(level) if not self.own or name in self.parts]
        beside = [name for name in siblings if self.own or not related(name, self.trains)]
        valid = _valid(tree, self.parts, self.classes)
        test, solved = choose(tree, self.parts, self.classes, level, hints)
        asked = asked_for(tree, self.scan, sample, [test, *beside]) if sample and hints.test is None else []
        test = asked[0] if asked else test
        if solved and valid is None and test != solved:
            valid = solved
        if valid is not None:
            self._hold_out(valid, survey)
        self._tell_strange_classes()
        self._folders_within(sample)
        self._predict(asked if len(asked) > 1 else [test] if test is not None else [], sample)
        self._set_apart([name for name in beside if not related(name, (valid, test, *asked))])
        record_lists(detected, survey, self.trains)
        return detected

    def _hold_out(self, valid: str, survey: Survey) -> None:
        below = path_below(valid, self.level)
        self.detected.source["valid"] = below
        if self.tree.class_root(valid) is None:
            record_classes_of_valid(self.detected, survey, valid, self.classes)
        else:
            self.detected.notes.append(f"{below}/<class>/*: held out as it is, to be scored")
            self.detected.assumed.append(
                f"held out: {below} ({count_of(self.tree.count[valid], 'image')}; source.valid)"
            )

    def _tell_strange_classes(self) -> None:
        """Report the classes of a validation folder that training lacks; such a folder is not held out."""
        for name in self.parts:
            strange = sorted(self.tree.names(self.tree.class_root(name) or name) - self.classes)
            if role(last(name)) == "valid" and strange and "valid" not in self.detected.source:
                below = path_below(name, self.level)
                why = f"it has the classes {examples(strange, 3)}, and training has not"
                self.detected.assumed.append(f"{below}/ is not held out: {why}")

    def _folders_within(self, sample: SampleSubmission | None) -> None:
        """Report that subfolders of the class folders are not used as classes, if they could be.

        Raises UserError if the sample submission asks for them.
        """
        inner = {child: self.tree.children(child) for train in self.trains for child in self.tree.children(train)}
        names = [last(name) for within in inner.values() for name in within]
        if len(self.trains) == 1:
            refuse_initials(self.scan.folder / self.trains[0], inner)
        if len(inner) < 2 or not all(len(within) > 1 for within in inner.values()):
            return
        shown = examples([f"{last(folder)}/{last(within[0])}" for folder, within in sorted(inner.items())], 2)
        asked = {*(sample.distinct if len(sample.columns) == 1 else sample.columns)} if sample else set()
        if sample and asked and asked <= set(names) and not asked & self.classes:
            command = flattening(self.scan.folder / self.trains[0]) if len(self.trains) == 1 else None
            raise UserError(
                f"{sample.path}: asks for '{min(asked)}', a folder within a folder, as {shown}: here the outer folders "
                f"are the classes\nput the inner ones beside each other{f': {command}' if command else ''}"
            )
        apart = len(set(names)) == len(names)
        if apart or (len(inner) <= len(set(names)) + 1 and not all(WITHIN.fullmatch(name.lower()) for name in names)):
            self.detected.assumed.append(f"the classes are the outer folders, and not those within, as {shown}")

    def _predict(self, tests: list[str], sample: SampleSubmission | None) -> None:
        detected, below = self.detected, [path_below(name, self.level) for name in tests]
        if tests:
            detected.source["test"] = below[0] if len(below) == 1 else below
        elif self.own:
            detected.source["test"] = "test"
        for test, name in zip(tests, below, strict=True):
            solved = self.tree.names(test) & self.classes
            if solved and sample and not any("/" in id for id in sample.ids):
                solved = set()
                detected.source["test_labels"] = False
                called = examples(sorted(self.tree.names(test)), 4)
                detected.assumed.append(
                    f"the folders in {name}/ are called like classes ({called}), and not taken for answers, since "
                    f"{sample.path.name} asks for these (source.test_labels)"
                )
            seen = "<class>/*: its labels are seen by the scorer alone" if solved else "*: to predict"
            detected.notes.append(f"{name}/{seen}")
        if sample and not tests:
            if archives := packed(self.scan):
                raise UserError(f"{sample.path}: names no image, and {archives}, then run init again")
            detected.assumed.append(f"nothing to predict: {sample.path.name} names no image beside those of training")

    def _set_apart(self, left: list[str]) -> None:
        """Report images that are not used, and exclude them in the source if they lie among the class folders."""
        tree, notes = self.tree, self.detected.notes
        for chosen, forms in tree.aside.items():
            others = ", ".join(f"{path_below(name, self.level)}/" for name in forms)
            notes.append(f"set apart: {others}: the classes of {path_below(chosen, self.level)}/ in another form")
        notes += [f"set apart: {count_of(tree.count[name], 'image')} in {name}/" for name in tree.beside]
        told = {name for forms in tree.aside.values() for name in forms} | {n.partition("/ ")[0] for n in self.notes}
        for name in left:
            if name not in told:
                what = f"{count_of(tree.count[name], 'image')} in {path_below(name, self.level)}/"
                notes.append(f"set apart: {what} (--test if to predict)")
        notes += [f"{name}/ holds the same files again: left out" for name in self.scan.inner_copies]
        within = [name for name in self.scan.inner_copies if name.startswith(_start(self.level))]
        without = [*left, *([] if self.level else self.scan.copies), *within] if self.own else within
        if without:
            self.detected.source["without"] = [path_below(name, self.level) for name in without]
        if loose := [file for folder in {self.level, *self.trains} for file in tree.loose(folder)]:
            notes.append(f"set apart: {count_of(len(loose), 'image')} beside the folders, as {min(loose)}")


def _roots(tree: Tree) -> tuple[str, list[str], list[str]] | None:
    """Return the folder that holds the parts and the folders in it whose subfolders are classes of training images."""
    level = ""
    while True:
        inner = tree.children(level)
        if tree.flat(level) or not inner:
            return None
        named = [] if _only_classes(tree, level) else [name for name in inner if role(last(name)) == "train"]
        trains = [root for name in named if (root := tree.class_root(name)) is not None]
        if trains:
            shared = [root for root in trains if tree.names(root) & tree.names(trains[0])]
            notes = [f"{root}/ has other class folders: set apart" for root in trains if root not in shared]
            within = [takes for root in shared for takes in _takes(tree, root)]
            return level, within, [*notes, *_told(within, shared)]
        if named:
            return None
        parts = _parts(tree, level)
        rest = [name for name in inner if name not in parts]
        form = tree.form(rest)
        numbered = len(rest) > 1 and all(PIECES.search(last(name).lower()) for name in rest)
        if form is None and (tree.people(rest) or tree.takes(rest) or (numbered and tree.alike(rest)[0] == rest)):
            return level, rest, _told(rest, [])
        if form is None and len(rest) > 1 and not numbered and hold_data(rest):
            folders = [name for name in rest if not tree.flat(tree.branching(name))]
            if len(folders) != 1 or parts:
                return None
            tree.beside += [name for name in rest if name not in folders]
            level = folders[0]
            continue
        if form is None and len(rest) > 1:
            return None if numbered else (level, [level], [])
        if form is None and (len(rest) != 1 or (parts and tree.class_root(rest[0]) is None)):
            return None
        chosen = form or rest[0]
        deep = tree.branching(chosen)
        if parts and any(role(last(name)) == "train" for name in tree.children(deep)):
            found = [tree.class_root(name) for name in tree.children(deep) if role(last(name)) == "train"]
            trains = [root for root in found if root is not None]
            return (level, trains, []) if trains else None
        if parts or form:
            root = tree.class_root(chosen)
            return (level, [root], []) if root is not None else None
        level = chosen


def _start(folder: str) -> str:
    """Return what the paths of the files below a folder begin with."""
    return f"{folder}/" if folder else ""


def _takes(tree: Tree, root: str) -> list[str]:
    """Return the folders within a folder that are no classes but each hold all of these; without any, itself."""
    inner = tree.children(root)
    return inner if len(inner) > 1 and tree.takes(inner) else [root]


def _told(trains: Sequence[str], known: Sequence[str]) -> list[str]:
    return [] if trains == known else [f"the folders {examples(trains, 3)} all hold the same classes, and are none"]


def _only_classes(tree: Tree, level: str) -> bool:
    """True if a flat folder called train or valid is a class, because its siblings are classes (bus, car, train)."""
    inner = tree.children(level)
    flat = [name for name in inner if tree.flat(name)]
    own = [name for name in flat if last(name).lower() in CLASSES_TOO or role(last(name)) == "train"]
    beside = [name for name in inner if name not in own]
    others = any(role(last(name)) or ASIDE.search(last(name).lower()) for name in beside)
    return len(own) == 1 and len(inner) > 2 and flat == inner and not others


def _parts(tree: Tree, level: str) -> list[str]:
    """Return the folders beside the class folders that are parts of the data by their names."""
    inner = tree.children(level)
    if _only_classes(tree, level):
        return []
    named = [name for name in inner if role(last(name)) in ("test", "valid")]
    trains = any(role(last(name)) == "train" for name in inner)
    if trains:
        return named
    again = tree.around([name for name in inner if name not in named])
    return [*(name for name in named if role(last(name)) == "test" or len(named) < len(inner)), *again]


def _valid(tree: Tree, parts: Iterable[str], classes: set[str]) -> str | None:
    for name in parts:
        if role(last(name)) == "valid":
            root = tree.class_root(name)
            if root is not None and tree.names(root) <= classes:
                return root
            return tree.innermost(name) if root is None else None
    return None
