"""Groups of related images: copies, near-duplicates, frames of a track. If a split separates them, the holdout
score is too good, because held-out images were nearly seen in training.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featherweight import atomic
from featherweight.data import near_duplicates, numbered_names
from featherweight.data.fingerprint import digest
from featherweight.data.image import Image
from featherweight.data.near_duplicates import Joined
from featherweight.data.pack import Pack
from featherweight.data.split import rarest
from featherweight.errors import count_of

VERSION = 1  # of the groups stored beside a pack: another search stores them anew
MOST_SEARCHED = 200_000  # images in which near-duplicates are searched for before training; inspect searches any number
LARGEST = 2**34  # bytes of images that are read for it
FEW_BYTES = 2**24  # of images in memory only, whose groups are remembered
TOO_LARGE = 0.3  # of all images: a larger group is not one picture with its copies


@dataclass(frozen=True)
class ImageGroups:
    """Groups of images: those with the same number in `group`, int64 [N], are related. `by` says in words why, and
    `same` lists the images that show the same picture, in groups of two or more places. `apart` of these images are in
    groups that are too large to be kept together. `are_declared`: the competition states the groups of the training
    images; `ungrouped` of these are in none.
    """

    group: NDArray[np.int64]
    by: list[str] = field(default_factory=list)
    same: list[list[int]] = field(default_factory=list)
    apart: int = 0
    ungrouped: int = 0
    are_declared: bool = False

    def related_to(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return True [N] for the images at `places` and those related to them."""
        return np.isin(self.group, self.group[places])


def find(train: Pack, valid: Pack | None = None, declared: Sequence[str] | None = None) -> ImageGroups:
    """Find groups of related labelled images; those of `valid` come after those of `train`.

    `declared` [N of train] are groups that the competition states; without them, numbered sequences are searched for in
    the names. Copies and near-duplicates are joined in both cases, but no group becomes larger than TOO_LARGE of all
    images by that.
    """
    packs = [train] if valid is None else [train, valid]
    named = by_names(packs, declared)
    same = _same(packs)
    largest = max(TOO_LARGE * len(named.group), np.bincount(named.group).max())
    kept = [pictures for pictures in same if len(pictures) <= largest]
    joined = _joined(named.group, kept)
    if np.bincount(joined).max() > largest:  # chains of groups that each share a picture with the next
        chained = np.bincount(joined)[joined] > largest
        kept = [pictures for pictures in kept if not chained[pictures[0]]]
        joined = _joined(named.group, kept)
    copies, by = sum(map(len, kept)), named.by
    if len(set(joined.tolist())) < len(set(named.group.tolist())):
        by = [*by, f"{copies:,} copies" + (" and near-duplicates" if len(joined) <= MOST_SEARCHED else "")]
    return ImageGroups(joined, by, same, sum(map(len, same)) - copies, named.ungrouped, named.are_declared)


def are_searched(count: int, image: Image) -> bool:
    """True if copies are searched for among so many images of this section: not among more than LARGEST bytes."""
    return count * image.size**2 * image.channels <= LARGEST


def by_names(packs: Sequence[Pack], declared: Sequence[str] | None = None) -> ImageGroups:
    """Return the groups that `find` finds without looking at pixels."""
    train = packs[0]
    ids, labels = [id for pack in packs for id in pack.ids], np.concatenate([_classes(pack) for pack in packs])
    by, ungrouped = [], 0
    names = ids
    if declared is not None:
        names = [*declared, *ids[len(train) :]]
        ungrouped = sum(name == id for name, id in zip(declared, ids, strict=False))
        by.append("declared groups" + (f", {count_of(ungrouped, 'image')} in none" if ungrouped else ""))
    else:
        pattern = numbered_names.sequences(ids, [str(label) for label in labels])
        if pattern is not None:
            names = numbered_names.keys(ids, pattern) or ids
            by.append(f"numbered sequences by group: '{pattern}'")
    _, group = np.unique(np.array(names, dtype=object), return_inverse=True)
    return ImageGroups(group, by, ungrouped=ungrouped, are_declared=declared is not None)


def disputes(found: ImageGroups, packs: Sequence[Pack], classes: Sequence[str]) -> list[str]:
    """Return a line about pictures that appear with different classes, with an example; empty without any."""
    if any(pack.labels is None or pack.labels.ndim > 1 for pack in packs):
        return []
    ids, labels = [id for pack in packs for id in pack.ids], np.concatenate([_classes(pack) for pack in packs])
    disputed = [group for group in found.same if len(set(labels[group].tolist())) > 1]
    if not disputed:
        return []
    one = disputed[0]
    other = next(place for place in one if labels[place] != labels[one[0]])
    first = " and ".join(f"{ids[place]} is {classes[labels[place]]}" for place in (one[0], other))
    count = count_of(len(disputed), "image")
    return [f"different classes for {count}, as {first}: correct the labels, or take the images out"]


def _classes(pack: Pack) -> NDArray[np.int64]:
    if pack.labels is None:  # images to predict
        return np.zeros(len(pack), dtype=np.int64)
    return rarest(pack.labels) if pack.labels.ndim == 2 else pack.labels


def _same(packs: Sequence[Pack]) -> list[list[int]]:
    """Return the places of images that show the same picture; the result is stored beside the pack."""
    count, size = sum(map(len, packs)), int(np.prod(packs[0].images.shape[1:]))
    if count * size > LARGEST:
        return []
    near, folder = count <= MOST_SEARCHED, packs[0].folder
    cache = None
    if folder is not None and all(pack.folder for pack in packs):
        # What is cut from stored photographs is not in the name of their pack.
        key = f"{VERSION} {near} {packs[0].images.shape[1:]} {[pack.folder.name for pack in packs if pack.folder]}"
        cache = folder / f"copies-{digest(key.encode())}.json"
        try:
            same: list[list[int]] = json.loads(cache.read_text())
            return same
        except (OSError, ValueError):  # not there, or damaged: search again
            pass
    images = packs[0].images if len(packs) == 1 else Joined(packs[0].images, packs[1].images)
    if cache is None and count * size <= FEW_BYTES:
        return _in_bytes(images[:].tobytes(), images.shape, near)
    same = near_duplicates.groups(images, near)
    if cache is not None:
        with contextlib.suppress(OSError):  # a pack on a disk that is full, or read-only
            atomic.write_text(cache, json.dumps(same) + "\n")
    return same


@functools.lru_cache(maxsize=2)  # every run of a series asks for the labelled images, and for those to predict
def _in_bytes(images: bytes, shape: tuple[int, ...], near: bool) -> list[list[int]]:
    """Return `near_duplicates.groups` of images that are held in memory only."""
    return near_duplicates.groups(np.frombuffer(images, dtype=np.uint8).reshape(shape), near)


def _joined(named: NDArray[np.int64], same: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the groups, int64 [N], after merging those that share a picture."""
    pairs = np.array([(named[group[0]], named[place]) for group in same for place in group]).reshape(-1, 2)
    count = int(named.max()) + 1
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    component: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return component[named]
