from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from featherweight.augment.table import AUGMENTATIONS, MIRRORING, crop, flip
from featherweight.errors import DivergedError
from featherweight.evaluation.calibration import fit_temperature, temper
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.tta import VIEWS, is_random
from featherweight.models import MODELS, build
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime
from featherweight.schema import Choice, OneOf

CPU = Runtime(torch.device("cpu"))
view = TypeAdapter(Annotated[Choice, OneOf(VIEWS)]).validate_python
IMAGES = np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)


def model(seed: int = 0):
    torch.manual_seed(seed)
    spec = TypeAdapter(Annotated[Choice, OneOf(MODELS)]).validate_python(
        {"name": "wrn", "depth": 10, "width": 0.5, "dropout": 0.5}
    )
    return build(spec, Shape(5, 3, 8))


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


@pytest.mark.parametrize(("dtype", "cure"), [(None, "a smaller optimizer.lr"), (torch.float16, "train.precision=fp32")])
def test_weights_that_answer_no_numbers_are_refused(dtype, cure, monkeypatch):
    """The last step of a run with a far too large learning rate gives them, after the last finite loss."""

    class Broken(torch.nn.Module):
        def forward(self, images):
            logits = images.mean((2, 3)).repeat(1, 2)[:, :5]
            logits[:2, 3] = torch.nan
            return logits

    runtime = replace(CPU, dtype=dtype)
    monkeypatch.setattr(Runtime, "autocast", lambda self: nullcontext())
    with pytest.raises(DivergedError, match=f"2 of 37 images: .*{cure}"):
        predict_probs([Broken()], IMAGES, runtime=runtime)


def test_a_model_in_training_is_so_again_whatever_predicting_raises():
    class Fails(torch.nn.Module):
        def forward(self, images):
            raise KeyboardInterrupt

    nets = [model().train(), model().eval(), Fails().train()]
    with pytest.raises(KeyboardInterrupt):
        predict_probs(nets, IMAGES, runtime=CPU)
    assert [net.training for net in nets] == [True, False, True]


def test_no_images_are_an_error_that_says_so():
    with pytest.raises(ValueError, match="no images to predict"):
        predict_probs([model()], IMAGES[:0], runtime=CPU)


def test_flip_and_shift_are_the_six_weighted_views():
    net, expected = model(), 0
    for x in (floats(), floats().flip(-1)):
        padded = torch.nn.functional.pad(x, [1] * 4, mode="reflect")
        moved = asked(net, padded[:, :, :8, :8]) + asked(net, padded[:, :, 2:, 2:])
        expected = expected + 0.25 * asked(net, x) + 0.125 * moved
    probs = predict_probs([net], IMAGES, runtime=CPU, views=[view("flip"), view("shift")])
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_train_views_are_draws_of_the_training_augmentations():
    """LOGBOOK A12; the same seed draws the same views, another seed others, and the views differ."""
    net = model()

    def ask(seed, count=4):
        views = [view({"name": "train", "count": count})]
        return predict_probs([net], IMAGES, runtime=CPU, views=views, augment=[crop, flip], seed=seed)

    assert np.array_equal(ask(0), ask(0))
    assert not np.allclose(ask(0), ask(1))
    assert not np.allclose(ask(0, 1), ask(0, 2))
    np.testing.assert_allclose(ask(0).sum(1), 1, atol=1e-5)


def test_train_views_alternate_what_alternates_between_epochs():
    net, alternating = model(), OneOf(AUGMENTATIONS).validate("alternating_flip")
    views = [view({"name": "train", "count": 2})]
    drawn = predict_probs([net], IMAGES, runtime=CPU, views=views, augment=[alternating])
    np.testing.assert_allclose(drawn, predict_probs([net], IMAGES, runtime=CPU, views=[view("flip")]), atol=1e-6)


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


def views_of(name, images, **keys):
    return list(view({"name": name, **keys})(images, None, []))


@pytest.mark.parametrize("name", sorted(set(VIEWS) - {"train"}))
def test_only_views_that_are_known_to_mirror_do(name):
    """A competition without mirroring leaves out the views in MIRRORING: no other view mirrors."""
    ramp = torch.linspace(0, 1, 32).expand(4, 3, 32, 32).contiguous()
    halves = [images.chunk(2, dim=-1) for _, images in views_of(name, ramp)]
    assert all(bool(left.mean() < right.mean()) for left, right in halves) == (name not in MIRRORING)


@pytest.mark.parametrize("name", VIEWS)
def test_only_the_views_of_training_augmentations_draw(name):
    assert is_random(OneOf(VIEWS).validate(name)) == (name == "train")


@pytest.mark.parametrize("name", sorted(set(VIEWS) - {"train"}))
def test_the_weights_of_every_view_add_up_to_one(name):
    found = views_of(name, floats())
    assert sum(weight for weight, _ in found) == pytest.approx(1)
    assert all(len(images) == 37 for _, images in found)


def test_five_crops_are_torchvisions_enlarged():
    from torchvision.transforms.v2 import functional as TV

    expected = [TV.resize(crop, [8, 8], antialias=True) for crop in TV.five_crop(floats(), [6, 6])]
    for (weight, ours), theirs in zip(views_of("five_crops", floats(), size=0.75), expected, strict=True):
        assert weight == 0.2
        torch.testing.assert_close(ours, theirs)


def test_scales_are_torchvisions():
    from torchvision.transforms.v2 import functional as TV

    (_, same), (_, larger), (_, smaller) = views_of("scales", floats(), factors=[1.0, 1.5, 0.5])
    assert torch.equal(same, floats())
    torch.testing.assert_close(larger, TV.resize(floats(), [12, 12], antialias=True))
    torch.testing.assert_close(smaller, TV.resize(floats(), [4, 4], antialias=True))
    probs = predict_probs([model()], IMAGES, runtime=CPU, views=[view("scales"), view("flip")])
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_rotations_are_torchvisions_inside():
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as TV

    _, (_, left), (_, right) = views_of("rotate", floats(), degrees=15)
    for ours, angle in ((left, 15), (right, -15)):
        theirs = TV.rotate(floats(), angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[..., 2:6, 2:6], theirs[..., 2:6, 2:6], rtol=0, atol=1e-5)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(true):
    rng = np.random.default_rng(0)
    calibrated = rng.dirichlet(np.ones(4), 20_000)
    labels = (calibrated.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    too_certain = temper(calibrated, 1 / true)
    found = fit_temperature(too_certain, labels)
    assert found == pytest.approx(true, rel=0.05)
    assert np.array_equal(temper(too_certain, found).argmax(1), too_certain.argmax(1))


def test_a_holdout_without_an_error_does_not_make_answers_certain():
    """A Kaggle log loss is 34 for an image whose class has a probability of 0."""
    labels = np.arange(120) % 2
    sure = np.where(np.eye(2)[labels] == 1, 0.98, 0.02).astype(np.float32)
    for probs, truth in ((sure, labels), (sure, np.eye(2)[labels].astype(bool))):
        tempered = temper(probs, fit_temperature(probs, truth), several=truth.ndim == 2)
        assert 1 / 500 < tempered.min() < 1 / 120
    many = fit_temperature(np.tile(sure, (100, 1)), np.tile(labels, 100))
    assert many < fit_temperature(sure, labels) < 1


def test_tempering_keeps_rows_of_one_and_certainty_finite():
    probs = np.array([[1.0, 0.0], [0.3, 0.7]], dtype=np.float32)
    np.testing.assert_allclose(temper(probs, 1.0), probs, atol=1e-6)
    np.testing.assert_allclose(temper(probs, 3.0).sum(1), 1, atol=1e-6)
