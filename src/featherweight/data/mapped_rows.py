"""Rows of image arrays: copied if they are small, else read from the mapped file when needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.fingerprint import fingerprint
from featherweight.data.photos import Photos

BLOCK = 2**24  # bytes of an array that are hashed at a time
IN_MEMORY = 2**30  # bytes: a part of a pack up to this size is copied into the memory, a larger one stays mapped


class MappedRows:
    """Rows of arrays that stay on disk; only what is indexed is read.

    `places`, int64 [N], count through the arrays one after another; the arrays differ in length only.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]], places: NDArray[np.int64]) -> None:
        self.arrays, self.places = list(arrays), places
        first = self.arrays[0]
        self.shape, self.dtype, self.ndim = (len(places), *first.shape[1:]), first.dtype, first.ndim
        self.nbytes = len(places) * math.prod(first.shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return a copy of the images at `key` (an index, a slice or an array); further indices apply within images."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        images = self._read(self.places[first])
        if not rest:
            return images
        return images[(slice(None), *rest)] if images.ndim == self.ndim else images[tuple(rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._read(self.places), dtype=dtype)

    def _read(self, places: Any) -> NDArray[np.uint8]:
        if len(self.arrays) == 1:
            only: NDArray[np.uint8] = self.arrays[0][places]
            return only
        places, start = np.asarray(places), 0
        read = np.empty((*places.shape, *self.shape[1:]), self.dtype)
        for array in self.arrays:
            here = (places >= start) & (places < start + len(array))
            read[here] = array[places[here] - start]
            start += len(array)
        return read


def take_rows(images: Any, places: NDArray[np.int64]) -> Any:
    """Return a copy of these rows or, for large mapped arrays, a view that reads them when needed."""
    if isinstance(images, Photos):
        return images.take(places)
    if len(places) * math.prod(images.shape[1:]) > IN_MEMORY:
        if isinstance(images, MappedRows):
            return MappedRows(images.arrays, images.places[places])
        if isinstance(images, np.memmap):
            return MappedRows([images], places)
    return np.asarray(images[places])


def identity(images: Any) -> Iterator[bytes]:
    """Yield what identifies images: the file and rows of a pack, without reading it, or the bytes of an array."""
    yield repr(images.shape).encode()
    if isinstance(images, Photos):
        yield from (images.rows.tobytes(), repr(images.crop).encode())
    elif isinstance(images, MappedRows):
        yield images.places.tobytes()
    arrays = getattr(images, "files", None) or getattr(images, "arrays", None) or [images]
    for array in arrays:
        if isinstance(array, np.memmap) and isinstance(
            getattr(array, "base", None), mmap
        ):  # a whole file, no part of one
            yield fingerprint([str(array.filename)]).encode()
        else:
            step = max(1, BLOCK // max(array[:1].nbytes, 1))
            yield from (np.ascontiguousarray(array[at : at + step]).tobytes() for at in range(0, len(array), step))


def joined_rows(one: Any, other: Any) -> Any:
    """Return one set of images followed by the other: copied or, if large, a view of both."""
    if isinstance(one, Photos) and isinstance(other, Photos):
        return one.and_more(other)
    if one.nbytes + other.nbytes <= IN_MEMORY:
        return np.concatenate([np.asarray(one), np.asarray(other)])
    arrays: list[NDArray[np.uint8]] = []
    places: list[NDArray[np.int64]] = []
    for images in (one, other):
        start = sum(map(len, arrays))
        places.append(start + (images.places if isinstance(images, MappedRows) else np.arange(len(images))))
        arrays += images.arrays if isinstance(images, MappedRows) else [images]
    return MappedRows(arrays, np.concatenate(places))
