"""Augmentations that change pixels where they are. The plain functions take a strength per sample, [B], and do what
torchvision's of the same name do to one image; the ones with keys draw it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, HalfOpenFraction, NonNegative, Odd, Positive, PositiveInt

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue, as torchvision and PIL weigh them


def jitter(
    images: Tensor,
    draws: Draws,
    *,
    brightness: Fraction = 0.2,
    contrast: Fraction = 0.2,
    saturation: Fraction = 0.2,
    hue: Fraction = 0.0,
) -> Tensor:
    """Brightness, contrast and saturation times 1 - x to 1 + x, hue turned by up to that part of half the circle.

    In this order; without colours only the first two are felt.
    """
    images = adjust_brightness(images, _around_one(draws, brightness))
    images = adjust_contrast(images, _around_one(draws, contrast))
    if images.shape[1] == 3:
        images = adjust_saturation(images, _around_one(draws, saturation))
        if hue > 0:
            images = adjust_hue(images, (draws.uniform() * 2 - 1) * hue / 2)
    return images


def greyscale(images: Tensor, draws: Draws, *, probability: Fraction = 0.1) -> Tensor:
    """Without colours."""
    return _some(images, grey(images).expand_as(images), draws, probability)


def blur(
    images: Tensor,
    draws: Draws,
    *,
    sigma: tuple[Positive, Positive] = (0.1, 2.0),
    kernel: Odd = 5,
    probability: Fraction = 0.5,
) -> Tensor:
    """Blurred by a Gaussian of a deviation in `sigma` pixels, cut off at `kernel` pixels, an odd number."""
    deviation = sigma[0] + draws.uniform() * (sigma[1] - sigma[0])
    return _some(images, gaussian_blur(images, deviation, kernel), draws, probability)


def sharpness(images: Tensor, draws: Draws, *, factor: NonNegative = 2.0, probability: Fraction = 0.5) -> Tensor:
    """Sharper (over 1) or smoother (under 1) by `factor`."""
    return _some(images, adjust_sharpness(images, torch.full_like(draws.uniform(), factor)), draws, probability)


def posterize(images: Tensor, draws: Draws, *, bits: PositiveInt = 4, probability: Fraction = 0.5) -> Tensor:
    """With only `bits` bits per colour channel."""
    return _some(images, posterized(images, torch.full_like(draws.uniform(), bits)), draws, probability)


def solarize(images: Tensor, draws: Draws, *, threshold: Fraction = 0.5, probability: Fraction = 0.5) -> Tensor:
    """Pixels at or over `threshold` inverted."""
    return _some(images, solarized(images, torch.full_like(draws.uniform(), threshold)), draws, probability)


def equalize(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Each channel's histogram flattened."""
    return _some(images, equalized(images), draws, probability)


def autocontrast(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Each channel stretched to the whole range."""
    return _some(images, stretch(images), draws, probability)


def noise(images: Tensor, draws: Draws, *, deviation: HalfOpenFraction = 0.05) -> Tensor:
    """Gaussian noise of a deviation drawn up to this one."""
    return (images + draws.normal(*images.shape[1:]) * draws.uniform(1, 1, 1) * deviation).clamp(0, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Times a factor."""
    return (images * _wide(factor)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean grey of the image, or towards it."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the grey of each pixel, or towards it."""
    return _blend(images, grey(images), factor)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Hues turned by a part of the circle."""
    high, low = images.amax(1), images.amin(1)
    spread = high - low
    divisor = torch.where(spread > 0, spread, 1.0)
    red, green, blue = images.unbind(1)
    r, g, b = ((high - channel) / divisor for channel in (red, green, blue))
    hue = torch.where(red == high, b - g, torch.where(green == high, 2 + r - b, 4 + g - r)) / 6
    hue = (hue + turn[:, None, None]) % 1.0
    saturation = spread / torch.where(high > 0, high, 1.0)
    # Each channel's distance from its peak on the circle of hues says how much of the spread it has lost.
    channels = [(hue * 6 + offset) % 6 for offset in (5.0, 3.0, 1.0)]
    return torch.stack([high - high * saturation * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], 1).clamp(
        0, 1
    )


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from a smoothed copy, or towards it; the outermost pixels stay."""
    if min(images.shape[-2:]) <= 2:
        return images
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1:2, 1:2].fill_(5)  # an item set to a number makes a GPU wait
    channels = images.shape[1]
    smooth = images.clone()
    weights = (kernel / 13).expand(channels, 1, 3, 3)
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, weights, groups=channels)
    return _blend(images, smooth, factor)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blurred by a deviation in pixels, cut off at an odd number of them, edges reflected."""
    reach = min(kernel // 2, min(images.shape[-2:]) - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma[:, None]) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    for dimension, pad in ((-1, [reach, reach, 0, 0]), (-2, [0, 0, reach, reach])):
        padded, length = F.pad(images, pad, mode="reflect"), images.shape[dimension]
        images = sum(
            (padded.narrow(dimension, place, length) * _wide(weights[:, place]) for place in range(2 * reach + 1)),
            start=torch.zeros_like(images),
        )
    return images


def posterized(images: Tensor, bits: Tensor) -> Tensor:
    """The lower bits of the eight cleared."""
    step = _wide(torch.exp2(8 - bits))
    return (images * 255).round().div(step).floor() * step / 255


def solarized(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverted from the threshold on."""
    return torch.where(images >= _wide(threshold), 1 - images, images)


def equalized(images: Tensor) -> Tensor:
    """PIL's equalisation of each channel's 256 levels."""
    levels = (images * 255).round().long()
    flat = levels.flatten(2)
    # Counted by sorting: what adds up in no order is done by a detour, for which a GPU waits, where it is to repeat.
    every = torch.arange(256, device=images.device).expand(*flat.shape[:2], 256).contiguous()
    below = torch.searchsorted(flat.sort(2).values.contiguous(), every)
    step = below.gather(2, flat.amax(2, keepdim=True)) // 255
    table = ((below + step // 2) // step.clamp_min(1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(2, flat).view_as(images) / 255


def stretch(images: Tensor) -> Tensor:
    """Each channel's lowest to 0 and its highest to 1; a flat one stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, images, (images - low) / torch.where(flat, 1.0, high - low))


def grey(images: Tensor) -> Tensor:
    """The luminance [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _blend(images: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    return (base + (images - base) * _wide(factor)).clamp(0, 1)


def _some(images: Tensor, changed: Tensor, draws: Draws, probability: float) -> Tensor:
    return torch.where(draws.uniform(1, 1, 1) < probability, changed, images)


def _around_one(draws: Draws, width: float) -> Tensor:
    return 1 + (draws.uniform() * 2 - 1) * width


def _wide(strength: Tensor) -> Tensor:
    return strength[:, None, None, None]
