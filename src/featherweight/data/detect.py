"""What a folder is: which source reads it, with which arguments. It looks at names, headers and a few files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight.data import csv_file
from featherweight.data.csv_file import Table
from featherweight.data.listing import is_image, walk
from featherweight.data.safe_arrays import declared, read_idx
from featherweight.data.safe_pickles import read as read_pickle
from featherweight.data.sources.pickles import LABELS as PICKLED_LABELS
from featherweight.errors import UserError

TRAIN, TEST, VALID = re.compile("train"), re.compile("test"), re.compile(r"valid|^val$|^val[_-]|^dev$")
SAMPLE = re.compile(r"sample|submi")
LABEL = re.compile(
    r"^(labels?|class(es)?|category|target|species|breed|y|tag|type|diagnosis|class_?(name|id)|label_?name)$"
)
ID = re.compile(r"^(id|.*_id|.*id|image.*|file.*|name|path|fname|img.*)$")
SHOWN = 3  # faults told where nothing is understood
PIXELS = 48  # a CSV with this many numbers a row is one of pixels: 4 x 4 pixels of 3 channels


@dataclass
class Found:
    """The source of a competition as its YAML says it, the sample submission, and what is worth telling."""

    source: dict[str, Any]
    sample: Path | None = None
    told: list[str] = field(default_factory=list)


def survey(folder: Path, root: Path) -> Found:
    """Find out how `folder` is laid out; paths come out relative to `root`, the data folder, where they are below it.

    Raises UserError saying what was looked for where nothing fits.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    outer = folder
    while (only := _only_folder(folder)) is not None:
        folder = only
    sample = _sample(folder)
    for kind in (_folders, _table, _idx, _pickles, _arrays, _pixels):
        found = kind(folder, root, sample)
        if found is not None:
            found.sample = sample
            return found
    seen = Counter(path.suffix.lower() or "no ending" for path in outer.rglob("*") if path.is_file())
    listed = ", ".join(f"{count:,} {ending}" for ending, count in seen.most_common(5)) or "nothing"
    raise UserError(
        f"{outer}: cannot tell what this is; it holds {listed}. Known: train/<class>/*, a label CSV beside image "
        f"folders, pixel CSVs, .npz or .npy arrays, idx files, CIFAR-like pickles{_unreadable(outer)}"
    )


def relative(path: Path, root: Path) -> str:
    """As a competition file says a path: below the data folder, or in full where it lies elsewhere."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


# ------------------------------------------------------------------------------------------------------------ folders


def _folders(folder: Path, root: Path, sample: Path | None) -> Found | None:
    parts = _inner(folder)
    trains = [part for part in parts if TRAIN.search(part.name.lower())]
    train = next((inside for part in trains if (inside := _class_root(part)) is not None), None)
    tests = [part for part in parts if TEST.search(part.name.lower()) and part not in trains]
    if train is None:
        if trains or tests or _class_root(folder) is None:
            return None
        train = folder
    classes = {part.name for part in _inner(train)}
    source = {"name": "folders", "path": relative(folder, root), "train": _below(train, folder)}
    told = [f"{_below(train, folder) or '.'}/<class>/*: {len(classes):,} class folders"]
    valid = next((part for part in parts if VALID.search(part.name.lower())), None)
    inside = _class_root(valid) if valid else None
    if inside is not None and {part.name for part in _inner(inside)} <= classes:
        source["valid"] = _below(inside, folder)
        told.append(f"{source['valid']}/<class>/*: held out as it is, to be scored")
    test = next((part for part in tests if walk(part)), None)
    if test is not None:
        while (only := _only_folder(test)) is not None and only.name not in classes:
            test = only
        source["test"] = _below(test, folder)
        answered = all(part.name in classes for part in _inner(test)) and bool(_inner(test))
        told.append(
            f"{source['test']}/{'<class>/*: its labels are seen by the scorer alone' if answered else '*: the test'}"
        )
    if source["train"] == ".":
        source["test"] = "test"
    return Found(source, told=told)


def _class_root(folder: Path) -> Path | None:
    """The folder under (or at) `folder` whose two or more folders hold the images, and which holds none itself."""
    while True:
        inner = [part for part in _inner(folder) if _has_image(part)]
        if any(is_image(entry.name) for entry in os.scandir(folder) if entry.is_file()) or not inner:
            return None
        if len(inner) > 1:
            return folder
        folder = inner[0]


# -------------------------------------------------------------------------------------------------------------- table


def _table(folder: Path, root: Path, sample: Path | None) -> Found | None:
    files = walk(folder)
    if not files:
        return None
    best: tuple[float, Table, str, set[str]] | None = None
    for path in _csvs(folder, sample):
        try:
            table = csv_file.read(path)
        except UserError:
            continue
        for name in table.header if len(table.header) > 1 and table.rows else ():
            matched = _matched(table.column(name), files)
            share = len(matched) / len(table.rows)
            if share > 0.3 and (best is None or len(matched) > len(best[3])):
                best = (share, table, name, matched)
    if best is None:
        return None
    _, table, id, matched = best
    label = _label_column(table, id, sample)
    if label is None:
        return None
    labelled, others, both = _assign(files, matched)
    told = [f"{relative(table.path, folder)}: {len(table.rows):,} rows, ids in '{id}', labels in '{label}'"]
    holding = ["the folder" if name == "." else name for name in sorted(labelled | both)]
    told.append(f"images with labels in {', '.join(holding)}")
    listed = set(csv_file.read(sample, ",").column(csv_file.read(sample, ",").header[0])) if sample else set()
    if both:
        spare = [file for file in files if file not in matched and os.path.dirname(file) in both]  # noqa: PTH120
        if len(_matched(sorted(listed), spare)) > len(spare) / 2:
            others |= both
            told.append("the images there without a label are the test")
    tests = {name for name in others if not VALID.search(name.lower())}
    if tests - both:
        told.append(f"images to predict in {', '.join(sorted(tests))}")
    source: dict[str, Any] = {
        "name": "table",
        "labels": relative(table.path, root),
        "id": id,
        "label": label,
        "images": [relative(folder / name, root) for name in sorted(labelled | both)],
        "test": [relative(folder / name, root) for name in sorted(tests)],
    }
    return Found(source, told=told)


def _matched(names: Sequence[str], files: Sequence[str]) -> set[str]:
    """The files that these ids name, with or without folder and ending."""
    wanted = set(names)
    short = {os.path.basename(os.path.splitext(name)[0]) if is_image(name) else name for name in wanted}  # noqa: PTH119, PTH122
    found = set()
    for file in files:
        base = os.path.basename(file)  # noqa: PTH119
        if file in wanted or base in wanted or os.path.splitext(base)[0] in short:  # noqa: PTH122
            found.add(file)
    return found


def _assign(files: Sequence[str], matched: set[str]) -> tuple[set[str], set[str], set[str]]:
    """The widest folders with labelled images alone, with others alone, and those that hold both side by side."""
    kinds: dict[str, set[bool]] = {}
    direct: dict[str, set[bool]] = {}
    for file in files:
        parts = file.split("/")[:-1]
        direct.setdefault("/".join(parts) or ".", set()).add(file in matched)
        for depth in range(len(parts) + 1):
            kinds.setdefault("/".join(parts[:depth]) or ".", set()).add(file in matched)
    groups: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    for name in sorted(kinds, key=lambda name: 0 if name == "." else 1 + name.count("/")):
        if any(name.startswith(f"{above}/") or above == "." for group in groups for above in group):
            continue
        if kinds[name] == {True}:
            groups[0].add(name)
        elif kinds[name] == {False}:
            groups[1].add(name)
        elif len(direct.get(name, ())) == 2:
            groups[2].add(name)
    return groups


def _label_column(table: Table, id: str, sample: Path | None) -> str | None:
    others = [name for name in table.header if name != id]
    start = csv_file.beginning(sample, 2) if sample else None
    if start and len(start.header) == 2 and start.header[1] in others:
        return start.header[1]
    for name in others:
        if LABEL.search(name.lower()):
            return name
    kinds = {name: len(set(table.column(name))) for name in others}
    fitting = [name for name in others if 2 <= kinds[name] <= max(2, len(table.rows) // 2)]
    return min(fitting, key=lambda name: kinds[name], default=None)


# ----------------------------------------------------------------------------------------- files of thousands of images


def _idx(folder: Path, root: Path, sample: Path | None) -> Found | None:
    names: dict[str, Path] = {}
    aside: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if re.search("ubyte|idx", path.name) and path.is_file()):
        try:
            array = read_idx(path)
        except UserError as error:
            aside.append(f"left aside: {error}")
            continue
        part = "test_" if re.search("test|t10k", path.name.lower()) else ""
        names.setdefault(part + ("labels" if array.ndim == 1 else "images"), path)
    if not {"images", "labels"} <= set(names):
        return None
    told = [f"{key.replace('_', ' ')}: {relative(path, folder)}" for key, path in names.items()] + aside
    return Found({"name": "idx", **{key: relative(path, root) for key, path in names.items()}}, told=told)


def _pickles(folder: Path, root: Path, sample: Path | None) -> Found | None:
    train: list[Path] = []
    tests: list[tuple[bool, Path]] = []
    named = None
    aside: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix.lower() not in ("", ".pkl", ".pickle", ".p", ".meta") and "batch" not in path.name:
            continue
        try:
            content = read_pickle(path)
        except UserError as error:
            if path.suffix or "batch" in path.name:
                aside.append(f"left aside: {error}")
            continue
        if {"label_names", "fine_label_names"} & set(content):
            named = path
        elif "data" in content:
            labelled = any(key in content for key in PICKLED_LABELS["any"])
            if "test" in path.name.lower() or not labelled:
                tests.append((labelled, path))
            else:
                train.append(path)
    if not train:
        return None
    source: dict[str, Any] = {"name": "pickles", "train": [relative(path, root) for path in train]}
    told = [f"labelled images in {', '.join(path.name for path in train)}"]
    if tests:
        test = min(tests)[1]  # one without labels is the one to be predicted
        source["test"] = relative(test, root)
        told.append(f"images to predict in {test.name}")
    if named:
        source["names"] = relative(named, root)
        told.append(f"class names in {named.name}")
    return Found(source, told=told + aside)


def _arrays(folder: Path, root: Path, sample: Path | None) -> Found | None:
    shapes: dict[str, tuple[int, ...]] = {}
    aside: list[str] = []
    for path in sorted([*folder.rglob("*.npz"), *folder.rglob("*.npy")]):
        try:
            for key, array in declared(path).items():
                shapes[relative(path, root) + (f":{key}" if key else "")] = array.shape
        except UserError as error:
            aside.append(f"left aside: {error}")
    pictures = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    if not pictures:
        return None
    train = min(
        pictures, key=lambda name: (not TRAIN.search(_key(name)), bool(TEST.search(_key(name))), -shapes[name][0])
    )
    test = next((name for name in pictures if name != train), None)
    flat = [name for name, shape in shapes.items() if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)]

    def beside(picture: str, wanted: Callable[[str], bool]) -> str | None:
        fitting = [name for name in flat if shapes[name][0] == shapes[picture][0] and wanted(_key(name))]
        same = [name for name in fitting if bool(TEST.search(_key(name))) == bool(TEST.search(_key(picture)))]
        return next(iter(same or fitting), None)

    labels = beside(train, lambda key: not key.endswith(("id", "ids")))
    if labels is None:
        return None
    source = {"name": "arrays", "train": train, "labels": labels}
    if test is not None:
        flat.remove(labels)
        ids = beside(test, lambda key: key.endswith(("id", "ids")))
        answers = beside(test, lambda key: not key.endswith(("id", "ids")))
        source |= {key: name for key, name in (("test", test), ("ids", ids), ("answers", answers)) if name}
    return Found(source, told=[f"{key}: {name}" for key, name in source.items() if key != "name"] + aside)


def _pixels(folder: Path, root: Path, sample: Path | None) -> Found | None:
    tables = [start for path in _csvs(folder, sample) if (start := csv_file.beginning(path, 3)) is not None]
    tables = [start for start in tables if len(start.header) >= PIXELS and start.rows]
    labels = {start.path: next((name for name in start.header if LABEL.search(name.lower())), None) for start in tables}
    train = min(
        (start for start in tables if labels[start.path]),
        key=lambda start: not TRAIN.search(start.path.name.lower()),
        default=None,
    )
    if train is None:
        return None
    test = next((start for start in tables if start is not train), None)
    id = next((name for name in train.header if re.fullmatch("id|.*_id|.*id", name.lower())), None)
    source = {"name": "pixels", "train": relative(train.path, root), "label": labels[train.path]}
    source |= {"test": relative(test.path, root)} if test else {}
    source |= {"id": id} if id else {}
    return Found(source, told=[f"{start.path.name}: a column a pixel" for start in (train, test) if start])


# ------------------------------------------------------------------------------------------------------------- helpers


def _unreadable(folder: Path) -> str:
    """What is wrong with the tables and arrays that could have said what this is: one line for each of the first."""
    readers: list[tuple[Callable[[Path], Any], list[Path]]] = [
        (csv_file.read, [path for path in _csvs(folder, None) if path.suffix.lower() != ".txt"]),
        (declared, sorted(path for path in folder.rglob("*.np[yz]") if path.exists())),
        (read_idx, sorted(path for path in folder.rglob("*ubyte*") if path.exists())),
        (read_pickle, sorted(path for path in folder.rglob("*batch*") if path.is_file())),
    ]
    wrong = []
    for read, files in readers:
        for path in files:
            try:
                read(path)
            except UserError as error:
                wrong.append(str(error))
    shown, more = wrong[:SHOWN], f"\nand {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    return "".join(f"\n{line}" for line in shown) + more


def _inner(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _only_folder(folder: Path) -> Path | None:
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else None


def _has_image(folder: Path) -> bool:
    return any(is_image(name) for _, _, files in os.walk(folder) for name in files)


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _key(name: str) -> str:
    """What says which array this is: its key, or its file's name."""
    return re.sub(r"\.np[yz]$", "", name.rpartition(":")[2].rpartition("/")[2].lower())


def _csvs(folder: Path, sample: Path | None) -> Iterable[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in (".csv", ".tsv", ".txt") and path != sample]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _sample(folder: Path) -> Path | None:
    named = [path for path in _csvs(folder, None) if SAMPLE.search(path.name.lower())]
    return min(named, key=lambda path: ("sample" not in path.name.lower(), len(path.parts)), default=None)
