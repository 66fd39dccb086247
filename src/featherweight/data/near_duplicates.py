"""Find images that show the same picture: exact copies, and near-duplicates by perceptual hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featherweight.console import Progress, say

Floats = NDArray[np.float32]

SIDE = 16  # of the thumbnails that are compared
BANDS = 8  # of the hash's 128 bits: copies agree in one at least if they differ in fewer than 8 bits
ALIKE = 0.985  # correlation of two thumbnails of one picture, saved twice
ALIKE_SMALL = 0.995  # of images of fewer pixels than a thumbnail: handwritten digits of 8 x 8 reach 0.994
FLAT = 6.0  # deviation of the grey values below which a picture shows too little to be recognised by
LARGEST = 4096  # images in a bucket: more than that share a hash because they show next to nothing
MOST_PAIRS = 300_000_000  # compared in one search: seconds; more there are where pictures show next to nothing
MOST_BITS = 40  # in which the hashes of two copies differ; those of unrelated pictures differ in about 64
SMALL_BUCKET = 32  # images; the pairs of such buckets are compared together, of larger ones each bucket by itself
SEEN = 64  # pixels of a side that go into a thumbnail; of larger images some are passed over
CHUNK = 2048
PIECE = 2**25  # bytes of images that are compared at once


class Joined:
    """Two arrays of images, one after the other, that are read in pieces."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second
        self.shape = (len(self), *first.shape[1:])

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return the images at `key`: an index, a slice or an array of indices."""
        places, border = np.arange(len(self))[key], len(self.first)
        if places.ndim == 0:
            return np.asarray(self.first[places] if places < border else self.second[places - border])
        images = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        images[places < border] = self.first[places[places < border]]
        images[places >= border] = self.second[places[places >= border] - border]
        return images


def thumbnails(images: Any, side: int = SIDE) -> Floats:
    """Return float32 [N, side, side, C]: means of equal areas of uint8 images [N, H, W, C]."""
    rows, columns = _areas(images.shape[1], side), _areas(images.shape[2], side)
    small = np.empty((len(images), side, side, images.shape[3]), dtype=np.float32)
    for part in _pieces(images):
        some = np.asarray(images[part], dtype=np.float32)
        small[part] = np.einsum("ih,nhwc,jw->nijc", rows, some, columns, optimize=True)
    return small


def _pieces(images: Any) -> Iterator[slice]:
    """Yield slices over all images, each small in memory."""
    step = max(1, min(CHUNK, PIECE // int(np.prod(images.shape[1:]))))
    yield from (slice(first, first + step) for first in range(0, len(images), step))


def groups(images: Any, near: bool = True) -> list[list[int]]:
    """Return groups of two or more places of images uint8 [N, H, W, C] that show the same picture.

    Exact copies are found by their bytes. Near copies (scaled, saved again, a little brighter) share a band of a
    128-bit difference hash (signs of the differences between neighbours in an 8 x 8 grid, across and down), and their
    thumbnails correlate. Flat pictures are compared by bytes only, as are all pictures if `near` is false.
    """
    by_bytes: dict[bytes, list[int]] = defaultdict(list)
    small = np.empty((len(images), SIDE, SIDE, images.shape[3]), dtype=np.uint8) if near else None
    stride = max(1, min(images.shape[1:3]) // SEEN)
    with Progress("look for copies", len(images), "images") as progress:
        for part in _pieces(images):
            some = np.ascontiguousarray(images[part])
            for place, image in enumerate(some, start=part.start):
                by_bytes[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append(place)
            if small is not None:
                small[part] = np.round(thumbnails(some[:, ::stride, ::stride]))
            progress.advance(len(some))
    pairs = [np.array([(same[0], other) for other in same[1:]]).reshape(-1, 2) for same in by_bytes.values()]
    if small is not None:
        alike = ALIKE if images.shape[1] * images.shape[2] >= SIDE**2 else ALIKE_SMALL
        pairs += _near(small, np.array([same[0] for same in by_bytes.values()]), alike)
    return _components(len(images), np.concatenate([np.empty((0, 2), dtype=np.int64), *pairs]))


def _components(count: int, pairs: NDArray[np.int64]) -> list[list[int]]:
    """Return the sets of two or more places that pairs connect."""
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    joined: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(np.bincount(component)[component] > 1).tolist():
        joined[int(component[place])].append(place)
    return list(joined.values())


def _near(small: NDArray[np.uint8], once: NDArray[np.int64], alike: float) -> list[NDArray[np.int64]]:
    """Return pairs among the places `once` whose images are near-duplicates, by thumbnails uint8 [N, SIDE, SIDE, C].

    Small buckets are compared first. Beyond MOST_PAIRS pairs, as among pictures that all look alike, the largest
    buckets are skipped, which is reported.
    """
    telling = np.concatenate(
        [small[first : first + CHUNK].mean(-1).std((1, 2)) >= FLAT for first in range(0, len(small), CHUNK)]
    )
    once = once[telling[once]]
    if not len(once):
        return []
    bands = np.concatenate([_bands(small[once[at : at + CHUNK]]) for at in range(0, len(once), CHUNK)])
    buckets = [bucket for band in bands.T for bucket in _buckets(band)]
    few = [bucket for bucket in buckets if len(bucket) <= SMALL_BUCKET]
    pairs = [once[_alike(_within(few, bands), small[once], alike)]]
    room = MOST_PAIRS
    left = 0
    for bucket in sorted((bucket for bucket in buckets if len(bucket) > SMALL_BUCKET), key=len):
        if len(bucket) > LARGEST or len(bucket) ** 2 > room:
            left += 1
            continue
        room -= len(bucket) ** 2
        members = once[bucket]
        vectors = _vectors(small[members])
        pairs.append(members[np.argwhere(np.triu(vectors @ vectors.T > alike, 1))])
    if left:
        say(
            f"near-duplicates: {left:,} of {len(buckets):,} sets of images that look alike are too large to be compared"
        )
    return pairs


def _within(buckets: Sequence[NDArray[np.int64]], bands: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return the pairs in these buckets, int64 [P, 2], whose hashes [N, BANDS] differ in at most MOST_BITS bits."""
    by_size: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
    for bucket in buckets:
        by_size[len(bucket)].append(bucket)
    candidates = [np.empty((0, 2), dtype=np.int64)]
    for size, alike in by_size.items():
        members = np.stack(alike)
        candidates.append(np.stack([members[:, side].reshape(-1) for side in np.triu_indices(size, 1)], 1))
    pairs = np.concatenate(candidates)
    differing = np.bitwise_count(bands[pairs[:, 0]] ^ bands[pairs[:, 1]]).sum(1)
    return np.unique(pairs[differing <= MOST_BITS], axis=0)


def _alike(pairs: NDArray[np.int64], small: NDArray[np.uint8], alike: float) -> NDArray[np.int64]:
    """Return the pairs [P, 2] whose thumbnails, uint8 [N, SIDE, SIDE, C], correlate."""
    passing = np.zeros(len(pairs), dtype=bool)
    for at in range(0, len(pairs), CHUNK):
        first, second = (_vectors(small[pairs[at : at + CHUNK, side]]) for side in (0, 1))
        passing[at : at + CHUNK] = np.einsum("nf,nf->n", first, second) > alike
    return pairs[passing]


def _buckets(band: NDArray[np.uint16]) -> list[NDArray[np.int64]]:
    """Return the groups of two or more places that share a value."""
    order = np.argsort(band, kind="stable")
    return [same for same in np.split(order, np.flatnonzero(np.diff(band[order])) + 1) if len(same) > 1]


def _vectors(small: NDArray[np.uint8]) -> Floats:
    """Return thumbnails as unit vectors, float32 [N, F], whose dot products are correlations."""
    values = small.astype(np.float32)
    # Each channel less its own mean: else the cast of a picture counts for more than what it shows.
    vectors = (values - values.mean((1, 2), keepdims=True)).reshape(len(values), -1)
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return unit


def _areas(length: int, parts: int) -> Floats:
    """Return [parts, length]: the share of each pixel in each part."""
    edges = np.linspace(0, length, parts + 1)
    low = np.maximum(edges[:-1, None], np.arange(length))
    high = np.minimum(edges[1:, None], np.arange(1, length + 1))
    share = (high - low).clip(0)
    parts_of: Floats = (share / share.sum(1, keepdims=True)).astype(np.float32)
    return parts_of


def _bands(small: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the difference hash in bands, uint16 [N, BANDS]."""
    grey = small.mean(-1, dtype=np.float32)
    across = np.einsum("ih,nhw,jw->nij", _areas(SIDE, 8), grey, _areas(SIDE, 9))
    down = np.einsum("ih,nhw,jw->nij", _areas(SIDE, 9), grey, _areas(SIDE, 8))
    bits = np.concatenate(
        [(np.diff(across, axis=2) > 0).reshape(len(small), -1), (np.diff(down, axis=1) > 0).reshape(len(small), -1)], 1
    )
    return np.packbits(bits, axis=1).view(np.uint16).reshape(len(small), BANDS)
