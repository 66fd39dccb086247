"""Which folders hold labelled images, which hold the same images again, and which are to be predicted."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from featherweight.data.listing import ENDINGS

# What "train" is written together with: trainset, ximages_train, testlabels. Whole words only: no mediEVAL, no laTEST.
WITH = (
    "(sets?|data|datasets?|images?|imgs?|labels?|files?|pictures?|photos?|csv|jpe?g|png|x|y|list|split|folder|dir|public|"
    "private|samples?|part|zip|final|blind|all|my|new|kaggle)"
)
WORDS = {
    "train": re.compile(rf"{WITH}*train(ing|val)?{WITH}*"),
    "valid": re.compile(rf"{WITH}*(val|valid|validation|validate|dev|holdout){WITH}*"),
    "test": re.compile(
        rf"{WITH}*(test(ing)?|eval(uation)?|submissions?){WITH}*|pred(ict(ions?|ed)?)?|unlabel(l?ed)?|private"
    ),
}
REDUCED = re.compile(r"thumb|mask|segment|resiz|small|crop|preview|annot|heatmap")
LOSSY = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".avif")


def role(name: str) -> str:
    """Return train, test or valid if the name of a file or folder says so, else an empty text."""
    return _role(name.rstrip("/").rpartition("/")[2]) or _role(name)


def _role(name: str) -> str:
    return next((part for part in WORDS if says(name, part)), "")


def says(name: str, part: str) -> bool:
    """True if a word of the name means this part of the data (train, test, valid)."""
    return any(WORDS[part].fullmatch(word.lower()) for word in words(name))


@functools.lru_cache(1 << 12)
def words(name: str) -> tuple[str, ...]:
    """Return the words of a name, split at non-letters and at capitals (PublicTest)."""
    together = re.findall(r"[^\W\d_]+", name)
    return (*together, *(word for one in together for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+", one)))


def settle(
    reach: Mapping[str, Sequence[int]], files: Sequence[str], part: str
) -> tuple[dict[str, int], list[tuple[str, str, int]]]:
    """Choose one file for each id that matches several, from the same branch of folders for all ids if possible.

    Returns the place of each id, and the choices made: branch taken, branch not taken, number of ids.
    """
    sizes: Counter[str] = Counter()
    branches: dict[str, dict[str, int]] = {}
    for id, places in reach.items():
        branches[id] = _branches([files[place] for place in places], places)
        if len(places) > 1:
            sizes.update([*branches[id]])
    chosen: dict[str, int] = {}
    instead: Counter[tuple[str, str]] = Counter()
    for id, choices in branches.items():
        best = min(choices, key=lambda branch: _rank(branch, files[choices[branch]], part, sizes))
        chosen[id] = choices[best]
        instead.update((best, other) for other in choices if other != best)
    return chosen, [(taken, other, count) for (taken, other), count in instead.most_common()]


def _branches(names: Sequence[str], places: Sequence[int]) -> dict[str, int]:
    """Return each candidate under the folder where its path departs from the others, or under its ending."""
    parts = [name.split("/") for name in names]
    depth = 0
    while len(parts) > 1 and all(len(part) > depth for part in parts) and len({part[depth] for part in parts}) == 1:
        depth += 1
    branches: dict[str, int] = {}
    for part, place in zip(parts, places, strict=True):
        below = depth + 1 < len(part)
        name = "/".join(part[: depth + 1]) if below else "/".join(part[:-1]) + "/*" + part[-1][part[-1].rfind(".") :]
        branches.setdefault(name, place)
    return branches


def _rank(branch: str, file: str, part: str, sizes: Mapping[str, int]) -> tuple[int, int, int, int, int, str]:
    own = role(branch) or role(file.rpartition("/")[0])
    strange = 0 if own == part else 1 if not own else 2
    ending = file[file.rfind(".") :].lower()
    kind = 0 if ending in LOSSY else 1 if ending in ENDINGS else 2
    return strange, kind, int(bool(REDUCED.search(branch.lower()))), -sizes[branch], branch.count("/"), branch


def assign(files: Sequence[str], matched: Iterable[int]) -> tuple[set[str], set[str], set[str]]:
    """Return the widest folders with matched images only, with other images only, and with both side by side."""
    wanted = set(matched)
    kinds: dict[str, set[bool]] = defaultdict(set)
    direct: dict[str, set[bool]] = defaultdict(set)
    for place, file in enumerate(files):
        parts = file.split("/")[:-1]
        direct["/".join(parts) or "."].add(place in wanted)
        for depth in range(len(parts) + 1):
            kinds["/".join(parts[:depth]) or "."].add(place in wanted)
    groups: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    around: set[str] = set()  # with matched images themselves, and others in subfolders alone
    for name in sorted(kinds, key=lambda name: 0 if name == "." else 1 + name.count("/")):
        above = {one for group in groups for one in group if one == "." or name.startswith(f"{one}/")} - around
        if above or (kinds[name] == {True} and any(one == "." or name.startswith(f"{one}/") for one in around)):
            continue
        if kinds[name] == {True}:
            groups[0].add(name)
        elif kinds[name] == {False}:
            groups[1].add(name)
        elif len(direct.get(name, ())) == 2:
            groups[2].add(name)
        elif direct.get(name) == {True}:
            groups[0].add(name)
            around.add(name)
    return groups


def within(files: Sequence[str], folders: Iterable[str]) -> list[int]:
    """Return the places of the files that lie in these folders."""
    wanted = tuple("" if folder == "." else f"{folder}/" for folder in folders)
    return [place for place, file in enumerate(files) if file.startswith(wanted)] if wanted else []


def shown(folders: Iterable[str]) -> str:
    """Return the folders as text for a message."""
    return ", ".join("the folder itself" if name == "." else f"{name}/" for name in sorted(folders)) or "none"
