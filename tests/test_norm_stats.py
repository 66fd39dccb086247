import numpy as np
import pytest
import torch

from featherweight.data.pack import Pack
from featherweight.models import MODELS, build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.schema import OneOf
from featherweight.training import checkpoint
from featherweight.training.batches import Batches
from featherweight.training.norm_stats import renew, standardize

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)


def model():
    torch.manual_seed(0)
    return build(OneOf(MODELS).sections["wrn"](name="wrn", depth=10, width=0.25), Shape(2, 3, 6))


def test_standardize_is_the_mean_and_deviation_of_each_channel():
    net = model()
    standardize(net, IMAGES, chunk=7)
    np.testing.assert_allclose(net.normalize.mean.flatten(), (IMAGES / 255).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(net.normalize.std.flatten(), (IMAGES / 255).std((0, 1, 2)), rtol=1e-5)


def test_the_mean_of_every_pixel_survives_saving(tmp_path):
    net = model()
    standardize(net, IMAGES, per_pixel=True, chunk=7)
    np.testing.assert_allclose(net.normalize.mean, (IMAGES / 255).mean(0).transpose(2, 0, 1), rtol=1e-5)
    checkpoint.save_weights(tmp_path / "weights", net)
    again = model()
    checkpoint.load_weights(tmp_path / "weights", again)
    images = torch.rand(4, 3, 6, 6)
    assert torch.equal(again.eval()(images), net.eval()(images))


@pytest.mark.parametrize("batch_size", [10, 50])
def test_renewed_statistics_are_the_mean_over_batches(batch_size):
    net = model()
    standardize(net, IMAGES)
    batches = Batches(Pack([""] * 50, IMAGES, np.zeros(50, dtype=np.int64)), 2, batch_size, 0, make_runtime("cpu"))
    renew(net, batches, [], make_runtime("cpu"))
    seen = []
    net.net.group1[0].norm1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        for batch in batches.epoch(-1):
            net.eval()(batch.images)
    norm = net.net.group1[0].norm1
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))
