"""One optimizer step: accumulation, clipping and SAM, also with the gradient scaler."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featherweight.augment.mixing import mix
from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.runtime.device import make_runtime
from featherweight.runtime.rng import Draws, generator
from featherweight.training.averaging import Averages
from featherweight.training.batches import Batch
from featherweight.training.checkpoint import TrainState
from featherweight.training.examples import Examples
from featherweight.training.optimizers import groups
from featherweight.training.trainer import Trainer

BASE = {"model": {"name": "wrn", "depth": 10, "width": 0.25}, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}}
RUNTIME = make_runtime("cpu")
ONE_STEP = torch.zeros(1), torch.zeros(2, 1, 13)  # the losses and answers of an epoch


def net(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(2, 4, 3), middle, nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 3))


def batch() -> Batch:
    images = torch.rand(13, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    targets = F.one_hot(torch.arange(13) % 3, 3).float()
    return Batch(images, targets, Draws(generator(0), 13, RUNTIME.device), torch.tensor([5.0, 4.0, 4.0]))


def stepped(model: nn.Module, scaled: bool = False, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    recipe = Recipe.model_validate({**BASE, **changes})
    optimizer = recipe.optimizer(groups(model))
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    return trainer_of(recipe, TrainState(model, optimizer, scaler, Averages(model, []), *ONE_STEP)).step_on(batch())


def trainer_of(recipe: Recipe, state: TrainState) -> Trainer:
    """Return a trainer before its only step."""
    pack = Pack([str(i) for i in range(13)], np.zeros((13, 5, 5, 2), np.uint8), np.arange(13) % 3)
    trainer = Trainer(recipe, state.model, Examples(pack, pack, 3), RUNTIME, Path())
    trainer.state = state
    return trainer


def step(model: nn.Module, scaled: bool = False, **changes) -> tuple[nn.Module, torch.Tensor]:
    loss, _ = stepped(model, scaled, **changes)
    return model, loss


def same(one: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sam": {"rho": 0.5}},
        {"sam": {"rho": 0.5, "adaptive": True}},
        {"loss": {"name": "focal", "weights": "effective"}},
        {"loss": {"name": "cross_entropy", "weights": "inverse"}},
    ],
)
@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_a_batch_add_up_to_the_whole(parts, changes):
    whole, loss = step(net(norm=False).eval(), **changes)
    apart, sum_of_parts = step(net(norm=False).eval(), **changes, train={"accumulate": parts})
    same(whole, apart)
    torch.testing.assert_close(loss, sum_of_parts)


@pytest.mark.parametrize("changes", [{}, {"train": {"accumulate": 5}}, {"sam": {"rho": 0.5}}])
def test_a_step_tells_the_class_of_each_image_and_the_one_it_was_given(changes):
    model = net(norm=False).eval()
    torch.nn.init.normal_(model[-1].weight, std=10)  # else it takes every image for the same class
    given = model(batch().images).argmax(1)
    _, answers = stepped(model, **changes)
    assert answers.tolist() == [batch().targets.argmax(1).tolist(), given.tolist()]
    assert len(set(given.tolist())) > 1


def test_a_mixed_image_is_of_the_class_it_has_most_of():
    mixing = [{"name": "mixup", "alpha": 1.0}]
    _, answers = stepped(net(norm=False), mix=mixing)
    made = batch()
    _, targets = mix(made.images, made.targets, made.draws, Recipe.model_validate({**BASE, "mix": mixing}).mix)
    assert answers[0].tolist() == targets.argmax(1).tolist() != made.targets.argmax(1).tolist()


@pytest.mark.parametrize("changes", [{}, {"sam": {"rho": 0.5}}, {"sam": {"adaptive": True}}, {"train": {"clip": 0.1}}])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_gradient_scaler_changes_nothing(changes, parts):
    changes = {**changes, "train": {**changes.get("train", {}), "accumulate": parts}}
    plain, _ = step(net(norm=True), **changes)
    scaled, _ = step(net(norm=True), scaled=True, **changes)
    same(plain, scaled)


def test_a_part_of_one_image_without_statistics_is_refused():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(UserError, match=r"choose train.batch_size and train.accumulate so that every part"):
        step(model, train={"accumulate": 4})  # 4, 4, 4 and 1


def test_statistics_are_updated_once_a_step():
    once, _ = step(net(norm=True))
    twice, _ = step(net(norm=True), sam={"rho": 0.5})
    for name, buffer in once.named_buffers():
        assert torch.equal(buffer, dict(twice.named_buffers())[name]), name
    assert not torch.equal(once[0].weight, twice[0].weight)


def test_dropout_is_the_same_in_both_passes_of_sam():
    """With a tiny radius SAM equals plain descent; it would not if the second pass drew new masks."""
    plain, _ = step(net(norm=True))
    sam, _ = step(net(norm=True), sam={"rho": 1e-12})
    same(plain, sam)


def test_clipping_shortens_the_step_to_the_norm():
    model = net(norm=False)
    before = copy.deepcopy(model)
    step(model, optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}, train={"clip": 0.01})
    moves = [(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert torch.cat(moves).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_the_scaler_leaves_out_a_step_that_overflowed():
    model = net(norm=True)
    before = copy.deepcopy(model)
    recipe = Recipe.model_validate({**BASE, "sam": {"rho": 0.05}})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    state = TrainState(model, recipe.optimizer(groups(model)), scaler, Averages(model, []), *ONE_STEP)
    loud = batch()
    trainer_of(recipe, state).step_on(Batch(loud.images * 1e6, loud.targets, loud.draws, loud.counts))
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)
    assert state.scaler.get_scale() == 2.0**126
