"""NumPy arrays: `.npz` archives and `.npy` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featherweight.data import safe_arrays
from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8, existing, numbered
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
    return safe_arrays.load(existing(root, file), key)
