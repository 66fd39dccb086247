"""Fine-tuning: the head started from a probe, trained alone first; rates that fall by layer; norms that stay."""

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.models import FAMILIES, Classifier, build
from featherweight.models.shape import Shape
from featherweight.runtime import torch_internals
from featherweight.runtime.device import start
from featherweight.schema import OneOf
from featherweight.training.head import classifier_of, freeze_body
from featherweight.training.optimizers import LAYERS, OPTIMIZERS, SHARED, groups, layers, prepare
from featherweight.training.probe import features_of, fitted, start_from_probe

SHAPE = Shape(3, 3, 16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(FAMILIES.validate({"name": "wrn", "depth": 10, "width": 0.5}), SHAPE)


@pytest.fixture
def train():
    """Images of three classes that differ in their colour."""
    labels = np.arange(60) % 3
    noise = np.random.default_rng(0).integers(0, 80, (60, 16, 16, 3))
    images = (noise + 120 * np.eye(3, dtype=np.int64)[labels][:, None, None]).astype(np.uint8)
    return Pack([str(index) for index in range(60)], images, labels)


def answers(model, train):
    with torch.no_grad():
        pixels = torch.from_numpy(train.images).permute(0, 3, 1, 2).float() / 255
        return model.eval()(pixels).argmax(1).numpy()


def test_a_probe_gives_the_head_its_first_weights(model, train, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    head = classifier_of(model, 3)
    body = {name: tensor.clone() for name, tensor in model.state_dict().items() if "head" not in name}
    start_from_probe(model, head, train, True, start("cpu"))
    assert (answers(model, train) == train.labels).mean() > 0.95
    for name, tensor in body.items():
        if tensor.data_ptr() != head.weight.data_ptr():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_features_are_computed_once_for_the_same_images_and_weights(model, train, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    head, device = classifier_of(model, 3), start("cpu")
    first = features_of(model, head, train.images, False, device)
    with torch.no_grad():
        head.weight.zero_()  # is no part of what they follow from
    assert np.array_equal(first, features_of(model, head, train.images, False, device))
    assert len(list((tmp_path / "features").iterdir())) == 1
    assert not np.array_equal(first, features_of(model, head, train.images, True, device))
    with torch.no_grad():
        next(model.net.parameters()).mul_(2)
    assert not np.array_equal(first, features_of(model, head, train.images, False, device))
    assert len(list((tmp_path / "features").iterdir())) == 3


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_tells_classes_apart_and_gives_missing_ones_no_chance(classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 200)
    features = (random.normal(size=(200, 8)) + 4 * np.eye(8)[labels]).astype(np.float32)
    weight, bias, words = fitted([features], labels, classes + 1)
    logits = features @ weight.T + bias
    assert weight.shape == (classes + 1, 8)
    assert (logits.argmax(1) == labels).mean() > 0.95
    assert (logits[:, classes] < logits.max(1) - 5).all()
    assert "penalty" in words


def test_a_network_without_a_linear_end_has_no_head():
    with pytest.raises(UserError, match="does not end in a linear layer"):
        classifier_of(Classifier(nn.Conv2d(3, 3, 1), 3), 3)


def test_the_head_learns_alone_then_everything_does(model):
    head = classifier_of(model, 3)
    learning = [p for p in model.parameters() if p.requires_grad]
    freeze_body(model, head, learning, True)
    assert [p.shape for p in model.parameters() if p.requires_grad] == [head.weight.shape, head.bias.shape]
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    freeze_body(model, head, learning, False)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_what_a_network_froze_itself_stays_frozen():
    model = build(FAMILIES.validate({"name": "fastnet", "widths": [4, 4, 4]}), Shape(3, 3, 8))
    learning = [p for p in model.parameters() if p.requires_grad]
    for frozen in (True, False):
        freeze_body(model, classifier_of(model, 3), learning, frozen)
    assert [id(p) for p in model.parameters() if p.requires_grad] == [id(p) for p in learning]
    assert len(learning) < len(list(model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_body_after_the_head(name, model):
    """SGD's fused step took momenta of all parameters or of none."""
    choice = OneOf(OPTIMIZERS, SHARED).validate({"name": name, **({"momentum": 0.9} if name == "rmsprop" else {})})
    head, optimizer, learning = classifier_of(model, 3), prepare(choice, model), list(model.parameters())
    for frozen in (True, True, False, False):
        before = [p.detach().clone() for p in model.parameters()]
        freeze_body(model, head, learning, frozen)
        model(torch.rand(8, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        moved = [not torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True)]
        assert all(p.isfinite().all() for p in model.parameters())
        assert sum(moved) <= 2 if frozen else sum(moved) > 2


def test_a_momentum_that_begins_later_begins_as_torch_has_it():
    ours, theirs = ([torch.nn.Parameter(torch.ones(3)) for _ in range(2)] for _ in range(2))
    fused = torch_internals.JoinableSGD(ours, 0.1, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    plain = torch.optim.SGD(theirs, 0.1, 0.9, weight_decay=5e-4, nesterov=True, foreach=False)
    for step in range(4):
        for parameters in (ours, theirs):
            for parameter in parameters[: 1 if step < 2 else 2]:
                parameter.grad = torch.arange(3.0) + step
        fused.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_the_rate_falls_by_layer(model):
    choice = OneOf(OPTIMIZERS, SHARED).validate({"name": "adamw", "lr": 0.1, "layer_decay": 0.5})
    optimizer = prepare(choice, model, decay_norms=False)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    in_order = [rate[id(p)] for p in model.parameters()]
    assert in_order == sorted(in_order)
    assert in_order[-1] == 0.1
    depth = len(layers(model))
    assert in_order[0] == pytest.approx(0.1 * 0.5 ** (depth - 1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all((decays[id(p)] > 0) == (p.ndim > 1) for p in model.parameters())


def test_layers_hold_every_parameter_once_and_are_not_too_many():
    deep = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(50)], nn.Linear(2, 3))
    found = layers(deep)
    assert len(found) == LAYERS
    assert [id(p) for layer in found for p in layer] == [id(p) for p in deep.parameters()]
    assert len(found[-1]) == 2


def test_without_layer_decay_the_groups_are_as_before(model):
    assert all(set(group) <= {"params", "weight_decay", "rate"} for group in groups(model, False, 2.0))
