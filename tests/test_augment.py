import pytest
import torch
import torch.nn.functional as F

from featherweight.augment.table import (
    AUGMENTATIONS,
    MIRRORING,
    alternating_flip,
    crop,
    cutout,
    erasing,
    flip,
    vertical_flip,
)
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf

CPU = torch.device("cpu")


def draws(size: int) -> Draws:
    return Draws(generator(0, "test"), size, CPU)


@pytest.mark.parametrize("fill", ["reflect", "zero"])
def test_crop_cuts_each_sample_where_its_own_draw_says(fill):
    images = torch.rand(64, 3, 16, 16)
    cut = crop(images, draws(64), padding=0.125, fill=fill)
    padded = F.pad(images, [2] * 4, mode="reflect" if fill == "reflect" else "constant")
    again = draws(64)
    rows, columns = again.integers(5), again.integers(5)
    expected = torch.stack(
        [image[:, r : r + 16, c : c + 16] for image, r, c in zip(padded, rows.tolist(), columns.tolist(), strict=True)]
    )
    assert torch.equal(cut, expected)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 15  # 25 places: not one draw for all


def test_crop_keeps_channels_last():
    images = torch.rand(4, 3, 16, 16).to(memory_format=torch.channels_last)
    assert crop(images, draws(4)).is_contiguous(memory_format=torch.channels_last)


def test_crop_without_padding_changes_nothing():
    images = torch.rand(4, 1, 3, 3)
    assert crop(images, draws(4), padding=0.1) is images


def test_flip_mirrors_each_sample_by_its_own_draw():
    images = torch.rand(1000, 1, 4, 4)
    flipped = flip(images, draws(1000), probability=0.25)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 0.2 < mirrored.float().mean() < 0.3


def test_vertical_flip_mirrors_top_and_bottom():
    images = torch.rand(1000, 1, 4, 4)
    flipped = vertical_flip(images, draws(1000))
    mirrored = (flipped == images.flip(-2)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 0.45 < mirrored.float().mean() < 0.55


def test_alternating_flip_shows_every_image_both_ways_in_two_epochs():
    images = torch.rand(2000, 1, 2, 2)
    seen = []
    for epoch in range(4):
        places = torch.arange(5000, 7000)
        random = Draws(generator(epoch), 2000, CPU, epoch=epoch, samples=places)
        seen.append((alternating_flip(images, random) != images).flatten(1).any(1))
    assert torch.equal(seen[0], ~seen[1])
    assert torch.equal(seen[0], seen[2])
    assert 0.45 < seen[0].float().mean() < 0.55
    neighbours = (seen[0][1:] == seen[0][:-1]).float().mean()  # no pattern along the images, which are sorted by class
    assert 0.4 < neighbours < 0.6


def test_alternating_flip_goes_by_the_image_not_its_place_in_the_batch():
    images = torch.rand(100, 1, 2, 2)
    order = torch.randperm(100)
    one = alternating_flip(images, Draws(generator(0), 100, CPU, samples=torch.arange(100)))
    other = alternating_flip(images[order], Draws(generator(1), 100, CPU, samples=order))
    assert torch.equal(one[order], other)


@pytest.mark.parametrize("size", [0.25, 0.5, 1.0])
def test_cutout_paints_a_square_as_far_as_it_lies_inside(size):
    images = torch.rand(200, 3, 16, 16)
    cut = cutout(images, draws(200), size=size, fill=0.5)
    again, side = draws(200), round(16 * size)
    for n, (row, column) in enumerate(zip(again.integers(16).tolist(), again.integers(16).tolist(), strict=True)):
        expected = images[n].clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0.5
        assert torch.equal(cut[n], expected)


def test_erasing_paints_rectangles_of_the_area_and_shape_asked_for():
    """The same bounds as torchvision's RandomErasing, with rectangles rounded to whole pixels."""
    images = torch.rand(500, 3, 32, 32) * 0.5 + 0.5
    erased = erasing(images, draws(500), probability=1.0)
    for image in (erased == 0).all(1):
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        tall, wide = len(rows), len(columns)
        assert image.sum() == tall * wide  # one whole rectangle
        assert 0.01 < tall * wide / 32**2 < 0.36
        assert 0.25 < tall / wide < 4
    assert torch.equal(erasing(images, draws(500), probability=0.0), images)
    some = erasing(images, draws(500), probability=0.3, fill="noise")
    assert 0.25 < (some != images).flatten(1).any(1).float().mean() < 0.35


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [4, 9])
def test_every_augmentation_keeps_the_shape_and_the_range_and_repeats_itself(name, channels, side):
    images = torch.rand(13, channels, side, side)
    operation = OneOf(AUGMENTATIONS).sections[name](name=name)
    done = operation(images.clone(), draws(13))
    assert done.shape == images.shape
    assert done.dtype == torch.float32
    assert done.min() >= 0
    assert done.max() <= 1 + 1e-5
    assert torch.equal(done, operation(images.clone(), draws(13)))


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"crop"}))
def test_an_augmentation_does_not_change_what_it_was_given(name):
    images = torch.rand(8, 3, 8, 8)
    before = images.clone()
    OneOf(AUGMENTATIONS).sections[name](name=name)(images, draws(8))
    assert torch.equal(images, before)


def test_what_mirrors_is_known():
    """Each name that a competition without mirroring leaves out exists, and no other operation mirrors."""
    assert set(MIRRORING) == {name for name in AUGMENTATIONS if "flip" in name}
