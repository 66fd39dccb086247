"""Augmentations that change the values of pixels and leave them where they are.

All take and return images float32 [B, C, H, W] in [0, 1]. Those in a recipe (`jitter` to `noise`) draw their strength
for each image. The others take it as a tensor [B] and compute what torchvision's function of the same name does.
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
    """Change brightness, contrast, saturation and hue at random, in this order.

    Each of the first three is multiplied by a factor drawn between 1 - x and 1 + x. The hue is turned by up to `hue`
    times 180 degrees in either direction. Images of one channel have no saturation and hue: these are skipped.
    """
    images = adjust_brightness(images, _around_one(draws, brightness))
    images = adjust_contrast(images, _around_one(draws, contrast))
    if images.shape[1] == 3:
        images = adjust_saturation(images, _around_one(draws, saturation))
        if hue > 0:
            images = adjust_hue(images, (draws.uniform() * 2 - 1) * hue / 2)
    return images


def blur(
    images: Tensor,
    draws: Draws,
    *,
    sigma: tuple[Positive, Positive] = (0.1, 2.0),
    kernel: Odd = 5,
    probability: Fraction = 0.5,
) -> Tensor:
    """Blur an image with a Gaussian, with `probability`.

    Its standard deviation is drawn between the two values of `sigma`, in pixels. `kernel` is the side of the kernel in
    pixels, an odd number.
    """
    deviation = sigma[0] + draws.uniform() * (sigma[1] - sigma[0])
    return _some(images, gaussian_blur(images, deviation, kernel), draws, probability)


def sharpness(images: Tensor, draws: Draws, *, factor: NonNegative = 2.0, probability: Fraction = 0.5) -> Tensor:
    """Sharpen an image (`factor` above 1) or smooth it (below 1; 0 is fully smoothed), with `probability`."""
    return _some(images, adjust_sharpness(images, torch.full_like(draws.uniform(), factor)), draws, probability)


def posterize(images: Tensor, draws: Draws, *, bits: PositiveInt = 4, probability: Fraction = 0.5) -> Tensor:
    """Keep only the highest `bits` of the 8 bits of each channel, with `probability`."""
    return _some(images, posterized(images, torch.full_like(draws.uniform(), bits)), draws, probability)


def solarize(images: Tensor, draws: Draws, *, threshold: Fraction = 0.5, probability: Fraction = 0.5) -> Tensor:
    """Invert the pixels whose value is at least `threshold`, with `probability`."""
    return _some(images, solarized(images, torch.full_like(draws.uniform(), threshold)), draws, probability)


def equalize(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Equalise the histogram of each channel, with `probability`."""
    return _some(images, equalized(images), draws, probability)


def autocontrast(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Stretch each channel to the full range from 0 to 1, with `probability`."""
    return _some(images, stretch(images), draws, probability)


def noise(images: Tensor, draws: Draws, *, deviation: HalfOpenFraction = 0.05) -> Tensor:
    """Add Gaussian noise to every image, of a standard deviation drawn between 0 and `deviation` (pixels: 0 to 1)."""
    return (images + draws.normal(*images.shape[1:]) * draws.uniform(1, 1, 1) * deviation).clamp(0, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Return images float32 [B, C, H, W] multiplied by `factor` [B], clamped to [0, 1]."""
    return (images * _wide(factor)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with the mean of its luminance; a `factor` [B] above 1 increases the contrast."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its luminance; a `factor` [B] above 1 increases the saturation, and 0 gives grey."""
    return _blend(images, grey(images), factor)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hues of RGB images by `turn` [B], a fraction of the full circle."""
    high, low = images.amax(1), images.amin(1)
    spread = high - low
    divisor = torch.where(spread > 0, spread, 1.0)
    red, green, blue = images.unbind(1)
    r, g, b = ((high - channel) / divisor for channel in (red, green, blue))
    hue = torch.where(red == high, b - g, torch.where(green == high, 2 + r - b, 4 + g - r)) / 6
    hue = (hue + turn[:, None, None]) % 1.0
    saturation = spread / torch.where(high > 0, high, 1.0)
    # A channel loses more of the spread the further the hue is from the channel's own hue.
    channels = [(hue * 6 + offset) % 6 for offset in (5.0, 3.0, 1.0)]
    return torch.stack([high - high * saturation * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], 1).clamp(
        0, 1
    )


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with a smoothed copy; a `factor` [B] above 1 sharpens. The outermost pixels stay as they are."""
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
    """Blur images by Gaussians of the standard deviations `sigma` [B], in pixels; edges are reflected.

    `kernel` is the side of the kernel in pixels, an odd number; it is reduced for images smaller than that.
    """
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
    """Keep the highest `bits` [B] of the 8 bits of each value."""
    step = _wide(torch.exp2(8 - bits))
    return (images * 255).round().div(step).floor() * step / 255


def solarized(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are at least `threshold` [B]."""
    return torch.where(images >= _wide(threshold), 1 - images, images)


def equalized(images: Tensor) -> Tensor:
    """Equalise the histogram of each channel over 256 levels, as PIL does."""
    levels = (images * 255).round().long()
    flat = levels.flatten(2)
    # Counted by sorting: deterministic histograms on a GPU take a detour through the host.
    every = torch.arange(256, device=images.device).expand(*flat.shape[:2], 256).contiguous()
    below = torch.searchsorted(flat.sort(2).values.contiguous(), every)
    step = below.gather(2, flat.amax(2, keepdim=True)) // 255
    table = ((below + step // 2) // step.clamp_min(1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(2, flat).view_as(images) / 255


def stretch(images: Tensor) -> Tensor:
    """Scale each channel so that its lowest value is 0 and its highest 1; a constant channel stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, images, (images - low) / torch.where(flat, 1.0, high - low))


def grey(images: Tensor) -> Tensor:
    """Return the luminance of images [B, C, H, W] as [B, 1, H, W]."""
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
