"""Which images are related: by a column, a pattern in their names, or near-duplicates; and what ignoring it would cost.

Related images on both sides of a split make the holdout score too good, because what is held out was nearly seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data import near_duplicates, numbered_names
from featherweight.data.detect.detected import Detected
from featherweight.data.image import Image, decode, fit
from featherweight.data.listing import Samples
from featherweight.errors import UserError, count_of

MOST = 4000  # images that are looked at for near-duplicates when a competition is described; inspect looks at all
SIDE = 32  # pixels, of the pictures that are compared
HELD_OUT = 0.1  # part of the groups that a usual split holds out

STEM = r"([^/]+)$"  # the same name in several class folders
NEAR = (*numbered_names.PATTERNS, STEM, r"^(.*?)[ _.-]*\d+\.\w+$", r"^(.*?)[_-][^_/-]*$")


def propose(
    train: Samples,
    predict: Samples | None,
    detected: Detected,
    wish: str | None,
    image: Mapping[str, Any],
    assumed: list[str],
) -> dict[str, Any]:
    """Return the keys of a competition file that keep related images together, and add messages to `assumed`.

    `image` is its image section, which says what is black and what white. `wish` is a column (then the source has it),
    a regular expression over ids, or none.
    """
    if wish == "none":
        return {}
    if train.groups is not None:
        sizes = Counter(train.groups)
        column = detected.source.get("group", "")
        assumed.append(f"  source.group: {column}: {_leak(list(sizes.values()))} (pass --group none to ignore it)")
        return {}
    if wish is not None:
        return {"group": _by_pattern(train, wish)}
    labels = [name if isinstance(name, str) else " ".join(name) for name in train.labels or ()]
    pattern = numbered_names.sequences(train.ids, labels)
    if pattern is not None:
        keys = numbered_names.keys(train.ids, pattern) or []
        if keys:
            leak = _leak(numbered_names.sizes_of(keys))
            assumed.append(f"  group: '{pattern}', numbered sequences in the names: {leak} (--group none)")
            return {"group": pattern}
    return _by_pictures(train, labels, image, assumed)


def _by_pattern(train: Samples, pattern: str) -> str:
    try:
        keys = numbered_names.keys(train.ids, pattern)
    except re.error as error:
        raise UserError(
            f"--group {pattern}: no column of the label table, and no regular expression ({error})"
        ) from None
    if keys is None:
        raise UserError(
            f"--group {pattern}: no column of the label table, and as a pattern it is not found in every id, such as "
            f"{train.ids[0]}"
        )
    return pattern


def _leak(sizes: Sequence[int]) -> str:
    """Return in words the groups, and the share of held-out images that would have related images in training."""
    total = sum(sizes)
    leaked = sum(size * (1 - HELD_OUT ** (size - 1)) for size in sizes) / max(total, 1)
    each = count_of(max(sizes), "image")
    if min(sizes) < max(sizes):
        each = f"{min(sizes):,} to {each}"
    return (
        f"{count_of(len(sizes), 'group')} of {each} stay together; else {leaked:.0%} of the held-out images would have "
        "related images in training"
    )


# ------------------------------------------------------------------------------------------------------ by the pictures


def _by_pictures(train: Samples, labels: Sequence[str], image: Mapping[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Return the pattern that joins near-duplicates, if there are many."""
    places = _some(len(train.ids))
    images = small(train, places, image)
    same = near_duplicates.groups(images)
    copied = sum(map(len, same))
    if copied < 0.02 * len(places) or copied < 4:
        return {}
    looked = "" if len(places) == len(train.ids) else f" (of {len(places):,} images looked at; inspect looks at all)"
    ids = [train.ids[place] for place in places]
    for pattern in NEAR:
        keys = numbered_names.keys(ids, pattern)
        if keys is None:
            continue
        joined = sum(len({keys[place] for place in group}) == 1 for group in same)
        everywhere = numbered_names.keys(train.ids, pattern)
        if joined >= 0.9 * len(same) and everywhere is not None and numbered_names.divides(everywhere, labels):
            what = f"'{pattern}', which joins {copied:,} near-duplicates{looked}"
            assumed.append(f"  group: {what}: {_leak(numbered_names.sizes_of(everywhere))} (pass --group none)")
            return {"group": pattern}
    assumed.append(
        f"  no group: {copied:,} images are near-duplicates of others{looked}, and nothing in their names joins them: "
        f"./run.sh inspect writes the grouping that keeps them together"
    )
    return {}


def _some(count: int) -> list[int]:
    """Return all places or, for many images, blocks of neighbours, since related images mostly lie side by side."""
    if count <= MOST:
        return list(range(count))
    blocks = np.linspace(0, count - 100, MOST // 100).astype(int)
    return sorted({int(place) for first in blocks for place in range(first, first + 100)})


def small(train: Samples, places: Sequence[int], section: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return these images as uint8 [N, 32, 32, 3]; grey if one cannot be read."""
    image = Image(
        size=SIDE, channels=3, mirror=False, levels=section.get("levels", 65535), black=section.get("black", 0)
    )
    pictures = np.full((len(places), SIDE, SIDE, 3), 127, dtype=np.uint8)
    for row, place in enumerate(places):
        picture = train.images[place]
        try:
            pictures[row] = fit(picture, image) if isinstance(picture, np.ndarray) else decode(picture, image)
        except UserError:
            continue  # packing names it
    return pictures
