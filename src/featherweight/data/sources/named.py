"""torchvision's named data sets, from its files where they lie there already, else by its download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8
from featherweight.errors import UserError
from featherweight.progress import say
from featherweight.schema import Text

BY_SPLIT = ("SVHN", "STL10")  # their constructors say split=, all others train=


def torchvision(
    root: Path,
    *,
    dataset: Literal["MNIST", "FashionMNIST", "KMNIST", "QMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10", "USPS"],
    path: Text = "torchvision",
) -> Listing:
    """The set that torchvision calls `dataset`, its files under `path/dataset`; its test labels are the answers.

    Classes have torchvision's names, or are numbers where it has none.
    """
    folder = root / path / dataset

    def samples(part: str, labelled: bool) -> Samples:
        images, labels = _load(dataset, folder, part)
        return Samples([str(place) for place in range(len(images))], images, labels if labelled else None)

    def answers() -> dict[str, str]:
        return {str(place): label for place, label in enumerate(_load(dataset, folder, "test")[1])}

    if not _files(folder):
        _load(dataset, folder, "train")
        _load(dataset, folder, "test")
    files = _files(folder)
    return Listing(
        train=Stored(files, lambda: samples("train", True)),
        test=Stored(files, lambda: samples("test", False)),
        answers=answers,
    )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _load(dataset: str, folder: Path, part: str) -> tuple[NDArray[np.uint8], list[str]]:
    import torchvision.datasets  # seconds

    kind = getattr(torchvision.datasets, dataset)
    choice = {"split": part} if dataset in BY_SPLIT else {"train": part == "train"}
    try:
        try:
            content = kind(str(folder), **choice, download=False)
        except RuntimeError:  # its files are not there, or not what they were
            say(f"{dataset} is not in {folder}: downloading it with torchvision")
            folder.mkdir(parents=True, exist_ok=True)
            content = kind(str(folder), **choice, download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{dataset} is not in {folder}, and cannot be downloaded ({error}); put the files of its authors there"
        ) from None
    images = as_uint8(np.asarray(content.data), str(folder))
    numbers = np.asarray(content.labels if hasattr(content, "labels") else content.targets)
    names = [name.split(" - ")[0] for name in getattr(content, "classes", [])]
    labels = as_labels(numbers, len(images), str(folder))
    return images, [names[int(label)] for label in labels] if names else labels
