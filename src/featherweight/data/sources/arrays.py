"""NumPy arrays: `.npz` archives and `.npy` files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8, existing, numbered
from featherweight.errors import UserError, nearest
from featherweight.schema import Index, Text


def arrays(
    root: Path,
    *,
    train: Text,
    labels: Text,
    test: Text | None = None,
    ids: Text | None = None,
    answers: Text | None = None,
    first_id: Index = 0,
) -> Listing:
    """Images [N, H, W] or [N, H, W, C] and labels [N], each as `file.npy` or `file.npz:key`.

    `ids` are those of the test images, `answers` their classes; without ids an image's id is its place, counted from
    `first_id`.
    """

    def trained() -> Samples:
        images = as_uint8(load(root, train), train)
        names = as_labels(load(root, labels), len(images), labels)
        return Samples(numbered(len(images), first_id), images, names)

    def tested() -> Samples:
        assert test is not None
        images = as_uint8(load(root, test), test)
        given = as_labels(load(root, ids), len(images), ids) if ids else numbered(len(images), first_id)
        return Samples(given, images)

    def solved() -> dict[str, str]:
        assert answers is not None
        samples = tested()
        return dict(zip(samples.ids, as_labels(load(root, answers), len(samples.ids), answers), strict=True))

    def files(*names: str | None) -> list[Path]:
        return [existing(root, split(name)[0]) for name in names if name]

    return Listing(
        train=Stored(files(train, labels), trained),
        test=Stored(files(test, ids), tested) if test else None,
        answers=solved if test and answers else None,
    )


def split(name: str) -> tuple[str, str | None]:
    """`file.npz:key` as file and key."""
    file, colon, key = name.rpartition(":")
    return (file, key) if colon and file.lower().endswith(".npz") else (name, None)


def load(root: Path, name: str) -> NDArray[Any]:
    """The array called `file.npy` or `file.npz:key`. Raises UserError for what holds none; nothing in a file runs."""
    file, key = split(name)
    path = existing(root, file)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if key is not None:
                raise UserError(f"{path}: this is one array, with nothing called '{key}' in it")
            return loaded
        with loaded:
            if key is None:
                raise UserError(f"{path}: say which array, as in {file}:KEY; there are {', '.join(loaded.files)}")
            if key not in loaded.files:
                hint = nearest(key, loaded.files)
                raise UserError(f"{path}: there is no array '{key}'{hint}; there are {', '.join(loaded.files)}")
            array: NDArray[Any] = loaded[key]
            return array
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        what = "it holds Python objects" if "allow_pickle" in str(error) else str(error).splitlines()[0]
        raise UserError(f"{path}: not an array file ({what})") from None
