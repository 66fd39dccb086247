"""Arrays: `.npz` archives, `.npy` and HDF5 files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data import safe_arrays
from featherweight.data.listing import Listing, Samples, Stored, as_labels, existing, numbered
from featherweight.data.pixel_range import as_uint8, limits_of, spread
from featherweight.data.scientific import package
from featherweight.errors import UserError, nearest
from featherweight.schema import NonNegativeInt53, Number, Text
from featherweight.untrusted_files import explained

HDF5 = (".h5", ".hdf5", ".hdf")


def arrays(  # the parameters are the keys of a competition's file
    root: Path,
    *,
    train: Text,
    labels: Text,
    test: Text | None = None,
    ids: Text | None = None,
    answers: Text | None = None,
    valid: Text | None = None,
    valid_labels: Text | None = None,
    range: list[Number] = [],
    first_id: NonNegativeInt53 = 0,
) -> Listing:
    """Images [N, H, W] or [N, H, W, C] and labels [N], each as `file.npy`, `file.npz:key` or `file.h5:key`.

    `valid` and `valid_labels` are held out. `ids` are those of the test images, `answers` their classes; without ids an
    image's id is its place, counted from `first_id`. The `range` of the numbers is from black to white, in all parts;
    by default 0 to 255, or 0 to 1, or the levels of up to 16 bits, whichever `train` fills.
    """
    given = (range[0], range[-1]) if range else None

    def pictures(name: str) -> NDArray[np.uint8]:
        values, limits = load(root, name), given
        if limits is None and name != train and values.dtype != np.uint8:
            limits = limits_of(spread(load(root, train), train), spread(values, name), train)
        return as_uint8(values, name, limits)

    def part(name: str, classes: str | None = None, ids: str | None = None) -> Samples:
        images = pictures(name)
        return Samples(
            as_labels(load(root, ids), len(images), ids) if ids else numbered(len(images), first_id),
            images,
            as_labels(load(root, classes), len(images), classes) if classes else None,
            places=_places(root, name, len(images)),
        )

    def solved(name: str, answers: str) -> dict[str, str]:
        listed = part(name, None, ids).ids
        return dict(zip(listed, as_labels(load(root, answers), len(listed), answers), strict=True))

    def files(*names: str | None) -> list[Path]:
        return [existing(root, split(name)[0]) for name in names if name]

    return Listing(
        train=Stored(files(train, labels), partial(part, train, labels)),
        predict=Stored(files(test, ids), partial(part, test, None, ids)) if test else None,
        valid=Stored(files(valid, valid_labels), partial(part, valid, valid_labels or valid)) if valid else None,
        answers=partial(solved, test, answers) if test and answers else None,
    )


def split(name: str) -> tuple[str, str | None]:
    """Split `file.npz:key` into file and key."""
    file, colon, key = name.rpartition(":")
    return (file, key) if colon and file.lower().endswith((".npz", *HDF5)) else (name, None)


def _places(root: Path, name: str, count: int) -> list[str]:
    return [f"{root / split(name)[0]}:{row}" for row in range(1, count + 1)]


def load(root: Path, name: str) -> NDArray[Any]:
    """Return the array `file.npy`, `file.npz:key` or `file.h5:key`. No code in a file is run.

    Raises UserError if there is no such array.
    """
    file, key = split(name)
    if file.lower().endswith(HDF5):
        return _of_hdf5(existing(root, file), key)
    return safe_arrays.load(existing(root, file), key)


def is_bytes(root: Path, name: str) -> bool:
    """True if the array holds bytes or booleans, whose black and white are known; the array is not read."""
    file, key = split(name)
    if file.lower().endswith(HDF5):
        h5py = package("h5py", f"{root / file}: an HDF5 file")
        with explained(root / file, "not an HDF5 file"), h5py.File(root / file, "r") as opened:
            return bool(opened[key].dtype in (np.uint8, np.bool_))
    return safe_arrays.declared(root / file)[key].dtype in (np.uint8, np.bool_)


def hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an HDF5 file's arrays by key. Raises UserError for other files or if h5py is missing."""
    h5py = package("h5py", f"{path}: an HDF5 file")
    shapes: dict[str, tuple[int, ...]] = {}
    with explained(path, "not an HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(lambda key, item: shapes.update({key: item.shape} if hasattr(item, "shape") else {}))
    return shapes


def _of_hdf5(path: Path, key: str | None) -> NDArray[Any]:
    shapes = hdf5_shapes(path)
    if key not in shapes:
        hint = nearest(key or "", shapes)
        raise UserError(f"{path}: name the array, as in {path.name}:KEY{hint}; there are {', '.join(shapes)}")
    h5py = package("h5py", f"{path}: an HDF5 file")
    with explained(path, "not an HDF5 file"), h5py.File(path, "r") as file:
        values: NDArray[Any] = file[key][()]
    return values
