"""Each operation against torchvision's, or PIL's, image by image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms.v2 import functional as TV

from featherweight.augment import color
from featherweight.runtime.rng import Draws, generator

CPU = torch.device("cpu")


def images(channels=3, side=17, count=6):
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (count, 5, 5, channels), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(x.squeeze()).resize((side, side), Image.Resampling.BILINEAR)) for x in low]
    pixels = torch.from_numpy(np.stack(smooth).reshape(count, side, side, channels)).permute(0, 3, 1, 2)
    pixels[0] = 77  # a flat one
    pixels[1] = pixels[1] // 4 + 20  # of little contrast
    return pixels


def strengths(low, high, count=6):
    return torch.linspace(low, high, count)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (color.adjust_brightness, TV.adjust_brightness, 0.1, 2.0),
        (color.adjust_contrast, TV.adjust_contrast, 0.1, 2.0),
        (color.adjust_saturation, TV.adjust_saturation, 0.0, 2.0),
        (color.adjust_sharpness, TV.adjust_sharpness, 0.0, 2.0),
        (color.solarized, TV.solarize, 0.1, 0.9),
    ],
)
def test_strengths_mean_what_they_mean_to_torchvision(channels, ours, theirs, low, high):
    pixels, strength = images(channels).float() / 255, strengths(low, high)
    expected = torch.stack([theirs(image, s.item()) for image, s in zip(pixels, strength, strict=True)])
    torch.testing.assert_close(ours(pixels, strength), expected, rtol=0, atol=2e-6)


def test_hue_is_torchvisions():
    pixels, turn = images().float() / 255, strengths(-0.5, 0.5)
    expected = torch.stack([TV.adjust_hue(image, t.item()) for image, t in zip(pixels, turn, strict=True)])
    torch.testing.assert_close(color.adjust_hue(pixels, turn), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_posterize_equalize_and_autocontrast_are_torchvisions_and_pils(channels):
    pixels = images(channels)
    for bits in range(1, 9):
        ours = color.posterized(pixels.float() / 255, torch.full((6,), bits))
        torch.testing.assert_close(ours, TV.posterize(pixels, bits).float() / 255)
    equal = (color.equalized(pixels.float() / 255) * 255).round().byte()
    assert torch.equal(equal, TV.equalize(pixels))
    for image, done in zip(pixels, equal, strict=True):
        pil = Image.fromarray(
            image.permute(1, 2, 0).squeeze(-1).numpy() if channels == 1 else image.permute(1, 2, 0).numpy()
        )
        assert np.array_equal(np.asarray(ImageOps.equalize(pil)).reshape(17, 17, channels), done.permute(1, 2, 0))
    torch.testing.assert_close(
        color.stretch(pixels.float() / 255), torch.stack([TV.autocontrast(x) for x in pixels.float() / 255])
    )


def test_equalize_at_the_sizes_where_its_step_is_nothing():
    tiny = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8, generator=generator(0))
    assert torch.equal((color.equalized(tiny.float() / 255) * 255).round().byte(), TV.equalize(tiny))


def test_enhancements_are_pils():
    """PIL rounds to whole levels, also its grey values: equal to within two levels."""
    pixels, strength = images(), strengths(0.2, 1.8)
    for ours, theirs in (
        (color.adjust_brightness, ImageEnhance.Brightness),
        (color.adjust_contrast, ImageEnhance.Contrast),
        (color.adjust_saturation, ImageEnhance.Color),
        (color.adjust_sharpness, ImageEnhance.Sharpness),
    ):
        got = ours(pixels.float() / 255, strength) * 255
        for image, s, done in zip(pixels, strength, got, strict=True):
            pil = theirs(Image.fromarray(image.permute(1, 2, 0).numpy())).enhance(s.item())
            assert np.abs(np.asarray(pil).astype(float) - done.permute(1, 2, 0).numpy()).max() < 2, theirs


@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_blur_is_torchvisions(kernel):
    pixels, sigma = images().float() / 255, strengths(0.2, 2.0)
    expected = torch.stack([TV.gaussian_blur(x, kernel, s.item()) for x, s in zip(pixels, sigma, strict=True)])
    torch.testing.assert_close(color.gaussian_blur(pixels, sigma, kernel), expected, rtol=0, atol=1e-5)


def test_jitter_is_torchvisions_in_this_order():
    pixels = images().float() / 255
    done = color.jitter(pixels, Draws(generator(1), 6, CPU), brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    draws = Draws(generator(1), 6, CPU)
    bright, contrast, colour = (1 + (draws.uniform() * 2 - 1) * width for width in (0.4, 0.3, 0.2))
    hue = (draws.uniform() * 2 - 1) * 0.05
    for n, image in enumerate(pixels):
        expected = TV.adjust_contrast(TV.adjust_brightness(image, bright[n].item()), contrast[n].item())
        expected = TV.adjust_hue(TV.adjust_saturation(expected, colour[n].item()), hue[n].item())
        torch.testing.assert_close(done[n], expected, rtol=0, atol=1e-5)


def test_noise_is_of_the_deviation_drawn():
    flat = torch.full((200, 3, 16, 16), 0.5)
    deviations = color.noise(flat, Draws(generator(0), 200, CPU), deviation=0.1).std((1, 2, 3))
    assert deviations.max() < 0.11
    assert deviations.mean().item() == pytest.approx(0.05, abs=0.01)
