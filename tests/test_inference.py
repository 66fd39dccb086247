from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from featherweight.inference import VIEWS, predict_probs
from featherweight.models import MODELS, build
from featherweight.schema import Choice, OneOf
from featherweight.training.augment import crop, flip
from featherweight.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
view = TypeAdapter(Annotated[Choice, OneOf(VIEWS)]).validate_python
IMAGES = np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)


def model(seed: int = 0):
    torch.manual_seed(seed)
    spec = TypeAdapter(Annotated[Choice, OneOf(MODELS)]).validate_python(
        {"name": "wrn", "depth": 10, "width": 0.5, "dropout": 0.5}
    )
    return build(spec, 5, 3, 8)


def asked(net, images) -> np.ndarray:
    with torch.no_grad():
        return net.eval()(images).softmax(1).numpy()


def floats() -> torch.Tensor:
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255


def test_without_views_it_is_the_softmax_with_dropout_off():
    net = model().train()
    probs = predict_probs([net], IMAGES, runtime=CPU)
    assert (probs.shape, probs.dtype) == ((37, 5), np.float32)
    assert net.training
    np.testing.assert_allclose(probs, asked(net, floats()), atol=1e-6)


def test_flip_and_shift_are_the_six_weighted_views():
    net, expected = model(), 0
    for x in (floats(), floats().flip(-1)):
        padded = torch.nn.functional.pad(x, [1] * 4, mode="reflect")
        moved = asked(net, padded[:, :, :8, :8]) + asked(net, padded[:, :, 2:, 2:])
        expected = expected + 0.25 * asked(net, x) + 0.125 * moved
    probs = predict_probs([net], IMAGES, runtime=CPU, views=[view("flip"), view("shift")])
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_train_views_are_draws_of_the_training_augmentations():
    """LOGBOOK A12; the same seed draws the same, another does not, and the draws differ among themselves."""
    net = model()

    def ask(seed, count=4):
        views = [view({"name": "train", "count": count})]
        return predict_probs([net], IMAGES, runtime=CPU, views=views, augment=[crop, flip], seed=seed)

    assert np.array_equal(ask(0), ask(0))
    assert not np.allclose(ask(0), ask(1))
    assert not np.allclose(ask(0, 1), ask(0, 2))
    np.testing.assert_allclose(ask(0).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("views", [[], ["flip"], ["shift"], ["flip", "shift"], ["shift", "flip"]])
def test_weights_of_views_sum_to_one(views):
    probs = predict_probs([model()], IMAGES, runtime=CPU, views=[view(name) for name in views])
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_models_are_averaged():
    nets = [model(0), model(1)]
    expected = sum(predict_probs([net], IMAGES, runtime=CPU) for net in nets) / 2
    np.testing.assert_allclose(predict_probs(nets, IMAGES, runtime=CPU), expected, atol=1e-6)


def test_the_batch_size_changes_nothing_but_the_pace():
    told = []
    small = predict_probs([model()], IMAGES, runtime=CPU, views=[view("flip")], batch_size=10, advance=told.append)
    np.testing.assert_allclose(small, predict_probs([model()], IMAGES, runtime=CPU, views=[view("flip")]), atol=1e-6)
    assert told == [10, 10, 10, 7]
