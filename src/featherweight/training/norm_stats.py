"""The statistics inside of a model: mean and standard deviation of its input, and those of its batch norms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.optim.swa_utils
from numpy.typing import NDArray
from torch import Tensor

from featherweight.augment.table import Augmentation
from featherweight.data.photos import Photos
from featherweight.models import Classifier
from featherweight.models.pretrained_weights import ExpectedInput
from featherweight.runtime.device import Runtime
from featherweight.runtime.rng import derive, seed_code
from featherweight.training.batches import Batches

MAX_PHOTOS = 2000  # photographs sampled for the mean and standard deviation
MAX_PIXELS = 5000 * 32 * 32  # sampled for layers that are computed from images; each pixel takes 60 bytes


def standardize(
    model: Classifier,
    images: Any,
    per_pixel: bool = False,
    expected: ExpectedInput | None = None,
    chunk: int = 4096,
) -> None:
    """Set the model's input normalisation to the mean and standard deviation of uint8 images [N, H, W, C], per channel.

    Photographs are sampled. With pretrained weights the statistics of the weights are kept, or else `expected` is used.
    `per_pixel` uses a mean for each pixel, as He et al. 2015 do on CIFAR-10 (LOGBOOK B).
    """
    if model.normalize.kept and not per_pixel:
        return
    channels, device = images.shape[-1], model.normalize.mean.device
    if expected is not None and not per_pixel:
        for buffer, published in ((model.normalize.mean, expected.mean), (model.normalize.std, expected.std)):
            theirs = torch.tensor(published)
            buffer.copy_((theirs if len(theirs) == channels else theirs.mean().expand(channels)).view(-1, 1, 1))
        return
    if isinstance(images, Photos):
        images = images[:: max(1, len(images) // MAX_PHOTOS)]
    chunk = max(1, min(chunk, 2**22 // math.prod(images.shape[1:])))  # bincount needs eight bytes per value
    counted = torch.zeros(channels, 256, dtype=torch.int64, device=device)
    summed = torch.zeros(images.shape[1:], dtype=torch.int64, device=device)
    for first in range(0, len(images), chunk):
        part = torch.from_numpy(np.array(images[first : first + chunk])).to(device)
        for channel in range(channels):
            counted[channel] += torch.bincount(part[..., channel].flatten(), minlength=256)
        if per_pixel:
            summed += part.sum(0, dtype=torch.int64)
    counts, sums = counted.cpu().numpy(), summed.cpu().numpy()
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = counts @ values**2 / counts.sum(1) - mean**2
    model.normalize.std.copy_(torch.from_numpy(np.sqrt(variance.clip(1e-6))).view(-1, 1, 1))
    if per_pixel:
        pixels = (sums / len(images) / 255).transpose(2, 0, 1)
        model.normalize.mean = torch.from_numpy(np.ascontiguousarray(pixels)).to(model.normalize.mean)
    else:
        model.normalize.mean.copy_(torch.from_numpy(mean).view(-1, 1, 1))


def renew(model: Classifier, batches: Batches, augment: Sequence[Augmentation], runtime: Runtime) -> None:
    """Recompute the batch-norm statistics in one pass over the training images, augmented as in training."""

    def images() -> Iterator[Tensor]:
        for batch in batches.epoch(-1):  # another order and other draws than in any epoch of the training
            pixels = batch.images
            for operation in augment:
                pixels = operation(pixels, batch.draws)
            yield pixels

    seed_code(derive(batches.seed, "statistics"))
    (piece,) = runtime.processes.pieces(batches.size, 1)
    with runtime.autocast(), runtime.processes.whole_batch(piece):
        torch.optim.swa_utils.update_bn(images(), model)


def start_from_images(model: Classifier, images: NDArray[np.uint8], sample: int = 5000) -> None:
    """Show layers that are initialised from data a normalised sample of the training images, uint8 [N, H, W, C].

    Such a layer has a method `start_from_images(images)`. The sample is taken at equal distances, is the same every
    time, and has at most MAX_PIXELS pixels: of larger images fewer are needed.
    """
    starters: list[Any] = [module for module in model.net.modules() if hasattr(module, "start_from_images")]
    if not starters:
        return
    sample = min(sample, max(1, MAX_PIXELS // (images.shape[1] * images.shape[2])))
    chosen = torch.from_numpy(images[:: max(1, len(images) // sample)][:sample].copy())
    normalised = model.normalize(chosen.to(model.normalize.mean.device).permute(0, 3, 1, 2).float() / 255)
    for module in starters:
        module.start_from_images(normalised)
