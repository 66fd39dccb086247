"""Arrays: `.npz` archives, `.npy` and HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featherweight.data import safe_arrays
from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8, existing, numbered
from featherweight.data.scientific import package
from featherweight.errors import UserError, nearest
from featherweight.schema import Index, Text
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
    first_id: Index = 0,
) -> Listing:
    """Images [N, H, W] or [N, H, W, C] and labels [N], each as `file.npy`, `file.npz:key` or `file.h5:key`.

    `valid` and `valid_labels` are held out. `ids` are those of the test images, `answers` their classes; without ids an
    image's id is its place, counted from `first_id`.
    """

    def trained() -> Samples:
        images = as_uint8(load(root, train), train)
        names = as_labels(load(root, labels), len(images), labels)
        return Samples(numbered(len(images), first_id), images, names, places=_places(root, train, len(images)))

    def held_out() -> Samples:
        assert valid is not None
        images = as_uint8(load(root, valid), valid)
        names = as_labels(load(root, valid_labels or valid), len(images), valid_labels or valid)
        return Samples(numbered(len(images), first_id), images, names, places=_places(root, valid, len(images)))

    def tested() -> Samples:
        assert test is not None
        images = as_uint8(load(root, test), test)
        names = as_labels(load(root, ids), len(images), ids) if ids else numbered(len(images), first_id)
        return Samples(names, images, places=_places(root, test, len(images)))

    def solved() -> dict[str, str]:
        assert answers is not None
        samples = tested()
        return dict(zip(samples.ids, as_labels(load(root, answers), len(samples.ids), answers), strict=True))

    def files(*names: str | None) -> list[Path]:
        return [existing(root, split(name)[0]) for name in names if name]

    return Listing(
        train=Stored(files(train, labels), trained),
        test=Stored(files(test, ids), tested) if test else None,
        valid=Stored(files(valid, valid_labels), held_out) if valid else None,
        answers=solved if test and answers else None,
    )


def split(name: str) -> tuple[str, str | None]:
    """`file.npz:key` as file and key."""
    file, colon, key = name.rpartition(":")
    return (file, key) if colon and file.lower().endswith((".npz", *HDF5)) else (name, None)


def _places(root: Path, name: str, count: int) -> list[str]:
    return [f"{root / split(name)[0]}:{row}" for row in range(1, count + 1)]


def load(root: Path, name: str) -> NDArray[Any]:
    """The array called `file.npy`, `file.npz:key` or `file.h5:key`. Nothing in a file runs.

    Raises UserError for what holds no such array.
    """
    file, key = split(name)
    if file.lower().endswith(HDF5):
        return _of_hdf5(existing(root, file), key)
    return safe_arrays.load(existing(root, file), key)


def hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays of an HDF5 file by their keys. Raises UserError where it is none, or h5py is missing."""
    h5py = package("h5py", f"{path}: an HDF5 file")
    shapes: dict[str, tuple[int, ...]] = {}
    with explained(path, "not an HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(lambda key, item: shapes.update({key: item.shape} if hasattr(item, "shape") else {}))
    return shapes


def _of_hdf5(path: Path, key: str | None) -> NDArray[Any]:
    shapes = hdf5_shapes(path)
    if key not in shapes:
        hint = nearest(key or "", shapes)
        raise UserError(f"{path}: say which array, as in {path.name}:KEY{hint}; there are {', '.join(shapes)}")
    h5py = package("h5py", f"{path}: an HDF5 file")
    with explained(path, "not an HDF5 file"), h5py.File(path, "r") as file:
        values: NDArray[Any] = file[key][()]
    return values
