"""torchvision's named data sets, from its files where they lie there already, else by its download.

torchvision compares the files of CIFAR10, CIFAR100, SVHN and STL10 with the checksums it knows at every reading, so a
pickle that is not the original one is not opened. The others are taken as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from featherweight import atomic
from featherweight.console import Progress, say
from featherweight.data.listing import Listing, Samples, Stored, as_labels, numbered
from featherweight.data.pixel_range import as_uint8
from featherweight.errors import UserError
from featherweight.schema import Text

Named = Literal["MNIST", "FashionMNIST", "KMNIST", "QMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10", "USPS"]

BY_SPLIT = ("SVHN", "STL10")  # their constructors say split=, all others train=
# What its constructors raise where a file is absent or no such file, and its downloads where they fail.
REFUSALS = (OSError, RuntimeError, ValueError, TypeError, AssertionError, KeyError, EOFError)


def torchvision(root: Path, *, dataset: Named, path: Text = "torchvision") -> Listing:
    """The set that torchvision calls `dataset`, its files under `path/dataset`; its test labels are the answers.

    Classes have torchvision's names, or are numbers where it has none. An image's id is its index, from 0.
    """
    folder = root / path / dataset

    def samples(part: str, labelled: bool) -> Samples:
        images, labels = read(dataset, folder, part)
        return Samples(numbered(len(images)), images, labels if labelled else None)

    def answers() -> dict[str, str]:
        labels = read(dataset, folder, "test")[1]
        return dict(zip(numbered(len(labels)), labels, strict=True))

    if not _files(folder):
        for part in ("train", "test"):
            read(dataset, folder, part)
    files = _files(folder)
    return Listing(
        train=Stored(files, lambda: samples("train", True)),
        predict=Stored(files, lambda: samples("test", False)),
        answers=answers,
    )


def export(dataset: Named, folder: Path) -> None:
    """Write a set as `folder/train/<class>/*.png` and `folder/test/<class>/*.png`, complete or not at all.

    Raises UserError if it cannot be downloaded.
    """
    with atomic.unfinished(folder.with_name(f".{folder.name}.{os.getpid()}.part")) as beside:
        for part in ("train", "test"):
            images, labels = read(dataset, beside / "download", part, laid_out=folder)
            width = len(str(len(images) - 1))
            with Progress(f"write {part}", len(images), "images") as bar:
                for place, (pixels, label) in enumerate(zip(images, labels, strict=True)):
                    target = beside / "done" / part / label / f"{place:0{width}d}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    Pillow.fromarray(pixels).save(target)
                    bar.advance(1)
        atomic.move(beside / "done", folder)


def read(dataset: Named, folder: Path, part: str, laid_out: Path | None = None) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the images, uint8 [N, H, W] or [N, H, W, 3], and classes of `part` (train or test); download if needed.

    `laid_out` is where the pictures will finally lie, if `folder` is temporary. Raises UserError for files that
    torchvision does not accept and that cannot be downloaded.
    """
    import torchvision.datasets  # seconds

    kind = getattr(torchvision.datasets, dataset)
    choice = {"split": part} if dataset in BY_SPLIT else {"train": part == "train"}
    try:
        content = kind(str(folder), **choice, download=False)
    except REFUSALS as refusal:
        content = _downloaded(kind, folder, choice, refusal, laid_out)
    images = as_uint8(np.asarray(content.data), str(folder))
    numbers = np.asarray(content.labels if hasattr(content, "labels") else content.targets)
    if numbers.ndim == 2:
        numbers = numbers[:, 0]  # QMNIST also lists who wrote a digit
    names = [name.split(" - ")[0] for name in getattr(content, "classes", [])]
    labels = as_labels(numbers, len(images), str(folder))
    return images, [names[int(label)] for label in labels] if names else labels


def _downloaded(
    kind: Any, folder: Path, choice: dict[str, Any], refusal: Exception, laid_out: Path | None = None
) -> Any:
    """Return the set after torchvision's download, which keeps complete files."""
    name, there = kind.__name__, bool(_files(folder))
    where, known = laid_out or folder, " as torchvision knows it" if there else ""
    say(f"{name} is not in {where}{known}: downloading it with torchvision")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return kind(str(folder), **choice, download=True)
    except REFUSALS as error:
        if there:
            raise UserError(
                f"{folder}: torchvision does not take these files for {name} ({_reason(refusal)}), and cannot download "
                f"it ({_reason(error)}); put the files of its authors there, unchanged"
            ) from None
        theirs = (
            "its images there as train/CLASS/*.png and test/CLASS/*.png" if laid_out else "its authors' files there"
        )
        raise UserError(
            f"{name} is not in {where}, and cannot be downloaded ({_reason(error)}); with a network the same command "
            f"continues, or put {theirs}"
        ) from None


def _reason(error: Exception) -> str:
    """Return an error's message on one line, without torchvision's advice to programmers."""
    return " ".join(str(error).split()).partition(". You can use")[0] or type(error).__name__


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
