"""Progressive resizing: small images first, so that the early steps of a run cost less (Howard 2018)."""

from __future__ import annotations

import bisect
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from featherweight.augment.geometric import resized
from featherweight.models.input_sizes import scaled
from featherweight.schema import Fraction, PositiveFraction, Section


class Progressive(Section):
    """Train on small images first and larger ones later; holdout and test images always have the full size."""

    scales: list[PositiveFraction] = Field(
        [0.625, 0.75], description="sides to train at before the full one, as fractions of it"
    )
    until: list[Fraction] = Field([0.4, 0.7], description="the fractions of the run at which each of them ends")

    @model_validator(mode="after")
    def _each_scale_has_its_end(self) -> Self:
        if len(self.scales) != len(self.until):
            counts = f"{len(self.scales)} scales and {len(self.until)} ends"
            raise ValueError(f"progressive: {counts}; each scale has one end")
        if self.until != sorted(self.until):
            raise ValueError("progressive.until: expected increasing numbers")
        return self

    def scale(self, part: float) -> float:
        """Return the fraction of the side to train at, when the fraction `part` of the run is done."""
        place = bisect.bisect_right(self.until, part)
        return self.scales[place] if place < len(self.scales) else 1.0


def shrunk(images: Tensor, scale: float) -> Tensor:
    """Return square images float [B, C, S, S], resized to `scale` times their side."""
    side = scaled(images.shape[-1], scale)
    return images if side == images.shape[-1] else resized(images, side)
