"""Files of thousands of images: arrays, pickles, idx files, tables of pixels; which is which."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.data import csv_file
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.folder_roles import role
from featherweight.data.detect.scan import Scan, relative
from featherweight.data.pixel_range import spread, together
from featherweight.data.safe_arrays import declared, read_idx
from featherweight.data.safe_pickles import read as read_pickle
from featherweight.data.sources.arrays import HDF5, hdf5_shapes, is_bytes, load
from featherweight.data.sources.pickles import LABELS as PICKLED_LABELS
from featherweight.errors import UserError

LABELS = re.compile(r"(^|[_-])(y|labels?|targets?|class(es)?|categor(y|ies)|ground_?truth|diagnosis)($|[_-])")
NO_LABELS = re.compile(r"(^|[_-]|file|path)(ids?|ind(ex|ices)|names?|files?|paths?|groups?|weights?|splits?)$")
FEW_COLUMNS = 4  # of a table of labels
SHOWN = 3  # faults told where nothing is understood


def idx(scan: Scan, hints: Hints) -> Detected | None:
    """Return the source for idx files of images and labels (MNIST), or None."""
    folder, root = scan.folder, scan.root
    names: dict[str, Path] = {}
    aside: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if re.search("ubyte|idx", path.name) and path.is_file()):
        try:
            array = read_idx(path)
        except UserError as error:
            aside.append(f"set apart: {error}")
            continue
        part = "test_" if re.search("test|t10k", path.name.lower()) else ""
        names.setdefault(part + ("labels" if array.ndim == 1 else "images"), path)
    if not {"images", "labels"} <= set(names):
        return None
    notes = [f"{key.replace('_', ' ')}: {relative(path, folder)}" for key, path in names.items()] + aside
    return Detected({"name": "idx", **{key: relative(path, root) for key, path in names.items()}}, notes=notes)


def pickles(scan: Scan, hints: Hints) -> Detected | None:
    """Return the source for pickled dictionaries (CIFAR), or None."""
    folder, root = scan.folder, scan.root
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
                aside.append(f"set apart: {error}")
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
    notes = [f"labelled images in {', '.join(path.name for path in train)}"]
    if tests:
        test = min(tests)[1]  # one without labels is the one to be predicted
        source["test"] = relative(test, root)
        notes.append(f"images to predict in {test.name}")
    if named:
        source["names"] = relative(named, root)
        notes.append(f"class names in {named.name}")
    return Detected(source, notes=notes + aside)


def arrays(scan: Scan, hints: Hints) -> Detected | None:
    """Return the source for NumPy or HDF5 arrays of images with labels, or None."""
    folder, root = scan.folder, scan.root
    shapes: dict[str, tuple[int, ...]] = {}
    aside: list[str] = []
    for path in sorted([*folder.rglob("*.npz"), *folder.rglob("*.npy")]):
        try:
            for key, array in declared(path).items():
                shapes[relative(path, root) + (f":{key}" if key else "")] = array.shape
        except UserError as error:
            aside.append(f"set apart: {error}")
    for path in sorted(path for path in folder.rglob("*") if path.name.lower().endswith(HDF5) and path.is_file()):
        shapes |= {f"{relative(path, root)}:{key}": shape for key, shape in hdf5_shapes(path).items()}
    pictures = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    if not pictures:
        return None
    train = min(pictures, key=lambda name: (_role(name) != "train", _role(name) in ("test", "valid"), -shapes[name][0]))
    others = sorted((name for name in pictures if name != train), key=lambda name: _role(name) != "test")
    test = next((name for name in others if _role(name) != "valid"), None)
    valid = next((name for name in others if _role(name) == "valid"), None)
    flat = [name for name, shape in shapes.items() if shape and len(shape) != 0 and np.prod(shape) == shape[0]]
    flat += [name for name, shape in shapes.items() if len(shape) == 2 and 2 <= shape[1] < shape[0]]  # one 1 in a row
    pictures = [name for name in pictures if name not in flat]

    def beside(picture: str) -> list[str]:
        fitting = [name for name in flat if shapes[name][0] == shapes[picture][0]]
        return [name for name in fitting if _role(name) == _role(picture)] or fitting

    labels = _labels(beside(train), hints, folder)
    if hints.label is not None and any(_key(name) == hints.label.lower() for name in flat):
        labels = next(name for name in flat if _key(name) == hints.label.lower())
    if labels is None:
        _refuse_labels_in_table(scan, train, shapes[train][0])
        return None
    source = {"name": "arrays", "train": train, "labels": labels}
    if valid is not None and (held := _labels(beside(valid), hints, folder)) is not None:
        source |= {"valid": valid, "valid_labels": held}
    if test is not None:
        flat.remove(labels)
        ids = next((name for name in beside(test) if _key(name).endswith(("id", "ids"))), None)
        answers = _labels(beside(test), hints, folder)
        source |= {key: name for key, name in (("test", test), ("ids", ids), ("answers", answers)) if name}
    keys: dict[str, Any] = {**source}
    detected = Detected(keys, notes=[f"{key}: {name}" for key, name in source.items() if key != "name"] + aside)
    if left := sorted(name for name in pictures if name not in source.values()):
        detected.assumed.append(f"arrays of images that are not used: {csv_file.examples(left, 3)}")
    _range(root, detected, [source[part] for part in ("train", "valid", "test") if part in source])
    return detected


def _refuse_labels_in_table(scan: Scan, images: str, count: int) -> None:
    """Refuse an array of images whose classes stand in a CSV, with the command that makes an array of them."""
    for name in scan.tables:
        if not name.lower().endswith(".csv") or role(name) == "test":
            continue
        try:
            table = csv_file.read(scan.folder / name)
        except UserError:
            continue
        label = next((one for one in table.header if LABELS.search(one.lower())), table.header[-1])
        if len(table.rows) == count > 1 and len(table.header) <= FEW_COLUMNS:
            column, path = json.dumps(label, ensure_ascii=False), json.dumps(name, ensure_ascii=False)
            rows = f"[row[{column}] for row in csv.DictReader(open({path}))]"
            code = f'import csv, numpy; numpy.save("labels.npy", {rows})'
            raise UserError(
                f"{scan.folder / name}: {count:,} rows for the {count:,} images in {images}, which are read with an "
                f"array of labels:\ncd {shlex.quote(str(scan.folder))} && python3 -c {shlex.quote(code)}\nif the rows "
                f"stand in the order of the images; then move {name} away, and run init again"
            )


def _labels(fitting: Sequence[str], hints: Hints, folder: Path) -> str | None:
    """Return the array of classes among those with one value per image, or None. Raises UserError on a tie."""
    called = [name for name in fitting if LABELS.search(_bare_key(name))]
    chosen = called or [name for name in fitting if not NO_LABELS.search(_bare_key(name))]
    if len(chosen) < 2:
        return next(iter(chosen), None)
    wished = [name for name in chosen if hints.label is not None and _key(name) == hints.label.lower()]
    if wished:
        return wished[0]
    raise UserError(
        f"{folder}: {len(chosen)} arrays have a value for each image: {csv_file.examples(list(chosen), 4)}\n"
        f"pass --label {_key(chosen[0])}, or another of them, for the one that holds the classes"
    )


def _bare_key(name: str) -> str:
    """Return an array's key without the words for a part of the data (train, test)."""
    return re.sub(r"train(ing)?|test(ing)?|valid(ation)?|(?<![a-z])val(?![a-z])", "", _key(name)).strip("_-. ")


def _range(root: Path, detected: Detected, pictures: Sequence[str]) -> None:
    """Set one pixel range for the whole data set if the values are neither 0 to 255 nor 0 to 1."""
    spreads = [spread(load(root, name), name) for name in pictures if not is_bytes(root, name)]
    usual = ((0.0, 1.0), (0.0, 255.0))
    if all(part.limits() in usual for part in spreads):
        return
    whole = together(spreads)
    if whole.measured and whole.high - whole.low > 4 * (spreads[0].high - spreads[0].low):
        return  # parts of different scales, which the source refuses
    low, high = whole.limits()
    detected.source["range"] = [low, high]
    detected.assumed.append(f"pixels from {low:g} (black) to {high:g} (white) in every image (source.range)")


def unreadable(folder: Path) -> str:
    """Return one line for each of the first tables and arrays that could not be read."""
    readers: list[tuple[Callable[[Path], Any], list[Path]]] = [
        (csv_file.read, list(_csvs(folder))),
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


def _role(name: str) -> str:
    """Return the part of the data (train, valid, test) that an array's key or its file's name says."""
    return role(_key(name)) or role(name.rpartition("/")[2].partition(":")[0])


def _key(name: str) -> str:
    """Return the name that identifies an array: its key, or its file's name."""
    return re.sub(r"\.np[yz]$", "", name.rpartition(":")[2].rpartition("/")[2].lower())


def _csvs(folder: Path) -> Iterable[Path]:
    tables = [path for path in folder.rglob("*") if path.suffix.lower() in (".csv", ".tsv")]
    return sorted(path for path in tables if path.is_file() and not path.name.startswith("."))
