"""The examples of CONTRIBUTING.md are complete and do what the page says."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from conftest import ROOT
from featherweight.data.pack import Image as Wanted
from featherweight.data.pack import load
from featherweight.evaluation.metrics import Metric
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


def example(name):
    block = next(block for block in BLOCKS if re.search(rf"^(def|class) {name}\b", block, re.MULTILINE))
    namespace = {"__name__": name}
    exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), namespace)
    return namespace[name]


def choice(name, function, **arguments):
    """Choose the function as a section of a YAML file would."""

    class Section:
        __get_pydantic_core_schema__ = OneOf({name: function}).__get_pydantic_core_schema__

    return TypeAdapter(Section).validate_python({"name": name, **arguments})


def test_the_model_is_built_and_its_keys_are_checked():
    pair = example("Pair")
    model = build(choice("pair", pair, width=8), Shape(5, 3, 16))
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 5)
    with pytest.raises(ValidationError):
        choice("pair", pair, width=0)


def test_the_source_lists_files_that_can_be_packed(home):
    folder = home / "data" / "animals"
    folder.mkdir(parents=True)
    for name in ("cat_1", "dog_1", "dog_2"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    source = choice("prefixed", example("prefixed"), path="animals")
    train = load(source, Wanted(size=8, mirror=True), ["cat", "dog"]).train
    assert (train.ids, train.labels.tolist()) == (["cat_1", "dog_1", "dog_2"], [0, 1, 1])


def test_the_metric_scores_the_worst_class():
    metric = Metric(example("worst_class"), "answers")
    assert choice(metric.name, metric).name == "worst_class"
    score = metric(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), groups=None)
    assert (score.value, score.count) == (pytest.approx(2 / 3), 4)
    assert score.low <= score.value <= score.high


def test_the_augmentation_draws_for_each_image():
    images = torch.full((4, 1, 2, 2), 0.5)
    bright = example("brightness")(images, Draws(generator(0, "test"), 4, images.device), strength=0.5)
    assert len(bright[:, 0, 0, 0].unique()) == 4
    assert bright.min() >= 0.25
    assert bright.max() <= 0.75


def test_every_place_that_is_named_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`(src/[\w/.]+|tests/[\w/.]+)`", text)
    assert len(named) > 5
    for path in named:
        assert (ROOT / path).exists(), path
