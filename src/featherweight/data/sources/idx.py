"""idx files, as MNIST and its relatives come (LeCun, Cortes, Burges: the MNIST database, file formats)."""

from __future__ import annotations

from pathlib import Path

from featherweight.data.listing import Listing, Samples, Stored, as_labels, existing, numbered
from featherweight.data.pixel_range import as_uint8
from featherweight.data.safe_arrays import read_idx
from featherweight.schema import NonNegativeInt53, Text


def idx(
    root: Path,
    *,
    images: Text,
    labels: Text,
    test_images: Text | None = None,
    test_labels: Text | None = None,
    first_id: NonNegativeInt53 = 0,
) -> Listing:
    """Images and labels in idx files, gzipped or not; an image's id is its index, counted from `first_id`."""

    def samples(pictures: Path, names: Path | None) -> Samples:
        array = as_uint8(read_idx(pictures), str(pictures))
        labels = as_labels(read_idx(names), len(array), str(names)) if names else None
        return Samples(numbered(len(array), first_id), array, labels)

    def answers() -> dict[str, str]:
        labels = read_idx(existing(root, str(test_labels)))
        names = as_labels(labels, len(labels), str(test_labels))
        return dict(zip(numbered(len(names), first_id), names, strict=True))

    trained = existing(root, images), existing(root, labels)
    tested = existing(root, test_images) if test_images else None
    return Listing(
        train=Stored(list(trained), lambda: samples(*trained)),
        predict=Stored([tested], lambda: samples(tested, None)) if tested else None,
        answers=answers if tested and test_labels else None,
    )
