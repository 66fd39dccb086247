"""The trainings and comparisons of `bench tricks`."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ROOT
from featherweight.config import Recipe, load_recipe
from featherweight.data.pack import Pack
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

sys.path.insert(0, str(ROOT / "benchmarks"))

import tricks
from _varied import Trick, VariedTrainer, group_convolutions

SHAPE = Shape(2, 3, 8)
Train = Callable[..., Trainer]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Return a function that trains a small fast net on 64 images with a trick, or without a name as a run does."""

    def one(trick: Trick | None) -> Trainer:
        sizes = trick.steps(5 * 64) if trick else [16] * 20
        words = ["model.widths=[8,8,8]", "train.batch_size=16", "train.precision=fp32"]
        recipe = load_recipe(
            "fastnet94_muon", [*words, f"train.epochs={-(-len(sizes) // 4)}", f"train.steps={len(sizes)}"]
        )
        images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
        pack = Pack([str(place) for place in range(64)], images, np.arange(64) % 2)
        torch.manual_seed(0)
        given = recipe, build(recipe.model, SHAPE), Examples(pack, pack, 2), make_runtime("cpu"), tmp_path
        trainer = VariedTrainer(*given, trick=trick, sizes=sizes, clock=[]) if trick else Trainer(*given)
        trainer.fit()
        return trainer

    return one


def test_without_a_trick_the_weights_are_those_of_a_run(train):
    varied, usual = train(Trick("base", sizes=(16,))), train(None)
    assert len(varied.clock) == 20
    for one, other in zip(varied.model.state_dict().values(), usual.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_images_of_the_lowest_losses_are_skipped_after_the_first_passes(train, monkeypatch):
    passes, order = {}, VariedTrainer.order

    def kept(self, labels, seed, number):
        losses = self.image_losses.clone()
        shown = order(self, labels, seed, number)
        passes.setdefault(number, (shown, losses))
        return shown

    monkeypatch.setattr(VariedTrainer, "order", kept)
    train(Trick("half skipped", skip=0.5, sizes=(16,)))
    assert [len(shown) for shown, _ in passes.values()] == [64, 64, *[32] * 6]
    for shown, losses in list(passes.values())[2:]:
        assert losses.isfinite().all()
        assert losses[shown].min() >= losses[np.setdiff1d(np.arange(64), shown)].max()


def test_batches_grow_at_half_of_the_images_and_the_rate_of_muon_with_them(train, monkeypatch):
    seen, take_step = [], VariedTrainer.take_step

    def noted(self, batch):
        muon, rest = (
            group["lr"] for group in self.state.optimizer.param_groups[:: len(self.state.optimizer.param_groups) - 1]
        )
        seen.append((len(batch.images), muon / rest))
        take_step(self, batch)

    monkeypatch.setattr(VariedTrainer, "take_step", noted)
    train(Trick("grown", sizes=(8, 32)))
    assert [size for size, _ in seen] == [8] * 20 + [32] * 5
    assert seen[-1][1] / seen[0][1] == pytest.approx(4)


def test_grouped_convolutions_are_the_identity_at_first():
    recipe = Recipe.model_validate(
        {"model": {"name": "fastnet", "widths": [8, 8, 16]}, "optimizer": {"name": "sgd", "lr": 1}}
    )
    torch.manual_seed(0)
    model = build(recipe.model, SHAPE).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        before, count = model(images), sum(parameter.numel() for parameter in model.parameters())
        group_convolutions(model, 2)
        torch.testing.assert_close(model(images), before)
    assert sum(parameter.numel() for parameter in model.parameters()) == count - 9 * (64 + 64 + 256) // 2


def test_views_are_asked_where_the_first_answer_is_unsure():
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    first = np.array([sure] * 4 + [unsure] * 4, dtype=np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    of_all = np.array([sure] * 4 + [[0.2, 0.8]] * 2 + [sure] * 2, dtype=np.float32)
    found = tricks.where_unsure(first, of_all, labels, 6)
    assert found == {
        "without": 6,
        "of_all": 8,
        "of_unsure": 8,
        "thresholds": [0.605, 0.605],
        "asked": 0.5,
        "saved": pytest.approx(5 / 12),
    }
