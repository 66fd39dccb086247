"""Fine-tuning: the head starts from a probe and is trained alone first; rates fall by layer; norms are frozen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.data.mapped_rows import identity
from featherweight.data.pack import Pack
from featherweight.data.photos import Crop, Photos
from featherweight.errors import UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.models import FAMILIES, build
from featherweight.models.shape import Shape
from featherweight.runtime import torch_internals
from featherweight.runtime.device import make_runtime
from featherweight.runtime.processes import Processes
from featherweight.schema import OneOf
from featherweight.training.head import freeze_body, heads_of
from featherweight.training.optimizers import MAX_LAYERS, OPTIMIZERS, SHARED, groups, layers, prepare
from featherweight.training.probe import (
    MAX_CACHED_FILES,
    _some_of_each,
    features_of,
    fit_probe,
    regression_work,
    start_from_probe,
    tuning_images,
)

SHAPE = Shape(3, 3, 16)
WRN = FAMILIES.validate({"name": "wrn", "depth": 10, "width": 0.5})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(WRN, SHAPE)


@pytest.fixture
def train():
    """Make training images of three classes that differ in colour."""
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
    (head,) = heads_of(model, WRN, SHAPE)
    body = {name: tensor.clone() for name, tensor in model.state_dict().items() if "head" not in name}
    assert start_from_probe(model, [head], train, True, make_runtime("cpu")) > 0
    assert (answers(model, train) == train.labels).mean() > 0.95
    for name, tensor in body.items():
        if tensor.data_ptr() != head.weight.data_ptr():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_features_are_computed_once_for_the_same_images_and_weights(model, train, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    (head,), device = heads_of(model, WRN, SHAPE), make_runtime("cpu")
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


def test_features_in_a_damaged_file_are_computed_again(model, train, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    (head,), device = heads_of(model, WRN, SHAPE), make_runtime("cpu")
    first = features_of(model, head, train.images, False, device)
    (stored,) = (tmp_path / "features").iterdir()
    whole = stored.read_bytes()
    for damaged in (whole[:-50], whole[:20], b""):
        stored.write_bytes(damaged)
        assert np.array_equal(first, features_of(model, head, train.images, False, device))
        assert stored.read_bytes() == whole


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_tells_classes_apart_and_gives_missing_ones_no_chance(classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 200)
    features = (random.normal(size=(200, 8)) + 4 * np.eye(8)[labels]).astype(np.float32)
    weight, bias, words = fit_probe([features], labels, classes + 1)
    logits = features @ weight.T + bias
    assert weight.shape == (classes + 1, 8)
    assert (logits.argmax(1) == labels).mean() > 0.95
    assert (logits[:, classes] < logits.max(1) - 5).all()
    assert "penalty" in words


@pytest.mark.parametrize("kind", ["shared input", "norms of their own"])
def test_a_probe_of_a_network_with_two_heads_is_what_the_network_answers(kind, train, tmp_path, monkeypatch):
    """Timm's swiftformer and efficientformerv2; and repvit and levit, whose heads each begin with a batch norm."""
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))

    class TwoHeads(nn.Module):
        def __init__(self, num_classes, channels, image_size):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.norms = nn.ModuleList(nn.BatchNorm1d(8) if "norms" in kind else nn.Identity() for _ in range(2))
            self.head, self.head_dist = nn.Linear(8, num_classes), nn.Linear(8, num_classes)

        def forward(self, images):
            features = self.body(images)
            return (self.head(self.norms[0](features)) + self.head_dist(self.norms[1](features))) / 2

    spec = OneOf({"two": lambda num_classes, channels, image_size: TwoHeads(num_classes, channels, image_size)})
    torch.manual_seed(0)
    model = build(spec.validate("two"), SHAPE)
    for norm in model.net.norms:
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.weight, -2, 2)
    heads, device = heads_of(model, spec.validate("two"), SHAPE), make_runtime("cpu")
    assert heads == [model.net.head, model.net.head_dist]
    before = [tensor.clone() for tensor in model.net.body.parameters()]
    start_from_probe(model, heads, train, False, device)
    assert all(torch.equal(one, other) for one, other in zip(before, model.net.body.parameters(), strict=True))
    features = features_of(model, heads[0], train.images, False, device)
    weight, bias, _ = fit_probe([features], train.labels, 3)
    probe = torch.from_numpy(features @ weight.T + bias).softmax(1).numpy()
    np.testing.assert_allclose(predict_probs([model], train.images, runtime=device), probe, atol=1e-3)
    freeze_body(model, heads, list(model.parameters()), True)
    assert sum(p.requires_grad for p in model.parameters()) == 4


def test_a_network_that_scales_what_its_head_says_takes_no_probe(train, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))

    class Scaled(nn.Module):
        def __init__(self, num_classes, channels, image_size):
            super().__init__()
            self.head = nn.Linear(channels, num_classes)

        def forward(self, images):
            return self.head(images.mean((2, 3))) / 9

    spec = OneOf({"scaled": lambda *shape: Scaled(*shape)}).validate("scaled")
    model = build(spec, SHAPE)
    with pytest.raises(UserError, match=r"does not return the output of its last linear layer.*head.start=random"):
        start_from_probe(model, heads_of(model, spec, SHAPE), train, False, make_runtime("cpu"))


def test_features_are_taken_from_the_cache_if_all_processes_have_them(model, train, tmp_path, monkeypatch):
    """Each machine has its own cache."""
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    (head,), device = heads_of(model, WRN, SHAPE), make_runtime("cpu")
    first = features_of(model, head, train.images, False, device)
    asked = []

    class Two(Processes):
        def gather(self, thing):
            asked.append(thing)
            return [thing, False] if isinstance(thing, bool) else [thing]

    again = features_of(model, head, train.images, False, replace(device, processes=Two()))
    assert asked[0] is True
    assert len(asked) > 1  # computed anew, since the other has none
    assert np.array_equal(first, again)


def test_the_cache_of_features_is_bounded(model, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path))
    (head,), device = heads_of(model, WRN, SHAPE), make_runtime("cpu")
    for images in range(MAX_CACHED_FILES + 2):
        features_of(model, head, np.zeros((images + 1, 16, 16, 3), np.uint8), False, device)
    assert len(list((tmp_path / "features").iterdir())) == MAX_CACHED_FILES


def test_photographs_are_told_apart_without_being_decoded(tmp_path, monkeypatch):
    np.arange(2 * 48, dtype=np.uint8).tofile(tmp_path / "pictures.bin")
    np.save(tmp_path / "rows.npy", np.array([[0, 0, 4, 4], [0, 48, 4, 4]]))
    monkeypatch.setattr(Photos, "_picture", lambda self, row: pytest.fail("decoded"))
    crops = [Crop(2, part, "bicubic") for part in (1.0, 0.5)]
    one, other = (Photos.mapped(tmp_path, 3, crop) for crop in crops)
    known = [b"".join(identity(images)) for images in (one, other, one.take(np.array([1])))]
    assert len(set(known)) == 3
    assert b"".join(identity(Photos.mapped(tmp_path, 3, crops[0]))) == known[0]
    array = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert b"".join(identity(array[:1])) != b"".join(identity(array[1:]))


@pytest.mark.parametrize("images", [9_000, 19_999, 50_000, 59_999])
def test_strengths_are_tried_on_as_large_a_part_of_each_class_of_sorted_images(images):
    labels = np.sort(np.arange(images) % 10)
    places = np.flatnonzero(np.arange(images) % 5 < 4)
    few = _some_of_each(labels, places, tuning_images(10))
    counts = np.bincount(labels[few], minlength=10)
    assert counts.sum() == pytest.approx(min(len(places), 10_000), abs=10)
    assert np.ptp(counts) <= 2
    assert not np.setdiff1d(np.flatnonzero(few), places).size
    assert regression_work(images, 2, 10) == pytest.approx(2 * (6 * counts.sum() + images) * 20, abs=2400)
    assert [tuning_images(classes) for classes in (2, 20, 40, 100, 200)] == [10_000, 10_000, 5000, 2000, 2000]


def test_a_network_without_a_linear_end_has_no_head():
    def ends_in_a_convolution(num_classes, channels, image_size):
        return nn.Sequential(nn.Conv2d(channels, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    spec = OneOf({"conv": ends_in_a_convolution}).validate("conv")
    with pytest.raises(UserError, match=r"does not end in a linear layer.*head.start=random"):
        heads_of(build(spec, SHAPE), spec, SHAPE)


def test_the_head_learns_alone_then_everything_does(model):
    (head,) = heads_of(model, WRN, SHAPE)
    learning = [p for p in model.parameters() if p.requires_grad]
    freeze_body(model, [head], learning, True)
    assert [p.shape for p in model.parameters() if p.requires_grad] == [head.weight.shape, head.bias.shape]
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    freeze_body(model, [head], learning, False)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_what_a_network_froze_itself_stays_frozen():
    spec, shape = FAMILIES.validate({"name": "fastnet", "widths": [4, 4, 4]}), Shape(3, 3, 8)
    model = build(spec, shape)
    learning = [p for p in model.parameters() if p.requires_grad]
    for frozen in (True, False):
        freeze_body(model, heads_of(model, spec, shape), learning, frozen)
    assert [id(p) for p in model.parameters() if p.requires_grad] == [id(p) for p in learning]
    assert len(learning) < len(list(model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_body_after_the_head(name, model):
    """SGD's fused step needs momenta of all parameters or of none."""
    choice = OneOf(OPTIMIZERS, SHARED).validate({"name": name, **({"momentum": 0.9} if name == "rmsprop" else {})})
    heads, optimizer, learning = heads_of(model, WRN, SHAPE), prepare(choice, model), list(model.parameters())
    for frozen in (True, True, False, False):
        before = [p.detach().clone() for p in model.parameters()]
        freeze_body(model, heads, learning, frozen)
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
    assert len(found) == MAX_LAYERS
    assert [id(p) for layer in found for p in layer] == [id(p) for p in deep.parameters()]
    assert len(found[-1]) == 2


def test_without_layer_decay_the_groups_are_as_before(model):
    assert all(set(group) <= {"params", "weight_decay", "rate"} for group in groups(model, False, 2.0))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_of_several_heads_none_is_a_hidden_matrix_or_a_layer_below(decay):
    net = nn.ModuleDict({"body": nn.Linear(8, 8), "head": nn.Linear(8, 3), "head_dist": nn.Linear(8, 3)})
    choice = OneOf(OPTIMIZERS, SHARED).validate({"name": "muon", "layer_decay": decay})
    optimizer = prepare(choice, net, heads=[net["head"], net["head_dist"]])
    muon, rest = optimizer.members
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(8, 8)]
    rates = {id(p): group["lr"] for group in rest.param_groups for p in group["params"]}
    assert rates[id(net["head"].weight)] == rates[id(net["head_dist"].weight)] == 1e-3
