"""Random numbers derived from (seed, epoch, step), independent of what was drawn before.

So a run resumed at step 1000 draws what the uninterrupted run drew there, and several processes that each have a part
of a batch together draw what one process would.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherweight.runtime.device import send


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, for example `derive(seed, "order", epoch)`; purposes are independent."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def seed_code(seed: int) -> None:
    """Seed every generator that a network may draw from: torch's, and Python's and NumPy's, which users' code uses."""
    torch.manual_seed(seed)
    _seed_others(seed)


def seed_layers(seed: int, device: torch.device) -> None:
    """As `seed_code`, but of torch's generators only that of this device is certain to be seeded.

    `torch.manual_seed` looks for every kind of device, which takes a millisecond.
    """
    _seed_others(seed)
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _seed_others(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # what code that calls np.random.rand draws from


@dataclass(frozen=True)
class Frame:
    """The sizes of pictures in a batch, which are at the top left of their frames [H, W].

    `extents`: heights and widths, int64 [B, 2] on the CPU. `side`: pixels of the square that the model takes.
    """

    extents: Tensor
    side: int


class Draws:
    """The random numbers of a batch: one draw per sample, drawn for the whole global batch, cut to this process's part.

    Args:
        generator: the source of the numbers, a new one for every step.
        size: samples in the global batch.
        device: the device of the returned tensors.
        part: which samples of the global batch this process has.
        epoch: the number of the pass over the data, from 0.
        samples: int64 [B], indices of the training images, for what must be the same for an image in every epoch.
        frame: where the images are in their frames, if their sizes differ.
    """

    def __init__(
        self,
        generator: torch.Generator,
        size: int,
        device: torch.device,
        part: slice = slice(None),
        epoch: int = 0,
        samples: Tensor | None = None,
        frame: Frame | None = None,
    ) -> None:
        self.generator, self.size, self.device, self.part, self.epoch = generator, size, device, part, epoch
        self.samples = samples if samples is not None else torch.arange(size)[part]
        self.frame = frame

    def on(self, device: torch.device) -> Draws:
        """Return the same future numbers, on another device."""
        return Draws(self.generator, self.size, device, self.part, self.epoch, self.samples, self.frame)

    def whole(self) -> Draws:
        """Return the future numbers for all samples of the global batch, whose image indices are not known here."""
        return Draws(self.generator, self.size, self.device, epoch=self.epoch)

    def uniform(self, *shape: int) -> Tensor:
        """Draw float32 [B, *shape], uniform in [0, 1)."""
        numbers = torch.rand((self.size, *shape), generator=self.generator)
        return send(numbers[self.part], self.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 [B, *shape], normal with mean 0 and standard deviation 1."""
        numbers = torch.randn((self.size, *shape), generator=self.generator)
        return send(numbers[self.part], self.device)

    def beta(self, alpha: float, *shape: int) -> Tensor:
        """Draw float32 [B, *shape] in [0, 1] from Beta(alpha, alpha)."""
        seed = int(torch.randint(2**62, (), generator=self.generator))
        numbers = np.random.default_rng(seed).beta(alpha, alpha, (self.size, *shape))
        return send(torch.from_numpy(numbers)[self.part].float(), self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw int64 [B, *shape], uniform from 0 to high - 1."""
        numbers = torch.randint(high, (self.size, *shape), generator=self.generator)
        return send(numbers[self.part], self.device)
