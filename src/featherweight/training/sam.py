"""Sharpness-aware minimisation around any optimizer: the step uses the gradient at a nearby point of higher loss.

SAM (Foret et al. 2020, arXiv:2010.01412) moves from the weights w along the gradient g to w + rho * g / |g|; ASAM (Kwon
et al. 2021, arXiv:2102.11600) to w + rho * T^2 g / |T g| with T = |w| + eta for weights and 1 for biases, so that it
does not depend on the scale of the weights. The loss scale of fp16 cancels in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ETA = 0.01  # keeps ASAM's neighbourhood open around weights near 0, as in the paper


@contextmanager
def perturbed(model: nn.Module, rho: float, adaptive: bool = False) -> Iterator[None]:
    """Context after SAM's ascent step: the weights are moved along their gradients, batch-norm statistics are frozen.

    On exit the weights are restored exactly, and the gradients are those at the perturbed weights. Only the first pass
    updates the batch-norm statistics. If a gradient overflowed (fp16), the weights do not move: the second pass
    overflows as well, and the scaler skips the step.
    """
    moved = [(name, p, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    before = [parameter.detach().clone() for _, parameter, _ in moved]
    with torch.no_grad():
        scales = [_scale(name, parameter, adaptive) for name, parameter, _ in moved]
        slopes = [gradient * scale for (_, _, gradient), scale in zip(moved, scales, strict=True)]
        norm = torch.nn.utils.get_total_norm(slopes)
        length = torch.where(norm.isfinite(), rho / norm.clamp_min(1e-12), 0.0)
        for (_, parameter, _), slope, scale in zip(moved, slopes, scales, strict=True):
            parameter.add_(slope.nan_to_num(0.0, 0.0, 0.0) * scale * length)
            parameter.grad = None
    tracking = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    for module in tracking:
        module.track_running_stats = False  # a batch is still normalised by its own statistics
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
        with torch.no_grad():
            for (_, parameter, _), weights in zip(moved, before, strict=True):
                parameter.copy_(weights)


def _scale(name: str, parameter: Tensor, adaptive: bool) -> Tensor | float:
    if not adaptive or name.endswith("bias"):
        return 1.0
    return parameter.detach().abs() + ETA
