"""A CSV of labels beside folders of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from featherweight.data import csv_file
from featherweight.data.listing import Faults, Listing, Samples, is_image, walk
from featherweight.errors import UserError
from featherweight.schema import Text

File = tuple[str, str]  # an image folder as the competition says it, and a path below it


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

    files = [(folder, file) for folder in images for file in walk(root / folder)]
    place_of, ambiguous = _match(ids, files)
    problems = Faults(str(found.path))
    empty = {row for row, name in enumerate(names) if not name.strip()}
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
        problems.add("images without a label", ["/".join(files[place]) for place in spare])
    problems.settle(faults == "leave out")

    seen: set[int] = set()
    kept: list[int] = []
    for row, name in enumerate(ids):
        if row not in empty and name in place_of and name not in disputed and place_of[name] not in seen:
            seen.add(place_of[name])
            kept.append(row)
    if not kept:
        raise UserError(f"{found.path}: no row has both a label and an image")
    spared = [files[place] for place in spare if files[place][0] in shared]
    plain = not any(is_image(name) for name in place_of)
    return Listing(
        train=Samples(
            [ids[row] for row in kept],
            [str(root / folder) + f"/{file}" for folder, file in (files[place_of[ids[row]]] for row in kept)],
            [names[row].strip() for row in kept],
            [groups[row] for row in kept] if groups else None,
        ),
        test=_test(root, [folder for folder in test if folder not in shared], spared, plain),
    )


def _test(root: Path, folders: Sequence[str], spared: Sequence[File], plain: bool) -> Samples | None:
    """The test images; their ids lose the file ending where the training ids have none."""
    files = [*((folder, file) for folder in folders for file in walk(root / folder)), *spared]
    if not files:
        return None
    ids = [_bare(file) if plain else file for _, file in files]
    twice = next((name for name, times in Counter(ids).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{root / files[0][0]}: there are several test images called {twice}")
    return Samples(ids, [str(root / folder / file) for folder, file in files])


def _bare(name: str) -> str:
    return name.rpartition(".")[0] or name


# How an id may name a file: what is done to the id, and to the file (its folder as the competition says it, its path
# below that). The first way that fits most ids is taken.
WAYS: tuple[tuple[Callable[[str], str], Callable[[str, str], str]], ...] = (
    (str, lambda folder, file: file),
    (str, lambda folder, file: _bare(file)),
    (str, lambda folder, file: file.rpartition("/")[2]),
    (str, lambda folder, file: _bare(file.rpartition("/")[2])),
    (str, lambda folder, file: f"{folder}/{file}"),
    (str, lambda folder, file: f"{folder.rpartition('/')[2]}/{file}"),
    (str, lambda folder, file: f"{folder.rpartition('/')[2]}/{_bare(file)}"),
    (lambda id: _bare(id.rpartition("/")[2]), lambda folder, file: _bare(file.rpartition("/")[2])),
)


def _match(ids: Sequence[str], files: Sequence[File]) -> tuple[dict[str, int], set[str]]:
    """Each id's place in `files`, by the way of naming them that fits most ids, and the ids that name several."""
    wanted = set(ids)
    best: dict[str, int] = {}
    several: set[str] = set()
    for of_id, of_file in WAYS:
        places: dict[str, list[int]] = defaultdict(list)
        for place, (folder, file) in enumerate(files):
            places[of_file(folder, file)].append(place)
        found = {id: places[of_id(id)] for id in wanted if of_id(id) in places}
        hits = {id: there[0] for id, there in found.items() if len(there) == 1}
        if len(hits) > len(best) or not (best or several):
            best, several = hits, {id for id, there in found.items() if len(there) > 1}
        if len(best) == len(wanted):
            break
    return best, several


def _row(found: csv_file.Table, row: int) -> str:
    return f"row {found.numbers[row]} ({found.rows[row][0]})"
