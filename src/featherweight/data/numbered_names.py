"""File names with numbers for what they show: frames of tracks, photos of one plant."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

LEAST_GROUPS, LEAST_SHARE = 8, 0.6  # fewest groups by a pattern, and share of the images in groups of two or more
LARGEST_GROUP = 0.3  # of all images: what is larger is no group of related images
COUNTER = 3  # numbers within a group are that close together, where they count frames

# Names whose last number counts within what stands before it; names that begin with the number of what they show.
PATTERNS = (r"^(.*\d)[ _.-]+\d+(?:\.\w+)?$", r"^((?:.*/)?[^/\d]*\d+)[ _-][^/]*$")


def sequences(ids: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return the pattern that groups names into numbered sequences (frames of tracks), or None."""
    for pattern in PATTERNS:
        sequence = keys(ids, pattern)
        if sequence is not None and divides(sequence, labels) and counts(ids, sequence):
            return pattern
    return None


def keys(ids: Sequence[str], pattern: str) -> list[str] | None:
    """Return what `pattern` finds in each id, or None if it is missing in one."""
    compiled = re.compile(pattern)
    matches = [compiled.search(id) for id in ids]
    if not all(matches):
        return None
    return ["/".join(filter(None, match.groups())) or match.group() for match in matches if match]


def sizes_of(keys: Sequence[str]) -> list[int]:
    """Return the number of images in each group."""
    return list(Counter(keys).values())


def divides(keys: Sequence[str], labels: Sequence[str]) -> bool:
    """True if groups can be split: at least two in most classes, most images in a group of two or more, none too large.

    A class of one group is left to train on whole. If most classes are one group, the names only repeat the class.
    """
    sizes = sizes_of(keys)
    together = sum(size for size in sizes if size > 1)
    groups_in = Counter(label for label, _ in set(zip(labels, keys, strict=True)))
    return (
        len(sizes) >= LEAST_GROUPS
        and together >= LEAST_SHARE * len(keys)
        and max(sizes) <= LARGEST_GROUP * len(keys)
        and 2 * sum(count == 1 for count in groups_in.values()) <= len(groups_in)
    )


def counts(ids: Sequence[str], keys: Sequence[str]) -> bool:
    """True if the part after a group's name counts its members, as for frames of a track, or is no number."""
    numbers: dict[str, list[int]] = defaultdict(list)
    members: Counter[str] = Counter(keys)
    for id, key in zip(ids, keys, strict=True):
        rest = re.findall(r"\d+", id[len(key) :].rpartition(".")[0] or id[len(key) :])
        if rest:
            numbers[key].append(int(rest[-1]))
    spans = [(max(given) - min(given) + 1) / members[key] for key, given in numbers.items() if len(given) > 1]
    return not spans or float(np.median(spans)) <= COUNTER
