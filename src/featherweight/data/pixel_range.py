"""From black to white: which range the numbers of images have, one for a whole data set, and its scaling to bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError

LEVELS = (255, 1023, 4095, 16383, 65535)  # white in pictures of 8, 10, 12, 14 and 16 bits
DIM = 64  # fractional values whose maximum is below this are not on a scale of 0 to 255

Limits = tuple[float, float]
BYTES: Limits = (0.0, 255.0)


@dataclass(frozen=True)
class Spread:
    """The range of the numbers in some images, and whether there are fractions among them."""

    low: float
    high: float
    fractions: bool

    def limits(self) -> Limits:
        """Return black and white: 0 to 1, the levels of 8 to 16 bits or, failing these, the range itself."""
        if self.low >= 0 and self.high <= 1 and self.fractions:
            return 0.0, 1.0
        if self.low >= 0 and (not self.fractions or DIM <= self.high <= BYTES[1]):
            return 0.0, float(next((level for level in LEVELS if self.high <= level), self.high))
        return self.low, self.high

    @property
    def measured(self) -> bool:
        """True if black and white are just the range of the numbers, so they hold for this data set only."""
        return self.limits() not in ((0.0, 1.0), *((0.0, float(level)) for level in LEVELS))


def limits_of(train: Spread, part: Spread, where: str) -> Limits:
    """Return black and white of a part of the data: those of the training images, except for bytes with 0 to 255.

    Raises UserError where nothing but the numbers themselves says what is black.
    """
    usual = ((0.0, 1.0), BYTES)
    chosen = part if part.limits() in usual and train.limits() in usual else train
    if chosen.measured:
        raise UserError(
            f"{where}: pixels go from {chosen.low:g} to {chosen.high:g}; expected 0 to 255, or 0 to 1: what is black "
            f"and what is white?\nset source.range: [BLACK, WHITE]"
        )
    return chosen.limits()


def spread(values: NDArray[Any], where: str) -> Spread:
    """Return the range of numbers. Raises UserError for values that are not finite numbers."""
    if values.dtype.kind not in "buif":
        raise UserError(f"{where}: expected numbers, got {values.dtype}")
    if not values.size:
        return Spread(0.0, 0.0, False)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{where}: pixels go from {low:g} to {high:g}; expected finite numbers")
    fractions = values.dtype.kind == "f" and (high <= 1 or not np.array_equal(values, np.round(values)))
    return Spread(low, high, fractions)


def together(spreads: Iterable[Spread]) -> Spread:
    """Return the range over all parts."""
    parts = list(spreads)
    return Spread(
        min(part.low for part in parts), max(part.high for part in parts), any(part.fractions for part in parts)
    )


def scaled(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    """Convert numbers to bytes; `limits` are black and white. Raises UserError if white is not above black."""
    low, high = limits
    if low >= high:
        raise UserError(f"source.range: black is {low:g} and white {high:g}; expected black below white")
    bytes_: NDArray[np.uint8] = np.round((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return bytes_


def as_uint8(images: NDArray[Any], where: str, limits: Limits | None = None) -> NDArray[np.uint8]:
    """Convert stored arrays to uint8 [N, H, W] or [N, H, W, C]: channels first or last, any range of numbers.

    `limits` are black and white of the data set; without them, these images are the whole of it. Raises UserError for
    other arrays and for pixels beyond the limits.
    """
    if images.ndim not in (3, 4) or not len(images):
        shape = "x".join(map(str, images.shape))
        raise UserError(f"{where}: expected images [N, H, W] or [N, H, W, C], got an array of {shape or 'no size'}")
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        if images.shape[1] not in (1, 3):
            raise UserError(f"{where}: expected 1 or 3 channels, got an array of {'x'.join(map(str, images.shape))}")
        images = images.transpose(0, 2, 3, 1)
    if images.dtype == np.uint8 and limits in (None, BYTES):
        return np.ascontiguousarray(images)
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * 255
    here = spread(images, where)
    limits = limits or limits_of(here, here, where)
    if here.low < limits[0] or here.high > limits[1]:
        raise UserError(
            f"{where}: pixels go from {here.low:g} to {here.high:g}, beyond {limits[0]:g} (black) to {limits[1]:g} "
            f"(white)\nset source.range: [BLACK, WHITE] for the whole data set"
        )
    if limits == BYTES:
        return np.round(images).astype(np.uint8)
    if limits == (0.0, 65535.0) and images.dtype.kind in "iu":
        return (images >> 8).astype(np.uint8)
    return np.concatenate([scaled(one[None], limits) for one in images])
