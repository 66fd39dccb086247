"""Related images, numbered sequences in names and copies, must not stand on both sides of a split.

Where they do, the holdout score is too good: what is held out was nearly seen in training.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherweight.data import near_duplicates
from featherweight.data.near_duplicates import Joined
from featherweight.data.pack import Pack

LEAST_GROUPS, LEAST_SHARE = (
    8,
    0.6,
)  # a pattern makes at least this many groups, with this part of the images in groups of two and more
LARGEST_GROUP = 0.3  # of all images: what is larger is no group of related images
COUNTER = 3  # numbers within a group are that close together, where they count frames
WARNED = 0.01  # of the held-out images with related ones in training: more than that is a warning
NEAR = 20_000  # images in which near-copies are looked for before a training; inspect looks at any number
LARGEST = 2**30  # bytes of images that are read for it

# Names whose last number counts within what stands before it; names that begin with the number of what they show.
PATTERNS = (r"^(.*\d)[ _.-]+\d+(?:\.\w+)?$", r"^((?:.*/)?[^/\d]*\d+)[ _-][^/]*$")


def sequences(ids: Sequence[str], labels: Sequence[str]) -> str | None:
    """The pattern under which the names are numbered sequences, as tracks of frames; None where they are not."""
    for pattern in PATTERNS:
        found = keys(ids, pattern)
        if found is not None and divides(found, labels) and counts(ids, found):
            return pattern
    return None


@dataclass(frozen=True)
class Leak:
    """What is wrong in words, and which held-out images, bool [N], have related ones among those trained on."""

    warnings: list[str]
    related: NDArray[np.bool_]


def related_images(train: Pack, holdout: Pack, grouped: bool, classes: Sequence[str]) -> Leak:
    """Which related images are split between `train` and `holdout`, and which copies have different classes.

    Names are not asked where the competition groups its images (`grouped`). Near-copies are looked for where there are
    not too many images. There is no warning where hardly any are related.
    """
    related, found = np.zeros(len(holdout), dtype=bool), []
    count = len(train) + len(holdout)
    one_class = train.labels is not None and holdout.labels is not None and train.labels.ndim == 1
    labels = np.concatenate([train.labels, holdout.labels]) if one_class else None
    if not grouped and labels is not None:
        ids = [*train.ids, *holdout.ids]
        pattern = sequences(ids, [str(label) for label in labels])
        key_of = keys(ids, pattern) if pattern else None
        if key_of is not None:
            known = set(key_of[: len(train)])
            related |= [key in known for key in key_of[len(train) :]]
            if related.mean() >= WARNED:
                found.append(
                    f"{related.mean():.0%} of the held-out images are of a numbered sequence that is trained on too, "
                    f"by their names: say group: '{pattern}' in the competition's file"
                )
    disputes = []
    if count * int(np.prod(train.images.shape[1:])) <= LARGEST:
        near = count <= NEAR
        same = near_duplicates.groups(Joined(train.images, holdout.images), near)
        copied = [place - len(train) for group in same if group[0] < len(train) for place in group]
        related[[place for place in copied if place >= 0]] = True
        if not found and related.mean() >= WARNED:
            kind = "copy" if not near else "copy or near-copy"
            found.append(
                f"{related.mean():.1%} of the held-out images have a {kind} that is trained on: ./run.sh inspect "
                f"COMPETITION writes the grouping that keeps them together"
            )
        disputes = [] if labels is None else _disputes([*train.ids, *holdout.ids], labels, same, classes)
    return Leak([*(f"the score will be too good: {line}" for line in found), *disputes], related)


def _disputes(
    ids: Sequence[str], labels: NDArray[np.int64], same: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[str]:
    """In a line, the pictures that stand there with different classes; the first of them by name."""
    disputed = [group for group in same if len(set(labels[group].tolist())) > 1]
    if not disputed:
        return []
    one = disputed[0]
    other = next(place for place in one if labels[place] != labels[one[0]])
    first = " and ".join(f"{ids[place]} is {classes[labels[place]]}" for place in (one[0], other))
    count = f"{len(disputed):,} picture{'s stand' if len(disputed) > 1 else ' stands'}"
    return [f"{count} there with different classes, as {first}: correct them, or take them out"]


def keys(ids: Sequence[str], pattern: str) -> list[str] | None:
    """What `pattern` finds in each id; None where it is not found in all of them."""
    compiled = re.compile(pattern)
    matches = [compiled.search(id) for id in ids]
    if not all(matches):
        return None
    return ["/".join(filter(None, match.groups())) or match.group() for match in matches if match]


def sizes_of(keys: Sequence[str]) -> list[int]:
    """How many images each group has."""
    return list(Counter(keys).values())


def divides(keys: Sequence[str], labels: Sequence[str]) -> bool:
    """Are there groups to divide, in every class? Most images are in groups of two or more, and none holds most."""
    sizes = sizes_of(keys)
    company = sum(size for size in sizes if size > 1)
    groups_in = Counter(label for label, _ in set(zip(labels, keys, strict=True)))
    return (
        len(sizes) >= LEAST_GROUPS
        and company >= LEAST_SHARE * len(keys)
        and max(sizes) <= LARGEST_GROUP * len(keys)
        and min(groups_in.values()) >= 2
    )


def counts(ids: Sequence[str], keys: Sequence[str]) -> bool:
    """Does what follows a group's name count its members (or is no number), as frames of a track are counted?"""
    numbers: dict[str, list[int]] = defaultdict(list)
    members: Counter[str] = Counter(keys)
    for id, key in zip(ids, keys, strict=True):
        rest = re.findall(r"\d+", id[len(key) :].rpartition(".")[0] or id[len(key) :])
        if rest:
            numbers[key].append(int(rest[-1]))
    spans = [
        (max(counters) - min(counters) + 1) / members[key] for key, counters in numbers.items() if len(counters) > 1
    ]
    return not spans or float(np.median(spans)) <= COUNTER
