import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TV

from featherweight.augment.geometric import affine, affine_matrix, rotate, warp
from featherweight.runtime.rng import Draws, generator

BILINEAR = InterpolationMode.BILINEAR
IMAGES = torch.rand(5, 3, 12, 16, generator=generator(0))


def some(low, high):
    return torch.linspace(low, high, 5)


def close(ours, theirs):
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=0, atol=2e-5)


def test_a_rotation_is_torchvisions():
    angles = some(-170, 130)
    ours = warp(IMAGES, affine_matrix(angles), "zero")
    close(ours, [TV.rotate(x, a.item(), BILINEAR) for x, a in zip(IMAGES, angles, strict=True)])


def test_an_affine_map_is_torchvisions():
    angle, right, down, scale = some(-30, 45), some(-5, 4), some(3, -2), some(0.7, 1.4)
    shear_x, shear_y = some(-20, 25), some(15, -10)
    ours = warp(IMAGES, affine_matrix(angle, right, down, scale, shear_x, shear_y), "zero")
    theirs = [
        TV.affine(
            IMAGES[n],
            -angle[n].item(),
            [right[n].item(), down[n].item()],
            scale[n].item(),
            [shear_x[n].item(), shear_y[n].item()],
            BILINEAR,
        )
        for n in range(5)
    ]
    close(ours, theirs)


@pytest.mark.parametrize("fill", ["zero", "edge", "reflect"])
def test_a_move_by_whole_pixels_fills_as_it_says(fill):
    ours = warp(IMAGES, affine_matrix(torch.zeros(5), right=2.0, down=-1.0), fill)
    mode = {"zero": "constant", "edge": "replicate", "reflect": "reflect"}[fill]
    padded = torch.nn.functional.pad(IMAGES, [2, 2, 2, 2], mode="reflect" if fill == "reflect" else mode)
    if fill == "reflect":  # grid_sample reflects at the pixels' edge, so that the outermost one stands twice
        padded = torch.cat([IMAGES.flip(-1)[..., -2:], IMAGES, IMAGES.flip(-1)[..., :2]], -1)
        padded = torch.cat([padded.flip(-2)[..., -2:, :], padded, padded.flip(-2)[..., :2, :]], -2)
    torch.testing.assert_close(ours, padded[..., 3:15, 0:16], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "keys"),
    [
        (rotate, {"degrees": 30}),
        (affine, {"degrees": 10, "shear": 5}),
    ],
)
def test_each_sample_draws_its_own(operation, keys):
    same = IMAGES[:1].expand(64, -1, -1, -1)
    done = operation(same, Draws(generator(0), 64, torch.device("cpu")), **keys)
    assert done.shape == same.shape
    assert len({tuple(image.flatten().tolist()) for image in done}) == 64


def test_rotations_stay_within_their_range():
    """Measures the angle of a blob in a corner around the centre, after up to 20 degrees in either direction."""
    image = torch.zeros(1, 1, 33, 33)
    image[..., 16, 28] = 1
    done = rotate(image.expand(500, -1, -1, -1), Draws(generator(0), 500, torch.device("cpu")), degrees=20)
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    mass = done[:, 0] / done.sum((1, 2, 3))[:, None, None]
    angles = torch.atan2((mass * -rows).sum((1, 2)), (mass * columns).sum((1, 2))).rad2deg()
    assert -21 < angles.min() < -17
    assert 17 < angles.max() < 21
