"""torchvision's data sets as folders of images, for people with the internet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from featherweight.errors import UserError
from featherweight.progress import Progress, say


def export(name: str, folder: Path) -> None:
    """Download a torchvision data set and lay it out as `folder/train/<class>/*.png` and `folder/test/<class>/*.png`.

    The folder appears whole or not at all. Raises UserError when the data set is unknown or the download fails.
    """
    import torchvision

    data_set = getattr(torchvision.datasets, name, None)
    if data_set is None:
        raise UserError(f"torchvision has no data set called {name}")
    say(f"{folder} is not there: downloading {name} with torchvision")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for part in ("train", "test"):
            try:
                images = data_set(str(beside / "download"), train=part == "train", download=True)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"there is no data folder {folder}, and {name} cannot be downloaded ({error}); "
                    f"put train/<class>/* and test/<class>/* there"
                ) from None
            width = len(str(len(images) - 1))
            with Progress(f"write {part}", len(images), "images") as bar:
                for place, (picture, label) in enumerate(images):
                    target = beside / "done" / part / images.classes[label] / f"{place:0{width}d}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    picture.save(target)
                    bar.advance(1)
        (beside / "done").rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
