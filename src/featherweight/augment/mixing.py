"""The mixings that a recipe may name: each makes one image of several, and mixes their targets in proportion.

Each takes images float32 [B, C, H, W], targets float32 [B, K] and the batch's `Draws`, and returns both. Every sample
is drawn for anew. Partners are samples of the same batch, those of other processes among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from featherweight.runtime.processes import ALONE, Processes
from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, Positive

Mixed = tuple[Tensor, Tensor]


def mixup(
    images: Tensor, targets: Tensor, draws: Draws, *, alpha: Positive = 0.2, probability: Fraction = 1.0
) -> Mixed:
    """Average an image with a partner, by a weight from Beta(alpha, alpha), with `probability` (arXiv:1710.09412)."""
    partner = _partners(draws)
    weight = torch.where(draws.uniform() < probability, draws.beta(alpha), 1.0)
    of_images, of_targets = weight[:, None, None, None], weight[:, None]
    return (
        images * of_images + images[partner] * (1 - of_images),
        targets * of_targets + targets[partner] * (1 - of_targets),
    )


def cutmix(
    images: Tensor, targets: Tensor, draws: Draws, *, alpha: Positive = 1.0, probability: Fraction = 1.0
) -> Mixed:
    """Paste a box of a partner into an image, with `probability` (arXiv:1905.04899).

    The fraction of the image that is kept is drawn from Beta(alpha, alpha); the box may be cut off at the edges, which
    the targets account for.
    """
    height, width = images.shape[-2:]
    partner = _partners(draws)
    weight = torch.where(draws.uniform() < probability, draws.beta(alpha), 1.0)
    half = 0.5 * (1 - weight).sqrt()
    rows = _inside(draws.integers(height), (half * height).long(), height)
    columns = _inside(draws.integers(width), (half * width).long(), width)
    box = rows[:, :, None] & columns[:, None, :]
    part = 1 - box.float().mean((1, 2))[:, None]
    return (
        torch.where(box[:, None], images[partner], images),
        targets * part + targets[partner] * (1 - part),
    )


def mix(
    images: Tensor,
    targets: Tensor,
    draws: Draws,
    choices: Sequence[Callable[..., Mixed]],
    processes: Processes = ALONE,
) -> Mixed:
    """Apply one of the mixings to each sample, drawn uniformly; with no choices the batch is returned as it is.

    The arguments and results are this process's samples. The whole batch is gathered to be mixed.
    """
    if not choices:
        return images, targets
    images, targets, draws = processes.whole(images, draws.size), processes.whole(targets, draws.size), draws.whole()
    results = [choice(images, targets, draws) for choice in choices]
    images, targets = results[0]
    if len(choices) > 1:
        which = draws.integers(len(choices))
        for number, (others, theirs) in enumerate(results[1:], start=1):
            images = torch.where((which == number)[:, None, None, None], others, images)
            targets = torch.where((which == number)[:, None], theirs, targets)
    return processes.own(images), processes.own(targets)


def _partners(draws: Draws) -> Tensor:
    """Return a random permutation of the batch, int64 [B]."""
    return draws.uniform().argsort(stable=True)


def _inside(centre: Tensor, half: Tensor, length: int) -> Tensor:
    """Return True [B, length] at indices from `centre` - `half` up to `centre` + `half` - 1, each [B]."""
    places = torch.arange(length, device=centre.device)[None]
    return (places >= (centre - half)[:, None]) & (places < (centre + half)[:, None])


MIXINGS: dict[str, Callable[..., Mixed]] = {
    "mixup": mixup,
    "cutmix": cutmix,
}
