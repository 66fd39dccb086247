"""A CSV of labels beside folders of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from featherweight.data import csv_file
from featherweight.data.listing import Faults, Listing, Samples, walk
from featherweight.errors import UserError
from featherweight.schema import Text

UNLABELLED = frozenset({"", "nan", "null", "none", "n/a", "na"})


def table(
    root: Path,
    *,
    labels: Text,
    images: list[Text],
    id: Text | None = None,
    label: Text | None = None,
    group: Text | None = None,
    test: list[Text] = [],
    faults: Literal["stop", "leave out"] = "stop",
) -> Listing:
    """A label CSV (`labels`) with the columns `id` and `label` (default: the first two), and folders of `images`.

    An id is a file's path or name, with or without its ending. The `test` folders hold the test images; where a folder
    is in both lists, its images without a label are the test. The column `group` says which images belong together.
    Rows and files that do not fit together stop everything, or are told and left out.
    """
    for folder in [*images, *test]:
        if not (root / folder).is_dir():
            raise UserError(f"there is no image folder {root / folder}")
    found = csv_file.read(root / labels)
    if len(found.header) < 2:
        raise UserError(f"{found.path}: row 1: expected a column of ids and one of labels, got '{found.header[0]}'")
    ids = found.column(id or found.header[0])
    names = found.column(label or next(name for name in found.header if name != (id or found.header[0])))
    groups = found.column(group) if group else None

    files = [root / folder / file for folder in images for file in walk(root / folder)]
    place_of, ambiguous = _match(ids, files, [root / folder for folder in images], root)
    problems = Faults(str(found.path))
    empty = {row for row, name in enumerate(names) if _unlabelled(name, names)}
    problems.add("rows without a label", [_row(found, row) for row in sorted(empty)])
    labels_of: dict[str, set[str]] = defaultdict(set)
    for row, name in enumerate(names):
        if row not in empty:
            labels_of[ids[row]].add(name)
    disputed = {name for name, given in labels_of.items() if len(given) > 1}
    problems.add(
        "ids with several labels", [f"{name} ({', '.join(sorted(labels_of[name]))})" for name in sorted(disputed)]
    )
    problems.add("ids that could be several files", sorted(ambiguous))
    absent = [name for name in dict.fromkeys(ids) if name not in place_of and name not in ambiguous]
    problems.add("labels without an image", absent)
    shared = set(images) & set(test)
    spare = sorted(set(range(len(files))) - set(place_of.values()))
    if not shared:
        problems.add("images without a label", [str(files[place].relative_to(root)) for place in spare])
    problems.settle(faults == "leave out")

    seen: set[int] = set()
    kept: list[int] = []
    for row, name in enumerate(ids):
        if row not in empty and name in place_of and name not in disputed and place_of[name] not in seen:
            seen.add(place_of[name])
            kept.append(row)
    if not kept:
        raise UserError(f"{found.path}: no row has both a label and an image")
    plain = not any(name.lower().endswith(files[place].suffix.lower()) for name, place in place_of.items())
    return Listing(
        train=Samples(
            [ids[row] for row in kept],
            [str(files[place_of[ids[row]]]) for row in kept],
            [names[row].strip() for row in kept],
            [groups[row] for row in kept] if groups else None,
        ),
        test=_test(root, test, [files[place] for place in spare] if shared else [], shared, plain),
    )


def _test(root: Path, folders: Sequence[str], spare: Sequence[Path], shared: set[str], plain: bool) -> Samples | None:
    """The test images; their ids lose the file ending where the training ids have none."""
    files = [
        (root / folder / file, file) for folder in folders if folder not in shared for file in walk(root / folder)
    ] + [(file, file.name) for file in spare]
    if not files:
        return None
    ids = [name[: len(name) - len(file.suffix)] if plain else name for file, name in files]
    twice = next((name for name, times in Counter(ids).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{root / folders[0]}: there are several test images called {twice}")
    return Samples(ids, [str(file) for file, _ in files])


def _match(
    ids: Sequence[str], files: Sequence[Path], folders: Sequence[Path], root: Path
) -> tuple[dict[str, int], set[str]]:
    """Each id's place in `files`, by the way of naming them that fits most ids, and the ids that name several."""

    def below(file: Path) -> str:
        return next(file.relative_to(folder).as_posix() for folder in folders if file.is_relative_to(folder))

    def bare(name: str) -> str:
        return name.rpartition(".")[0] or name

    ways: list[Callable[[Path], str]] = [
        below,
        lambda file: bare(below(file)),
        lambda file: file.name,
        lambda file: file.stem,
        lambda file: file.relative_to(root).as_posix(),
        lambda file: "/".join(file.parts[-2:]),
    ]
    best: dict[str, int] = {}
    several: set[str] = set()
    for way in ways:
        places: dict[str, list[int]] = defaultdict(list)
        for place, file in enumerate(files):
            places[way(file)].append(place)
        hits = {name: places[name][0] for name in ids if len(places.get(name, ())) == 1}
        if len(hits) > len(best) or not (best or several):
            best, several = hits, {name for name in ids if len(places.get(name, ())) > 1}
        if len(best) == len(set(ids)):
            break
    return best, several


def _unlabelled(name: str, names: Sequence[str]) -> bool:
    """An empty field is no label; a word like `none` is one only where several rows say it, as a class would."""
    return not name.strip() or (name.strip().lower() in UNLABELLED and names.count(name) == 1)


def _row(found: csv_file.Table, row: int) -> str:
    return f"row {found.numbers[row]} ({found.rows[row][0]})"
