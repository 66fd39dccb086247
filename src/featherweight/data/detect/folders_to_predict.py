"""Which of the folders beside class folders holds the images to predict."""

from __future__ import annotations

import re
from collections.abc import Sequence

from featherweight.data.detect.detected import Hints
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.folder_tree import Tree, last, path_below
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import Scan
from featherweight.data.detect.to_predict import MOST
from featherweight.data.file_matching import Index
from featherweight.errors import UserError


def choose(
    tree: Tree, parts: Sequence[str], classes: set[str], level: str, hints: Hints
) -> tuple[str | None, str | None]:
    """Return the folder to predict, and the labelled test folder if there is one."""
    if hints.test is not None:
        wished = f"{level}/{hints.test}".strip("/") if f"{level}/{hints.test}".strip("/") in tree.count else hints.test
        if wished not in tree.count:
            listed = ", ".join(path_below(name, level) for name in tree.children(level)[:8])
            raise UserError(f"--test {hints.test}: there is no such folder with images; there are {listed}")
        return tree.innermost(wished, classes), None
    tests = [tree.innermost(name, classes) for name in parts if role(last(name)) == "test"]
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


def asked_for(tree: Tree, scan: Scan, sample: SampleSubmission, folders: Sequence[str | None]) -> list[str]:
    """Return the folders with the images of the sample submission: one that holds them all, else several."""
    held: dict[str, set[str]] = {}
    for folder in dict.fromkeys(tree.innermost(folder) for folder in folders if folder):
        below = [("", file[len(folder) + 1 :]) for file in scan.images if file.startswith(f"{folder}/")]
        held[folder] = set(Index(below).reach(sample.ids))
    wanted = len(set(sample.ids))
    best = max(held, key=lambda folder: len(held[folder]), default=None)
    if best is None or len(held[best]) >= MOST * wanted:
        return [best] if best else []
    several = [folder for folder in held if held[folder]]
    return several if len(set.union(*held.values())) >= MOST * wanted else []


def _beside(flat: str, solved: Sequence[str]) -> bool:
    """True if a flat folder beside a labelled test folder is named for predictions."""
    return bool(re.search(r"pred|unlabel|submission|private", flat.lower()))
