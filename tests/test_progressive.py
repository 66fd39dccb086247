"""Progressive resizing: the size at each epoch, how images are resized, and which networks cannot do it."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from pydantic import ValidationError

from conftest import Command
from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.models import FAMILIES, build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.progressive import Progressive, shrunk
from featherweight.training.trainer import Trainer

RECIPE = {
    "model": {"name": "wrn", "depth": 10, "width": 0.25},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "progressive": {"scales": [0.5, 0.75], "until": [0.25, 0.5]},
    "train": {"epochs": 2, "batch_size": 8},
}


@pytest.mark.parametrize(("part", "scale"), [(0, 0.5), (0.24, 0.5), (0.25, 0.75), (0.49, 0.75), (0.5, 1.0), (1.0, 1.0)])
def test_each_scale_lasts_until_its_end(part: float, scale: float):
    assert Progressive(scales=[0.5, 0.75], until=[0.25, 0.5]).scale(part) == scale


def test_a_run_sees_small_images_first_and_is_judged_on_whole_ones(tmp_path, monkeypatch):
    recipe = Recipe.model_validate(RECIPE)
    images = np.random.default_rng(0).integers(0, 255, (32, 16, 16, 1)).astype(np.uint8)
    pack = Pack([str(i) for i in range(32)], images, np.arange(32) % 2)
    model = build(recipe.model, Shape(2, 1, 16))
    seen: dict[bool, list[int]] = {True: [], False: []}
    model.register_forward_pre_hook(lambda model, inputs: seen[model.training].append(inputs[0].shape[-1]))
    Trainer(recipe, model, Examples(pack, pack, 2), make_runtime("cpu"), tmp_path).fit()
    assert seen[True] == [8, 8, 12, 12, 16, 16, 16, 16]
    assert set(seen[False]) == {16}


def test_pixels_are_those_of_pillow():
    image = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    wanted = np.asarray(Pillow.fromarray(image).resize((20, 20), Pillow.Resampling.BILINEAR))
    got = shrunk(torch.from_numpy(image)[None, None], 0.625)[0, 0]
    torch.testing.assert_close(got, torch.from_numpy(wanted), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("progressive", "message"),
    [
        ({"scales": [0.5], "until": [0.2, 0.4]}, "1 scales and 2 ends; each scale has one end"),
        ({"scales": [0.5, 0.75], "until": [0.4, 0.2]}, "progressive.until: expected increasing numbers"),
        ({"scales": [1.5], "until": [0.4]}, "less than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(progressive: dict[str, list[float]], message: str):
    with pytest.raises(ValidationError, match=message):
        Progressive.model_validate(progressive)


def test_a_mean_of_every_pixel_is_of_one_size():
    with pytest.raises(ValidationError, match="it cannot be combined with train"):
        Recipe.model_validate({**RECIPE, "train": {"normalize": "pixel"}})


def test_a_network_of_one_size_is_refused_before_anything_is_read(command: Command):
    done = command("mlp", "--set", "progressive={scales: [0.75], until: [0.5]}")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: progressive.scales: mlp, built for images of 8 px, cannot take images of 6 px ("
    )
    assert done.stderr.endswith(": remove 0.75, or choose a network with global average pooling\n")
    done = command("mlp", "--set", "predict.views=[{name: scales, factors: [1.0, 1.5]}]")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: predict.views: scales: mlp, built for images of 8 px, cannot take images of 12 px ("
    )


def test_an_efficientnet_computes_on_the_sizes_it_is_shown():
    """Its own resolution is a factor on the input size, not a fixed size."""
    net = build(
        FAMILIES.validate({"name": "efficientnet", "width": 0.2, "depth": 0.2, "resolution": 1.5}), Shape(2, 1, 16)
    )
    seen = []
    net.net.stem.register_forward_pre_hook(lambda stem, inputs: seen.append(inputs[0].shape[-1]))
    for side in (16, 10):
        net(torch.rand(2, 1, side, side))
    assert seen == [24, 15]
