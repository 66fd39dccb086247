"""Detect classes in file names: cat.0.jpg, 0_23.png, american_bulldog_10.jpg."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from featherweight.data.csv_file import examples
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.scan import Scan
from featherweight.errors import UserError, count_of

# Where the class may stand in a name. The first pattern whose classes are few, and the names of all of them, is taken.
PATTERNS = (
    ("the text before the last number", r"^(\D.*?)[ ._-]*\d+\.\w+$"),
    ("the text before the first number", r"^([^\W\d][^\d]*?)[ ._-]*\d.*\.\w+$"),
    ("the text after the last number", r"^.*\d[ ._-]+([^\W\d][^\d]*)\.\w+$"),
    ("the first number", r"^(\d+)[ ._-].*\.\w+$"),
    ("the last number", r"^.*[ ._-](\d+)\.\w+$"),
)
# Places that are never taken unasked, and offered where another one is taken.
OTHERS = (
    ("the second number", r"^\d+[ ._-]+(\d+)[ ._-].*\.\w+$"),
    ("the third number", r"^\d+[ ._-]+\d+[ ._-]+(\d+)[ ._-].*\.\w+$"),
)
FEWEST = 3  # images of a class, on average


def pattern_in(label: str) -> str | None:
    """Return --label if it is a pattern with parentheses around the class, else None."""
    with suppress(re.error):
        return label if re.compile(label).groups else None
    return None


def read(scan: Scan, hints: Hints, asked: str | None = None) -> Detected | None:
    """Return the source `file_names` if the names of the training images contain their classes, else None.

    `asked` is the pattern that the user wants. Raises UserError if it finds no class in some name.
    """
    folders = Counter(file.rpartition("/")[0] for file in scan.images)
    trains = [name for name in folders if role(name) == "train"] or [name for name in folders if not role(name)]
    if not trains:
        return None
    train = max(trains, key=lambda name: folders[name])
    names = [file.rpartition("/")[2] for file in scan.images if file.rpartition("/")[0] == train]
    fitting = [
        (what, pattern, theirs)
        for what, pattern in (*PATTERNS, *OTHERS)
        if (theirs := _classes(names, pattern)) is not None and pattern != asked
    ]
    if asked is not None:
        fitting.insert(0, ("what --label finds", asked, _asked(names, asked)))
    if not fitting or fitting[0][:2] in OTHERS:
        return None
    what, pattern, classes = fitting[0]
    tests = [name for name in folders if role(name) == "test" and name != train]
    test = hints.test or next(iter(sorted(tests)), None)
    if hints.test is not None and hints.test not in folders:
        raise UserError(f"--test {hints.test}: no such folder with images; there are {', '.join(sorted(folders))}")
    detected = Detected({"name": "file_names", "train": scan.path(train or "."), "pattern": pattern})
    shown = examples([f"{name} ({count:,})" for name, count in classes.most_common()], 4)
    detected.notes.append(f"{train or '.'}/*: the class is {what} in a file's name: {shown}")
    detected.assumed.append(f"source.pattern: {pattern}, {what} (pass --label PATTERN, the class in parentheses)")
    for place, other, theirs in fitting[1:]:
        count = count_of(len(theirs), "class")
        detected.assumed.append(f"  or {place}, {count}: --label {shlex.quote(other)}")
    _hold_out(scan, detected, pattern, set(classes))
    if test is not None:
        detected.source["test"] = scan.path(test)
        detected.notes.append(f"{test}/*: to predict")
    return detected


def _hold_out(scan: Scan, detected: Detected, pattern: str, classes: set[str]) -> None:
    """Record the folder of validation images, if their names hold the classes of training."""
    folders = sorted({file.rpartition("/")[0] for file in scan.images})
    for folder in (name for name in folders if role(name) == "valid"):
        names = [file.rpartition("/")[2] for file in scan.images if file.rpartition("/")[0] == folder]
        matches = [re.search(pattern, name) for name in names]
        if all(match and match.group(1) in classes for match in matches) and "valid" not in detected.source:
            detected.source["valid"] = scan.path(folder)
            detected.notes.append(f"{folder}/*: held out as it is, to be scored")
        else:
            detected.notes.append(f"set apart: {count_of(len(names), 'image')} in {folder}/")


def _asked(names: Sequence[str], pattern: str) -> Counter[str]:
    found = [(name, re.search(pattern, name)) for name in names]
    if missing := [name for name, match in found if match is None or not match.group(1)]:
        raise UserError(
            f"--label {pattern}: no column of a table, and as a pattern it finds no class in {len(missing):,} of "
            f"{count_of(len(names), 'name')}, as {missing[0]}"
        )
    return Counter(match.group(1) for _, match in found if match)


def _classes(names: Sequence[str], pattern: str) -> Counter[str] | None:
    matches = [re.search(pattern, name) for name in names]
    if not all(matches):
        return None
    classes = Counter(match.group(1) for match in matches if match)
    few = 2 <= len(classes) <= len(names) / FEWEST
    return classes if few and min(classes.values()) >= 2 else None
