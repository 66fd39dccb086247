"""Batches of training images, in an order derived from (seed, epoch), so that a run can start at any step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featherweight.data.pack import LabelledPack
from featherweight.data.photos import Photos
from featherweight.data.split import rarest
from featherweight.runtime.device import Runtime, send
from featherweight.runtime.rng import Draws, Frame, generator
from featherweight.training.sampling import each_once, shown

CHUNK_IMAGES = 4096  # copied to a GPU at once, when all of them are


@dataclass(frozen=True)
class Batch:
    """A batch of training images: those of this process, if there are several.

    `images`: float32 [B, C, H, W] in [0, 1]. `targets`: probabilities float32 [B, K]. `draws`: the batch's random
    numbers. `counts`: float32 [K], how many images of each class an epoch shows, in all processes. `several`: whether a
    target is a set of classes, each with its own probability.
    """

    images: Tensor
    targets: Tensor
    draws: Draws
    counts: Tensor
    several: bool = False


@dataclass(frozen=True)
class Batches:
    """The training images in batches of one size; images left over at the end of an epoch are not shown in it.

    `sampling` says which images an epoch shows, and in what order. `whole`: hand over photographs as they are stored,
    for an augmentation that crops them itself.
    """

    pack: LabelledPack
    num_classes: int
    batch_size: int
    seed: int
    runtime: Runtime
    sampling: Callable[[NDArray[np.int64], int, int], NDArray[np.int64]] = each_once
    whole: bool = False

    @property
    def size(self) -> int:
        """Images in a batch: the recipe's batch size, or all images if there are fewer."""
        return min(self.batch_size, self.shown)

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches in an epoch."""
        return self.shown // self.size

    @functools.cached_property
    def shown(self) -> int:
        """Images that an epoch shows: each of them once, unless the sampling repeats or omits some."""
        return len(self._order(0))

    @functools.cached_property
    def counts(self) -> Tensor:
        """Images of each class that an epoch shows, float32 [K]."""
        if self.several:
            order = self._order(0)
            counts = self._labels[order].sum(0).astype(np.float64)
        else:
            counts = shown(self.sampling, self._labels, self.num_classes, self.seed)
        return torch.from_numpy(counts).float().to(self.runtime.device)

    @property
    def several(self) -> bool:
        """True if each image has a set of classes."""
        return self._labels.ndim == 2

    def epoch(self, epoch: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch from index `first` up to, not including, `last`."""
        order, part = self._order(epoch), self.runtime.processes.part(self.size)
        for step in range(first, self.steps_per_epoch if last is None else last):
            places = order[step * self.size : (step + 1) * self.size][part]
            targets = send(torch.from_numpy(self._labels[places]), self.runtime.device)
            if not self.several:
                targets = F.one_hot(targets, self.num_classes)
            images, frame = self.images(places)
            yield Batch(
                images=images,
                targets=targets.float(),
                draws=Draws(
                    generator(self.seed, "draws", epoch, step),
                    self.size,
                    self.runtime.device,
                    part,
                    epoch=epoch,
                    samples=torch.from_numpy(places),
                    frame=frame,
                ),
                counts=self.counts,
                several=self.several,
            )

    def images(self, places: NDArray[np.int64]) -> tuple[Tensor, Frame | None]:
        """Return images float32 [B, C, H, W] on the device, and their frame if they differ in size."""
        pixels, frame = self._pixels(places)
        return self.runtime.images(pixels), frame

    def _pixels(self, places: NDArray[np.int64]) -> tuple[Tensor, Frame | None]:
        images: Any = self.pack.images
        if self.whole and isinstance(images, Photos):
            pictures, extents = images.whole(places)
            return torch.from_numpy(pictures), Frame(torch.from_numpy(extents), images.shape[1])
        if self._resident is not None:
            return self._resident[send(torch.from_numpy(places), self.runtime.device)], None
        # Indexing copies only these rows, so a memory-mapped pack may be larger than the memory.
        return torch.from_numpy(self.pack.images[places]), None

    @functools.cached_property
    def _resident(self) -> Tensor | None:
        """All images on the device, where a GPU has room for them, so that none has to be sent later; else None."""
        images = self.pack.images
        if not self.runtime.has_room(images.nbytes):
            return None
        resident = torch.empty(images.shape, dtype=torch.uint8, device=self.runtime.device)
        for first in range(0, len(images), CHUNK_IMAGES):
            part = np.array(images[first : first + CHUNK_IMAGES])
            resident[first : first + len(part)].copy_(torch.from_numpy(part))
        return resident

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return self.sampling(self._strata, self.seed, epoch)

    @functools.cached_property
    def _strata(self) -> NDArray[np.int64]:
        """The class by which each image is sampled, int64 [N]; of a set of classes the rarest."""
        return rarest(self._labels) if self.several else self._labels

    @property
    def _labels(self) -> NDArray[Any]:
        return self.pack.labels
