"""The only inference: holdout, test-time views, ensembles and the test set all go through `predict_probs`.

The probabilities of several models and views (`tta`) are averaged by weight. Dropout and drop connect are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.errors import DivergedError
from featherweight.evaluation.tta import Augmentation, View, product
from featherweight.models import Classifier
from featherweight.runtime.device import Runtime
from featherweight.runtime.rng import Draws, generator

PIXELS = {"cpu": 2**20}  # of a batch at most: 256 images of 64 px, whose maps take up to some 2 GB
PIXELS_ELSEWHERE = 2**24


def batch_within_memory(batch_size: int, height: int, width: int, runtime: Runtime) -> int:
    """Return a divisor of `batch_size` whose images have no more pixels than are predicted at a time, or 1.

    It is halved as often as it must and can be; of an odd number the largest divisor that fits is taken. A divisor,
    since the draws of random views are seeded by where batches start.
    """
    most = max(1, PIXELS.get(runtime.device.type, PIXELS_ELSEWHERE) // (height * width))
    while batch_size % 2 == 0 and batch_size > most:
        batch_size //= 2
    if batch_size > most:
        batch_size = next(size for size in range(most, 0, -1) if batch_size % size == 0)
    return batch_size


def activated(logits: Tensor, several: bool) -> Tensor:
    """Return probabilities [B, K] of logits: softmax or, with `several` classes per image, sigmoid."""
    return logits.sigmoid() if several else logits.softmax(1)


@contextmanager
def _evaluating(models: Sequence[Classifier], runtime: Runtime) -> Iterator[None]:
    """Put models in evaluation mode on the device; at the end, however it comes, in the modes that they had."""
    modes = [model.training for model in models]
    try:
        for model in models:
            runtime.place(model.eval())
        yield
    finally:
        for model, training in zip(models, modes, strict=True):
            model.train(training)


@torch.no_grad()
def predict_probs(
    models: Sequence[Classifier],
    images: NDArray[np.uint8],
    *,
    runtime: Runtime,
    views: Sequence[View] = (),
    augment: Sequence[Augmentation] = (),
    several: bool = False,
    batch_size: int = 256,
    seed: int = 0,
    start: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Return class probabilities float32 [N, K] of images uint8 [N, H, W, C], averaged over models and views.

    With `several` classes per image each class has its own probability, and rows need not sum to one. Several processes
    call it alike, take whole batches in turn, and all get all rows, with the same bytes as one process. `augment` and
    `seed` serve the views that draw random numbers; `start` is the number of images before these, if one call does not
    hold all. `advance` is called after every batch with its size. Batches of large images are smaller than
    `batch_size`: see `batch_within_memory`. Models keep the mode that they were in, whatever is raised. Raises
    ValueError if there are no images, and DivergedError if a probability is NaN or infinite.
    """
    batch_size = batch_within_memory(batch_size, images.shape[1], images.shape[2], runtime)
    if not len(images):
        raise ValueError("there are no images to predict")
    results: list[NDArray[np.float32]] = []
    with _evaluating(models, runtime):
        for turn, first in enumerate(range(0, len(images), batch_size)):
            if turn % runtime.processes.count != runtime.processes.rank:
                advance(len(images[first : first + batch_size]))
                continue
            pixels = runtime.images(torch.from_numpy(np.array(images[first : first + batch_size])))

            def draws(number: int, first: int = first, size: int = len(pixels)) -> Draws:
                return Draws(generator(seed, "view", start + first, number), size, runtime.device, epoch=number)

            total: Tensor | float = 0.0
            for weight, view in product(pixels, views, draws, augment):
                for model in models:
                    with runtime.autocast():
                        logits = model(view)
                    total = total + activated(logits.float(), several) * (weight / len(models))
            assert isinstance(total, Tensor)
            results.append(total.cpu().numpy())
            advance(len(pixels))
    runtime.release_memory()
    dealt = runtime.processes.gather(results)
    batches = range(-(-len(images) // batch_size))
    probs = np.concatenate([dealt[turn % len(dealt)][turn // len(dealt)] for turn in batches]).astype(np.float32)
    _refuse_nan(probs, runtime)
    return probs


def _refuse_nan(probs: NDArray[np.float32], runtime: Runtime) -> None:
    """Raise DivergedError if any probability is NaN or infinite."""
    bad = int((~np.isfinite(probs)).any(1).sum())
    if bad:
        cure = "train.precision=fp32 in place of fp16, or " if runtime.dtype is torch.float16 else ""
        raise DivergedError(
            f"the network gives NaN probabilities for {bad:,} of {len(probs):,} images: its training diverged. Start a "
            f"new run with {cure}a smaller optimizer.lr, or with a warm-up"
        )
