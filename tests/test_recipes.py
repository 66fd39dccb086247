"""Every network that ships: it has the published number of parameters, trains a step and is saved and loaded."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from conftest import weighed
from featherweight import budget, paths
from featherweight.config import load_competition, load_recipe
from featherweight.data.pack import Pack
from featherweight.errors import OverBudget
from featherweight.models import build
from featherweight.models.pretrained_weights import starts_pretrained
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.training import checkpoint
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

# Parameters with 10 classes and RGB at 32 px. From LOGBOOK A and D, the papers and, the rest, the libraries themselves.
WEIGHTS = {
    "cct7": 3_760_139,
    "convnext_atto": 3_377_730,
    "densenet121": 6_964_106,
    "densenet121_light": 4_971_466,
    "efficientnet_b0": 4_020_358,
    "efficientnet_b0_library": 4_020_358,
    "efficientnet_d106": 6_525_994,
    "efficientnet_d106_spread": 4_608_310,
    "fastnet94": 1_972_792,
    "fastnet95": 4_606_520,
    "fastnet96": 4_846_648,
    "fastvit": 3_264_922,
    "fpn": 2_316_042,
    "ghostnet": 3_914_318,
    "inception": 5_610_154,
    "inception_light": 4_948_318,
    "mlp": 1_707_274,
    "mobilenet_v1": 3_217_226,
    "mobilenet_v2": 2_236_682,
    "mobilenet_v3": 4_214_842,
    "mobilenet_v3_small": 1_528_106,
    "mobilenet_v4": 2_505_834,
    "mobileone": 4_278_522,
    "plain20": 269_722,
    "plain32": 464_154,
    "plain34": 21_108_298,
    "plain34_light": 4_874_797,
    "plain44": 658_586,
    "plain50": 20_744_266,
    "plain50_light": 4_990_378,
    "plain56": 853_018,
    "repvit": 4_727_028,
    "resnet18": 11_173_962,
    "resnet18_light": 4_869_065,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet34": 21_282_122,
    "resnet34_light": 4_915_309,
    "resnet44": 658_586,
    "resnet50": 23_520_842,
    "resnet50_light": 4_771_313,
    "resnet56": 853_018,
    "resnet101": 42_512_970,
    "resnet101_light": 4_943_331,
    "resnet152": 58_156_618,
    "resnet152_light": 4_896_473,
    "shufflenet_v2": 1_263_854,
    "starnet": 2_678_098,
    "tiny": 20_794,
    "vgg16": 134_301_514,
    "vgg16_bn": 134_309_962,
    "vgg16_bn_light": 4_955_419,
    "vgg16_light": 4_950_523,
    "vgg19": 139_611_210,
    "vgg19_bn": 139_622_218,
    "vgg19_bn_light": 4_817_580,
    "vgg19_light": 4_812_188,
    "wrn10_5": 1_868_314,
    "wrn16_4": 2_748_890,
    "wrn16_5": 4_289_754,
    "wrn22_4": 4_298_970,
    "wrn28_3": 3_294_042,
    "wrn28_3_pad": 3_270_234,
    "wrn28_4": 5_849_050,
    "wrn40_2": 2_243_546,
    "wrn40_3": 5_038_554,
    "wrn58_11_bottleneck": 4_404_698,
}
LIMIT = 5_000_000
CIFAR = load_competition("cifar10")


SIZES = ("width", "widths", "depth", "blocks", "growth", "layers", "hidden", "head_width")  # more of the same layers


def distinct(names: Iterable[str] = WEIGHTS) -> list[str]:
    """Return the smallest recipe of each network that differs in more than its size; other sizes run the same code."""
    lightest: dict[str, str] = {}
    for name in sorted(names, key=lambda name: WEIGHTS[name]):
        model = load_recipe(name).model
        kind = {key: value for key, value in model.arguments.items() if key not in SIZES}
        lightest.setdefault(f"{model.name} {kind}", name)
    return list(lightest.values())


@pytest.mark.some(2)
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_recipe_weighs_what_is_written(name):
    one = weighed(name)
    assert one.counted == WEIGHTS[name]
    assert one.macs > 0
    assert one.within_limit == (one.counted <= LIMIT)


@pytest.mark.some(3)
@pytest.mark.parametrize("name", distinct(name for name, weight in WEIGHTS.items() if weight > LIMIT))
def test_a_recipe_over_the_limit_is_refused_with_a_lighter_one_that_is_within(name):
    one = weighed(name)
    lighter = one.find_lighter()
    assert budget.count_parameters(lighter, CIFAR) <= LIMIT
    known = dataclasses.replace(one, find_lighter=lambda: lighter)
    with pytest.raises(OverBudget, match=f"{name} has {one.counted:,}.*within the limit: model: "):
        known.refuse_if_over()


def test_all_other_recipes_can_be_weighed():
    recipes = {name: load_recipe(name) for name in paths.config_names("recipes")}
    weighed_above = {recipes[name].model.model_dump_json() for name in WEIGHTS}
    others = {name: one for name, one in recipes.items() if one.model.model_dump_json() not in weighed_above}
    assert {one.name for one in budget.weigh_all(others, CIFAR) if one.counted > 0 and one.macs > 0} >= {
        name for name, one in others.items() if not starts_pretrained(one.model)
    }


@pytest.mark.some(3)
@pytest.mark.parametrize("name", distinct())
def test_a_step_of_training_and_a_round_trip_on_the_disk(name, tmp_path, measured_once):
    """Four images of 8 px: all weights change that are not frozen, and saved weights give the same probabilities.

    Networks over the limit are only refused by the gate and can be trained; they are narrowed here, if possible.
    """
    recipe = load_recipe(name, ["train.steps=1", "train.batch_size=4", "optimizer.lr=1e-4"])
    if WEIGHTS[name] > LIMIT and "width" in recipe.model.arguments:
        recipe = load_recipe(name, ["train.steps=1", "train.batch_size=4", "optimizer.lr=1e-4", "model.width=0.25"])
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    pack = Pack(list("abcd"), images, np.arange(4))
    torch.manual_seed(0)
    model = build(recipe.model, Shape(10, 3, 8))
    before = {key: value.clone() for key, value in model.named_parameters()}
    Trainer(recipe, model, Examples(pack, pack, 10), make_runtime("cpu", "fp32"), tmp_path).fit()
    moved = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    assert len(moved) > len(before) / 2
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())

    checkpoint.save_weights(tmp_path / "weights", model)
    torch.manual_seed(1)
    other = build(recipe.model, Shape(10, 3, 8)).to(memory_format=torch.channels_last)
    checkpoint.load_weights(tmp_path / "weights", other)
    (tmp_path / "weights").unlink()  # VGG-19's fill half a gigabyte
    example = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        logits = model.eval()(example)
        assert torch.isfinite(logits).all()
        assert torch.equal(logits, other.eval()(example))


@pytest.mark.parametrize(
    ("name", "widths", "depth"),
    [("fastnet94", [64, 256, 256], 2), ("fastnet95", [128, 384, 384], 2), ("fastnet96", [128, 256, 352], 3)],
)
def test_the_fast_recipes_have_what_makes_the_speed_runs_fast(name, widths, depth):
    """Whitening, identity initialisation and the logit scale belong to the network: see test_fastnet."""
    recipe = load_recipe(name)
    assert (recipe.model.widths, recipe.model.depth, recipe.model.scale) == (widths, depth, 1 / 9)
    sgd = recipe.optimizer
    assert (sgd.name, sgd.momentum, sgd.nesterov, sgd.decoupled) == ("sgd", 0.85, True, True)
    assert recipe.train.bias_rate == 64
    cycle = recipe.schedule
    assert (cycle.name, cycle.shape, cycle.up, cycle.start, cycle.final) == ("one_cycle", "linear", 0.23, 0.2, 0.07)
    assert recipe.loss.label_smoothing == 0.2
    (average,) = recipe.averages
    assert (average.name, average.every, average.growing, recipe.ship) == ("lookahead", 5, True, "lookahead")
    crop, flip = recipe.augment[:2]
    assert (crop.name, round(32 * crop.padding), crop.fill) == ("crop", 4 if depth == 3 else 2, "reflect")
    assert flip.name == "alternating_flip"
    assert [view.name for view in recipe.predict.views] == ["flip", "shift"]
