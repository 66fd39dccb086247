"""idx files, as MNIST and its kin come (LeCun, Cortes, Burges: the MNIST database, file formats)."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8, existing, numbered
from featherweight.errors import UserError
from featherweight.schema import Index, Text

LARGEST = 2**34  # bytes; a gzip file of a few kilobytes can claim to be any size


def idx(
    root: Path,
    *,
    images: Text,
    labels: Text,
    test_images: Text | None = None,
    test_labels: Text | None = None,
    first_id: Index = 0,
) -> Listing:
    """Images and labels in idx files, gzipped or not; an image's id is its place, counted from `first_id`."""

    def samples(pictures: Path, names: Path | None) -> Samples:
        array = as_uint8(read(pictures), str(pictures))
        given = as_labels(read(names), len(array), str(names)) if names else None
        return Samples(numbered(len(array), first_id), array, given)

    def answers() -> dict[str, str]:
        given = read(existing(root, str(test_labels)))
        names = as_labels(given, len(given), str(test_labels))
        return dict(zip(numbered(len(names), first_id), names, strict=True))

    trained = existing(root, images), existing(root, labels)
    tested = existing(root, test_images) if test_images else None
    return Listing(
        train=Stored(list(trained), lambda: samples(*trained)),
        test=Stored([tested], lambda: samples(tested, None)) if tested else None,
        answers=answers if tested and test_labels else None,
    )


def read(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in an idx file. Raises UserError where the file is no such thing, cut short or too long."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0":
                raise UserError(f"{path}: not an idx file (it does not begin with two zero bytes)")
            if head[2] != 8:
                raise UserError(f"{path}: an idx file of type {head[2]:#04x}; expected unsigned bytes (0x08)")
            sizes = stream.read(4 * head[3])
            if not 1 <= head[3] <= 4 or len(sizes) < 4 * head[3]:
                raise UserError(f"{path}: an idx file of {head[3]} dimensions; expected 1 to 4, and their sizes")
            shape = [int(size) for size in np.frombuffer(sizes, ">u4")]
            wanted = prod(shape)
            if wanted > LARGEST:
                raise UserError(f"{path}: says that it holds {'x'.join(map(str, shape))} bytes, which is too much")
            content = stream.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if len(content) != wanted:
        have = f"{len(content):,}" if len(content) < wanted else "more"
        raise UserError(f"{path}: says that it holds {'x'.join(map(str, shape))} bytes, but holds {have}")
    return np.frombuffer(content, np.uint8).reshape(shape)
