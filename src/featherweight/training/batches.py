"""Batches in an order derived from (seed, epoch), so that any step can be started at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.data.pack import Pack
from featherweight.randomness import Draws, generator
from featherweight.training.runtime import Runtime


@dataclass(frozen=True)
class Batch:
    """Images float32 [B, C, H, W] in [0, 1], target probabilities float32 [B, K], and the batch's random numbers."""

    images: Tensor
    targets: Tensor
    draws: Draws


@dataclass(frozen=True)
class Batches:
    """The training images in batches of one size; what is left at an epoch's end waits for another epoch's order."""

    pack: Pack
    num_classes: int
    batch_size: int
    seed: int
    runtime: Runtime

    @property
    def size(self) -> int:
        """Images in a batch: as the recipe says, or all there are."""
        return min(self.batch_size, len(self.pack))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the images."""
        return len(self.pack) // self.size

    def epoch(self, epoch: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """The batches of an epoch from the `first` one on, up to the `last` one (exclusive)."""
        assert self.pack.labels is not None
        order = torch.randperm(len(self.pack), generator=generator(self.seed, "order", epoch)).numpy()
        for step in range(first, self.steps_per_epoch if last is None else last):
            places = order[step * self.size : (step + 1) * self.size]
            targets = torch.from_numpy(self.pack.labels[places]).to(self.runtime.device, non_blocking=True)
            yield Batch(
                # Indexing copies these rows alone, so a mapped pack larger than the memory will do.
                images=self.runtime.images(torch.from_numpy(self.pack.images[places])),
                targets=F.one_hot(targets, self.num_classes).float(),
                draws=Draws(
                    generator(self.seed, "draws", epoch, step),
                    self.size,
                    self.runtime.device,
                    epoch=epoch,
                    samples=torch.from_numpy(places),
                ),
            )
