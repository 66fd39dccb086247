"""Where a competition's images come from: each source lists what there is, decodes nothing, and keeps the test answers
behind a function that only the scorer calls.

A source takes the data folder and its own keyword-only arguments: the keys of a competition's `source` section.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError
from featherweight.schema import Index, Text

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Samples:
    """Images by id, still to decode (files) or decoded (uint8 [N, H, W] or [N, H, W, C]); their classes, if known."""

    ids: list[str]
    images: list[Path] | NDArray[np.uint8]
    labels: list[str] | None = None


@dataclass(frozen=True)
class Listing:
    """What a source found. `answers` gives the test images' classes by id, where they are known."""

    train: Samples
    test: Samples | None = None
    answers: Callable[[], dict[str, str]] | None = None


def digits(root: Path, *, seed: Index = 0) -> Listing:
    """The 1,797 handwritten 8x8 digits that come with scikit-learn (UCI Optical Recognition of Handwritten Digits).

    One in five of each class, by `seed`, is the hidden test; ids are the images' places in the original order.
    """
    from sklearn.datasets import load_digits  # over a second to import

    from featherweight.data.split import holdout_ranks

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = [str(label) for label in bunch.target]
    ids = [f"{place:04d}" for place in range(len(labels))]
    hidden = holdout_ranks(ids, labels, 0.2, seed)

    def part(mask: NDArray[np.bool_], labelled: bool) -> Samples:
        places = np.flatnonzero(mask)
        return Samples([ids[i] for i in places], images[places], [labels[i] for i in places] if labelled else None)

    return Listing(
        train=part(~hidden, labelled=True),
        test=part(hidden, labelled=False),
        answers=lambda: {ids[i]: labels[i] for i in np.flatnonzero(hidden)},
    )


def folders(root: Path, *, path: Text, torchvision: Text | None = None) -> Listing:
    """`train/<class>/*` and `test/<class>/*` (or a flat `test/*`) under `path`; an id is the path below train or test.

    `torchvision` names the torchvision data set that fills the folder when it is not there and the internet is.
    """
    folder = root / path
    if not folder.is_dir():
        if torchvision is None:
            raise UserError(f"there is no data folder {folder}: put train/<class>/* and test/* there")
        from featherweight.data.download import export

        export(torchvision, folder)
    train = _files(folder / "train")
    if not train:
        raise UserError(f"there are no images in {folder / 'train'}: expected train/<class>/*.jpg, .png, ...")
    loose = next((file for file in train if "/" not in file), None)
    if loose:
        raise UserError(f"{folder / 'train' / loose}: this image is in no class folder; expected train/<class>/{loose}")
    test = _files(folder / "test")
    known = bool(test) and all("/" in file for file in test)
    return Listing(
        train=Samples(train, [folder / "train" / file for file in train], [file.split("/")[0] for file in train]),
        test=Samples(test, [folder / "test" / file for file in test]) if test else None,
        answers=(lambda: {file: file.split("/")[0] for file in test}) if known else None,
    )


def _files(folder: Path) -> list[str]:
    """Every image under `folder` as a path below it, sorted."""
    found = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in ENDINGS]
    return sorted(found)


SOURCES: dict[str, Callable[..., Listing]] = {
    "digits": digits,
    "folders": folders,
}
