"""Images that are the same picture: exact copies, and near ones by perceptual hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float32]

SIDE = 16  # of the thumbnails that are compared
BANDS = 8  # of the hash's 128 bits: copies agree in one at least if they differ in fewer than 8 bits
ALIKE = 0.985  # correlation of two thumbnails of one picture, saved twice
FLAT = 6.0  # deviation of the grey values below which a picture shows too little to be recognised by
LARGEST = 4096  # images in a bucket: more than that share a hash because they show next to nothing
CHUNK = 2048


def thumbnails(images: Any, side: int = SIDE) -> Floats:
    """float32 [N, side, side, C]: the means of equal areas of uint8 images [N, H, W, C]."""
    rows, columns = _areas(images.shape[1], side), _areas(images.shape[2], side)
    small = np.empty((len(images), side, side, images.shape[3]), dtype=np.float32)
    for first in range(0, len(images), CHUNK):
        part = np.asarray(images[first : first + CHUNK], dtype=np.float32)
        small[first : first + CHUNK] = np.einsum("ih,nhwc,jw->nijc", rows, part, columns, optimize=True)
    return small


def groups(images: Any, near: bool = True) -> list[list[int]]:
    """The places of images uint8 [N, H, W, C] that show the same picture, in groups of two and more.

    Copies are found by their bytes. Near copies (scaled, saved anew, a little brighter) share a band of a 128-bit
    difference hash (the signs of the steps between neighbours in an 8 x 8 grid, across and down) and then agree in
    their thumbnails. Flat pictures are compared by their bytes alone, and all are without `near`.
    """
    by_bytes: dict[bytes, list[int]] = defaultdict(list)
    for first in range(0, len(images), CHUNK):
        for place, image in enumerate(np.ascontiguousarray(images[first : first + CHUNK]), start=first):
            by_bytes[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append(place)
    pairs = [np.array([(same[0], other) for other in same[1:]]).reshape(-1, 2) for same in by_bytes.values()]
    if near:
        pairs += _near(images, np.array([same[0] for same in by_bytes.values()]))
    return _components(len(images), np.concatenate([np.empty((0, 2), dtype=np.int64), *pairs]))


def _components(count: int, pairs: NDArray[np.int64]) -> list[list[int]]:
    """The sets of places, of two and more, that pairs join."""
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    found: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(np.bincount(component)[component] > 1).tolist():
        found[int(component[place])].append(place)
    return list(found.values())


def _near(images: Any, once: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Pairs of the places in `once`, of images that are no copies to the byte, that show the same picture."""
    pairs: list[NDArray[np.int64]] = []
    small = thumbnails(images)
    telling = small.mean(-1).std((1, 2)) >= FLAT
    # Each channel less its own mean: else the cast of a picture counts for more than what it shows.
    vectors = (small - small.mean((1, 2), keepdims=True)).reshape(len(small), -1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    once = once[telling[once]]
    for bands in _bands(small[once]).T if len(once) else ():
        order = np.argsort(bands, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(bands[order])) + 1):
            if 2 <= len(bucket) <= LARGEST:
                members = once[bucket]
                pairs.append(members[np.argwhere(np.triu(vectors[members] @ vectors[members].T > ALIKE, 1))])
    return pairs


def _areas(length: int, parts: int) -> Floats:
    """[parts, length]: which share of each pixel falls into which part."""
    edges = np.linspace(0, length, parts + 1)
    low = np.maximum(edges[:-1, None], np.arange(length))
    high = np.minimum(edges[1:, None], np.arange(1, length + 1))
    share = (high - low).clip(0)
    parts_of: Floats = (share / share.sum(1, keepdims=True)).astype(np.float32)
    return parts_of


def _bands(small: Floats) -> NDArray[np.uint16]:
    """uint16 [N, BANDS]: the difference hash in pieces."""
    grey = small.mean(-1)
    across = np.einsum("ih,nhw,jw->nij", _areas(SIDE, 8), grey, _areas(SIDE, 9))
    down = np.einsum("ih,nhw,jw->nij", _areas(SIDE, 9), grey, _areas(SIDE, 8))
    bits = np.concatenate(
        [(np.diff(across, axis=2) > 0).reshape(len(small), -1), (np.diff(down, axis=1) > 0).reshape(len(small), -1)], 1
    )
    return np.packbits(bits, axis=1).view(np.uint16).reshape(len(small), BANDS)
