"""What is exported: pictures of any size in, probabilities out, with everything in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherweight.data.image import Image
from featherweight.evaluation.decisions import DecisionRule, Target
from featherweight.evaluation.inference import activated
from featherweight.export.resampling import prepared
from featherweight.export.standalone import decided


@dataclass(frozen=True)
class Answering:
    """How images are prepared and answered: the competition's target, the run's decision."""

    image: Image
    target: Target
    decision: DecisionRule


class Deployed(nn.Module):
    """Maps pictures uint8 [N, H, W, C] of any size to probabilities float32 [N, K]; for sets or ordered classes also to
    the decisions: sets bool [N, K], or classes int64 [N].

    Contains resizing, normalisation, the models (averaged by `weights`), softmax or sigmoid, calibration and decision,
    in operations that can be traced with height and width left open.
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
        x = prepared(images.permute(0, 3, 1, 2).float(), rule.image) / 255
        parts = zip(self.models, self.temperatures, self.weights, strict=True)
        several = rule.target == "several"
        probs = torch.stack([activated(model(x) / t, several) * weight for model, t, weight in parts]).sum(0)
        return probs if rule.target == "one" else (probs, decided(probs, rule.decision.kind, rule.decision.values))
