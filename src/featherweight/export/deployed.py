"""What is exported: pictures of any size in, probabilities out, with everything in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featherweight.evaluation.decisions import Decision, Target
from featherweight.evaluation.inference import activated
from featherweight.export.standalone import decided


@dataclass(frozen=True)
class Answering:
    """How pictures are shown (`size`, `fit`) and what is answered: the competition's target, the run's decision."""

    size: int
    fit: str
    target: Target
    decision: Decision


class Deployed(nn.Module):
    """Pictures uint8 [N, H, W, C] of any height and width in, probabilities float32 [N, K] out; where classes are
    several or ordered also what is decided of them: sets bool [N, K], or classes int64 [N].

    Inside are the resizing to the model's size, the normalisation, the models (averaged by `weights`), the softmax or
    sigmoid, the calibration and the decision. At the model's own size the pictures pass unchanged; other sizes are
    resized by torch, which differs by rounding from Pillow, by which the model was trained. The operations on height
    and width are such that they can be traced and exported with both left open.
    """

    def __init__(
        self, models: Sequence[nn.Module], temperatures: Sequence[float], weights: Sequence[float], answers: Answering
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.temperatures, self.weights = list(temperatures), list(weights)
        self.answers = answers

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # noqa: D102
        rule = self.answers
        x = squared(images.permute(0, 3, 1, 2).float(), rule.size, rule.fit) / 255
        parts = zip(self.models, self.temperatures, self.weights, strict=True)
        several = rule.target == "several"
        probs = torch.stack([activated(model(x) / heat, several) * weight for model, heat, weight in parts]).sum(0)
        return probs if rule.target == "one" else (probs, decided(probs, rule.decision.kind, rule.decision.values))


def squared(x: Tensor, size: int, fit: str) -> Tensor:
    """Images [N, C, H, W] of values 0 to 255 as squares of `size`, stretched, cropped or padded with black."""
    # Sides are tensors when traced and symbols when exported; each knows another way to the lesser of two.
    height: Any = x.shape[-2]
    width: Any = x.shape[-1]
    apart = abs(height - width) if isinstance(height, Tensor) else torch.sym_max(height - width, width - height)
    short, long = (height + width - apart) // 2, (height + width + apart) // 2
    if fit == "crop":
        rows, columns = (torch.arange(short, device=x.device) + (side - short) // 2 for side in (height, width))
        x = x.index_select(2, rows).index_select(3, columns)
    elif fit == "pad":
        tall, wide = ((2 * side * size + long) // (2 * long) for side in (height, width))  # rounded
        x = F.interpolate(x, (tall, wide), mode="bilinear", antialias=True).round()
        top, left = (size - tall) // 2, (size - wide) // 2
        return F.pad(x, (left, size - wide - left, top, size - tall - top))
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True).round()
