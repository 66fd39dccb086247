"""Each operation compared with torchvision's of the same name and magnitude, and the draws of the policies."""

import pytest
import torch
from torchvision.transforms import AutoAugment, InterpolationMode, RandAugment, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op

from featherweight.augment import policies
from featherweight.augment.policies import OPERATIONS, _magnitude, auto_augment, rand_augment, trivial_augment
from featherweight.runtime.rng import Draws, generator

CPU = torch.device("cpu")
PIXELS = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator(0))
SPACES = {
    "wide": (TrivialAugmentWide()._augmentation_space(31), 31, True),
    "rand": (RandAugment()._augmentation_space(31, (32, 32)), 31, False),
    "auto": (AutoAugment()._augmentation_space(10, (32, 32)), 10, False),
}


@pytest.mark.parametrize("space", SPACES)
def test_magnitudes_are_torchvisions(space):
    table, bins, wide = SPACES[space]
    levels = torch.arange(bins) / (bins - 1)
    for name, (magnitudes, signed) in table.items():
        if magnitudes.ndim:
            ours = _magnitude(name, levels, torch.full((bins,), -1.0 if signed else 1.0), 32, wide)
            theirs = magnitudes / 255 if name == "Solarize" else -magnitudes if signed else magnitudes
            torch.testing.assert_close(ours, theirs.float(), msg=name)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_operations_are_torchvisions(name, sign, level):
    strength = _magnitude(name, torch.full((4,), level), torch.full((4,), sign), 32, False)
    ours = OPERATIONS[name](PIXELS.float() / 255, strength)
    given = strength[0].item() * (255 if name == "Solarize" else 1)
    theirs = torch.stack([_apply_op(x, name, given, InterpolationMode.BILINEAR, None) for x in PIXELS])
    torch.testing.assert_close(
        ours * 255, theirs.float(), rtol=0, atol=2
    )  # torchvision rounds to whole levels, its greys too


def test_every_sample_gets_its_own_operation_and_strength():
    same = PIXELS[:1].float().expand(256, -1, -1, -1) / 255
    for policy in (trivial_augment, rand_augment, auto_augment):
        done = policy(same, Draws(generator(0), 256, CPU))
        assert done.shape == same.shape
        assert done.min() >= 0
        assert done.max() <= 1
        assert len({tuple(image.flatten()[::97].tolist()) for image in done}) > 20, policy


def test_samples_keep_their_places():
    """All pixels of image n are n: an operation may move or shade it, but the order of the batch must stay."""
    shades = (torch.arange(64) / 255 + 0.3)[:, None, None, None].expand(64, 3, 8, 8)
    which = torch.arange(64) % len(OPERATIONS)
    done = policies._apply(shades, list(OPERATIONS), which, torch.zeros(64) + 0.0)
    for n in range(64):
        alone = OPERATIONS[list(OPERATIONS)[which[n]]](shades[n : n + 1], torch.zeros(1))
        torch.testing.assert_close(done[n : n + 1], alone)


def test_trivial_augment_draws_all_operations_evenly(monkeypatch):
    seen = []
    monkeypatch.setattr(policies, "_apply", lambda images, names, which, strength: seen.append(which) or images)
    trivial_augment(PIXELS[:1].expand(14_000, -1, -1, -1), Draws(generator(0), 14_000, CPU))
    counts = torch.bincount(seen[0], minlength=14)
    assert (counts > 850).all()
    assert (counts < 1150).all()


def test_auto_augments_pairs_are_torchvisions():
    which, chance, level = policies._cifar_policies(tuple(OPERATIONS))
    assert which.shape == chance.shape == level.shape == (25, 2)
    assert list(OPERATIONS)[which[3, 0]] == "ShearY"  # the fourth: ShearY 0.5 8, TranslateY 0.7 9
    assert chance[3].tolist() == pytest.approx([0.5, 0.7])
    assert level[3].tolist() == pytest.approx([8 / 9, 1])
