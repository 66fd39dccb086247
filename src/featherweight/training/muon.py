"""Muon: each matrix moves by its orthogonalised momentum (Jordan 2024, https://kellerjordan.github.io/posts/muon).

The versions in timm and torch compute in bfloat16 on every device, which is slow on CPUs without instructions for it,
and cannot fix the norms of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, chosen for a steep slope at 0
EPS = 1e-7


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """Return approximately the orthogonal matrix nearest to `matrix` [M, N]: singular values of about 0.7 to 1.2."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + EPS)
    first, second, third = COEFFICIENTS
    for _ in range(iterations):
        gram = wide @ wide.T
        wide = first * wide + (second * gram + third * gram @ gram) @ wide
    result: Tensor = wide.T if matrix.shape[0] > matrix.shape[1] else wide
    return result


class Muon(torch.optim.Optimizer):
    """Muon for matrices and for filters [out, in, h, w], which are treated as matrices [out, in * h * w].

    `normalize` rescales each filter to the norm of an orthogonal one before every step, so that only its direction
    changes.
    """

    def __init__(self, params: Iterable[Any], lr: float, **settings: Any) -> None:
        super().__init__(params, {"lr": lr, **settings})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
        way = weight.grad.add(momentum, alpha=group["momentum"]) if group["nesterov"] else momentum  # type: ignore[union-attr]
        matrix = way.reshape(len(way), -1)
        matrix = orthogonal(matrix.bfloat16() if matrix.is_cuda else matrix, group["iterations"])
        if group["normalize"]:
            weight.mul_(len(weight) ** 0.5 / (weight.norm() + EPS))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        weight.add_(matrix.view(weight.shape).to(weight.dtype), alpha=-group["lr"] * tall)
