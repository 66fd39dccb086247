import pytest
import torch
import torch.nn.functional as F

from featherweight.randomness import Draws, generator
from featherweight.training.augment import crop, flip

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
