import numpy as np
import pytest
import torch
from torch import nn

from featherweight.models import FAMILIES, build
from featherweight.models.fastnet import FastNet, Whitening
from featherweight.models.shape import Shape
from featherweight.training import norm_stats
from featherweight.training.norm_stats import standardize, start_from_images


def correlated(n: int, channels: int) -> np.ndarray:
    """Make smooth images, whose neighbouring pixels are similar."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(n, 4, 4, channels)).repeat(4, 1).repeat(4, 2) + 0.3 * rng.normal(
        size=(n, 16, 16, channels)
    )
    return (128 + 40 * coarse).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_whitens_the_training_images(channels):
    images = correlated(200, channels)
    model = build(FAMILIES.validate("fastnet"), Shape(10, channels, 16))
    standardize(model, images)
    start_from_images(model, images)
    layer = model.net.whiten
    pixels = model.normalize(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    responses = layer(pixels).transpose(0, 1).flatten(1)
    half = len(responses) // 2
    torch.testing.assert_close(responses[:half], -responses[half:])
    covariance = responses[:half] @ responses[:half].T / responses.shape[1]
    torch.testing.assert_close(covariance, torch.eye(half), atol=0.06, rtol=0)
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad


def test_whitening_counts_the_same_sample_every_time():
    images = correlated(300, 3)
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build(FAMILIES.validate("fastnet"), Shape(10, 3, 16))
        start_from_images(model, images, sample=100)
        weights.append(model.net.whiten.weight.clone())
    assert torch.equal(*weights)


def test_models_that_start_from_nothing_are_left_alone():
    model = build(FAMILIES.validate("mlp"), Shape(10, 1, 8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    start_from_images(model, np.zeros((4, 8, 8, 1), np.uint8))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_convolutions_start_as_the_identity_and_norms_keep_their_scale_of_1():
    net = FastNet(10, 3, 32, widths=[64, 256, 256])
    conv = net.groups[0].convs[1]
    images = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(conv(images)[:, :64], images)
    wide = net.groups[1].convs[0]
    torch.testing.assert_close(wide(images)[:, :64], images)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert all(norm.weight.eq(1).all() and not norm.weight.requires_grad and norm.bias.requires_grad for norm in norms)


def test_a_third_convolution_comes_with_a_residual():
    torch.manual_seed(0)
    net = FastNet(10, 3, 16, widths=[8, 8, 8], depth=3).eval()
    group = net.groups[0]
    images = torch.randn(2, 24, 8, 8)
    first = torch.nn.functional.gelu(group.norms[0](torch.max_pool2d(group.convs[0](images), 2)))
    second = torch.nn.functional.gelu(group.norms[1](group.convs[1](first)))
    expected = torch.nn.functional.gelu(group.norms[2](group.convs[2](second)) + first)
    torch.testing.assert_close(group(images), expected)


@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 2), (20, 3, 62), (32, 3, 10), (224, 3, 200)])
def test_every_size_works(size, channels, classes):
    net = FastNet(classes, channels, size, widths=[4, 4, 4]).eval()
    assert net(torch.rand(2, channels, size, size)).shape == (2, classes)


def test_whitening_is_a_parameter_like_any_other():
    assert sum(parameter.numel() for parameter in Whitening(3).parameters()) == 24 * 12 + 24


def test_of_large_images_fewer_are_looked_at(monkeypatch):
    """5,000 images of 64 px took a gigabyte."""
    seen = []
    model = build(FAMILIES.validate("fastnet"), Shape(10, 3, 8))
    monkeypatch.setattr(type(model.net.whiten), "start_from_images", lambda self, images: seen.append(len(images)))
    monkeypatch.setattr(norm_stats, "MAX_PIXELS", 8 * 8 * 5)
    start_from_images(model, np.zeros((40, 8, 8, 3), np.uint8))
    assert seen == [5]
