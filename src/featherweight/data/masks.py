"""Segmentation masks beside the images they belong to; they are not images to classify."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence

BRANCH = re.compile(r"(binary|lung|lesion|segmentation)?[ _-]*(masks?|segmentations?|ground[ _-]?truths?|gt|trimaps?)$")
ANNOTATIONS = re.compile(r"(annotations?|labels?)$")
PICTURES = re.compile(r"(images?|imgs?|pictures?|photos?|originals?|jpe?gs?|pngs?|scans?|x-?rays?|cxr)$")
SUFFIX = re.compile(r"[ ._-]+(final[ _-]?)?(masked|masks?|segmentation|segmented|ground[ _-]?truth)([ ._-]*\d+)?$")
WORDS = ("mask", "seg", "gt", "ground", "trimap")


def masks_among(files: Sequence[str]) -> set[str]:
    """Return the files that are masks of others: `x_mask.png` beside `x.png`, `masks/x.png` beside `images/x.png`.

    A folder counts as masks only if most of its files have an image, so that a class called mask remains one.
    """
    suspects = [file for file in files if any(word in file.lower() for word in WORDS)]
    if not suspects:
        return set()
    stems: set[str] = set()
    for file in files:
        folder, slash, name = file.lower().rpartition("/")
        stems.add(f"{_places(folder)}{slash}{_stem(name)}")
    own = {_stem(file.lower()) for file in files}
    beside, within = set(), []
    for file in suspects:
        stem = _stem(file.lower())
        if (bare := SUFFIX.sub("", stem)) != stem and bare in own:
            beside.add(file)
        elif (at := _branch(file)) is not None:
            within.append((file, at))
    of = {file: at for file, at in within if _image(file, at) & stems}
    paired = Counter(_top(file, at) for file, at in of.items())
    whole = Counter(_top(file, at) for file, at in within)
    return beside | {file for file, at in within if paired[_top(file, at)] > whole[_top(file, at)] / 2}


def told(masks: Collection[str]) -> str:
    """Return the number of masks, in words."""
    return f"{len(masks):,} masks of other images, as {min(masks)}"


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def _branch(file: str) -> int | None:
    """Return the index of the path component that is a folder of masks, or None."""
    parts = file.lower().split("/")[:-1]
    return next((place for place, part in enumerate(parts) if BRANCH.match(part)), None)


def _top(file: str, at: int) -> str:
    return "/".join(file.split("/")[: at + 1])


def _places(folder: str) -> str:
    """Return a path with the names of picture folders replaced by `*`, to compare with a mask's path."""
    parts = folder.split("/")
    return "/".join("*" if PICTURES.match(part) else part for part in parts)


def _image(file: str, at: int) -> set[str]:
    """Return the names that a mask's image may have, spelled as by `_places`."""
    parts = file.lower().split("/")
    parts[at] = "*"
    folder = _places("/".join(parts[:-1]))
    stem = _stem(parts[-1])
    above = _places("/".join([*parts[:at], *parts[at + 1 : -1]])) if at else folder  # class/x.png, class/masks/x.png
    places = [folder, above]
    if at and ANNOTATIONS.match(parts[at - 1]):  # images/x.png, annotations/masks/x.png
        places.append(_places("/".join([*parts[: at - 1], *parts[at:-1]])))
    return {f"{place}/{name}" for place in places for name in (stem, SUFFIX.sub("", stem))}
