import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featherweight.augment.mixing import MIXINGS, mix
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf

SECTIONS = OneOf(MIXINGS).sections


def draws(seed=0, size=64):
    return Draws(generator(seed), size, torch.device("cpu"))


def coded(size=64, side=12):
    """Make images whose pixels all have the image's number, which is also its class, to recognise mixtures."""
    images = torch.arange(size).float()[:, None, None, None].expand(size, 2, side, side).contiguous()
    return images, torch.eye(size)


def mixing(name, **keys):
    return SECTIONS[name](name=name, **keys)


@given(st.integers(0, 1000))
def test_mixup_mixes_pixels_and_targets_alike(seed):
    images, targets = coded()
    mixed, wanted = mixing("mixup", alpha=1.0)(images, targets, draws(seed))
    torch.testing.assert_close(wanted.sum(1), torch.ones(64))
    torch.testing.assert_close(mixed[:, 0, 0, 0], wanted @ torch.arange(64.0), rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 1000))
def test_targets_are_the_areas(seed):
    images, targets = coded()
    mixed, wanted = mixing("cutmix")(images, targets, draws(seed))
    areas = torch.nn.functional.one_hot(mixed[:, 0].long(), 64).float().mean((1, 2))
    torch.testing.assert_close(areas, wanted, rtol=0, atol=1e-6)


def test_a_cutmix_is_torchvisions_box():
    """Compared with torchvision's v2.CutMix with the same weight and centre."""
    height = width = 12
    for seed in range(50):
        images, targets = coded(4)
        mixed, _ = mixing("cutmix")(images, targets, draws(seed, 4))
        again = draws(seed, 4)
        partner = again.uniform().argsort(stable=True)
        again.uniform()
        weight, rows, columns = again.beta(1.0), again.integers(height), again.integers(width)
        for place in range(4):
            half = 0.5 * np.sqrt(1 - weight[place].item())
            top, bottom = max(rows[place] - int(half * height), 0), min(rows[place] + int(half * height), height)
            left, right = max(columns[place] - int(half * width), 0), min(columns[place] + int(half * width), width)
            expected = images[place].clone()
            expected[:, top:bottom, left:right] = images[partner[place], :, top:bottom, left:right]
            assert torch.equal(mixed[place], expected)


def test_each_sample_draws_its_own():
    images, targets = coded()
    for name in MIXINGS:
        _, wanted = mixing(name)(images, targets, draws())
        assert len(wanted.max(1).values.unique()) > 10, name


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_probability_of_none_leaves_the_batch_alone(name):
    images, targets = coded()
    mixed, wanted = mixing(name, probability=0.0)(images, targets, draws())
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(wanted, targets)


def test_several_mixings_take_turns_by_sample():
    images, targets = coded(512, 6)
    both = [mixing("mixup", alpha=1.0), mixing("cutmix")]
    mixed, wanted = mix(images, targets, draws(1, 512), both)
    torch.testing.assert_close(wanted.sum(1), torch.ones(512))
    flat = (mixed == mixed[:, :1, :1, :1]).all((1, 2, 3))  # a mixup of flat images is flat, a cutmix has an edge
    assert 0.35 < flat.float().mean() < 0.8


def test_no_mixing_is_no_change():
    images, targets = coded()
    assert mix(images, targets, draws(), [])[0] is images


def test_weights_follow_the_beta_distribution():
    weights = draws(0, 20_000).beta(0.4)
    assert weights.mean().item() == pytest.approx(0.5, abs=0.01)
    assert weights.var().item() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.005)
