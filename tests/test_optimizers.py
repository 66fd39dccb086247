import copy
import io

import pytest
import torch
from torch import nn

from featherweight.schema import OneOf
from featherweight.training.muon import Muon
from featherweight.training.optimizers import OPTIMIZERS, groups, prepare

SECTIONS = OneOf(OPTIMIZERS).sections
TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=5e-4, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, 2e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, 0.99),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 9, 4))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[torch.Tensor]:
    for step in range(first, last):
        torch.manual_seed(step)
        model(torch.randn(8, 2, 5, 5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_those_of_torch(name):
    ours, theirs = net(), net()
    got = take_steps(ours, SECTIONS[name](name=name)(groups(ours)), 0, 5)  # fused forms round differently
    for mine, other in zip(got, take_steps(theirs, TORCH[name](theirs.parameters()), 0, 5), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_one_kernel_steps_as_many_do_in_channels_last(name):
    ours, theirs = (net().to(memory_format=torch.channels_last) for _ in range(2))
    defaults = {**TORCH[name](theirs.parameters()).defaults, "fused": None}
    plain = getattr(torch.optim, type(TORCH[name](theirs.parameters())).__name__)(theirs.parameters())
    plain.param_groups[0].update(defaults)
    got = take_steps(ours, SECTIONS[name](name=name)(groups(ours)), 0, 5)
    for mine, other in zip(got, take_steps(theirs, plain, 0, 5), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rest", ["adamw", "sgd"])
def test_muon_orthogonalises_filters_and_leaves_the_rest_to_another(rest):
    model = net()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = SECTIONS["muon"](name="muon", lr=1.0, rest=rest, rest_lr=1e-3)(groups(model))
    after = take_steps(model, optimizer, 0, 1)
    moves = [now - then for now, then in zip(after, before, strict=True)]
    singular = torch.linalg.svdvals(moves[0].flatten(1))
    assert 0.5 < singular.min() <= singular.max() < 1.5  # five quintic iterations leave them near 1
    assert all(move.abs().max() < 0.5 for move in moves[1:])
    if rest == "adamw":  # its first step is the sign of the gradient
        torch.testing.assert_close(moves[3].abs(), torch.full_like(moves[3], 1e-3), rtol=1e-2, atol=0)


def test_muon_is_torchs_where_filters_are_matrices():
    ours, theirs = (nn.Sequential(nn.Flatten(), nn.Linear(50, 8, bias=False)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    plain = torch.optim.Muon(theirs.parameters(), **settings, ns_steps=5)
    got = take_steps(ours, Muon(ours.parameters(), **settings, iterations=5, normalize=False), 0, 4)
    for mine, other in zip(got, take_steps(theirs, plain, 0, 4), strict=True):
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0.02)  # theirs is rounded to bfloat16


def test_muon_can_hold_the_norms_of_filters():
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(100)
    optimizer = SECTIONS["muon"](name="muon", lr=0.01, normalize=True)(groups(model))
    take_steps(model, optimizer, 0, 1)
    assert model[0].weight.norm().item() == pytest.approx(len(model[0].weight) ** 0.5, rel=0.05)


@pytest.mark.parametrize("by_layer", [False, True])
def test_muon_leaves_the_classifier_to_another_however_groups_are_sorted(by_layer):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    together = SECTIONS["muon"](name="muon")(groups(model, by_layer=by_layer))
    hidden = [id(p) for group in together.members[0].param_groups for p in group["params"]]
    assert sorted(hidden) == sorted([id(model[0].weight), id(model[2].weight)])


def test_muon_without_hidden_matrices_is_the_other_alone():
    model = nn.Linear(3, 2)
    assert isinstance(SECTIONS["muon"](name="muon")(groups(model)), torch.optim.AdamW)


def test_a_rate_set_on_the_groups_reaches_every_member():
    model = net()
    optimizer = SECTIONS["muon"](name="muon")(groups(model, decay_norms=False))
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for then, now in zip(before, take_steps(model, optimizer, 0, 1), strict=True):
        torch.testing.assert_close(then, now, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_to_the_same_bits(name):
    whole = net()
    expected = take_steps(whole, prepare(SECTIONS[name](name=name), whole, False, 8.0), 0, 6)

    half = net()
    optimizer = prepare(SECTIONS[name](name=name), half, False, 8.0)
    take_steps(half, optimizer, 0, 3)
    stream = io.BytesIO()
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, stream)
    stream.seek(0)
    saved = torch.load(stream, weights_only=True)
    again = net()
    again.load_state_dict(saved["model"])
    optimizer = prepare(SECTIONS[name](name=name), again, False, 8.0)
    optimizer.load_state_dict(saved["optimizer"])
    for one, other in zip(expected, take_steps(again, optimizer, 3, 6), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "muon"])
def test_weight_decay_leaves_norms_and_biases_alone_when_told_to(name):
    model = net()
    parts = groups(model, decay_norms=False)
    assert [parameter.ndim for parameter in parts[1]["params"]] == [1, 1, 1]
    optimizer = SECTIONS[name](name=name, weight_decay=0.1)(parts)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [
        group["weight_decay"] for group in SECTIONS[name](name=name, weight_decay=0.1)(groups(model)).param_groups
    ] == [0.1]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay_norms", [True, False])
def test_the_biases_of_norms_learn_at_their_own_rate_and_decay_no_faster(name, decay_norms):
    model = net()
    decay = {"rest_weight_decay" if name == "muon" else "weight_decay": 0.1}
    optimizer = prepare(SECTIONS[name](name=name, **decay), model, decay_norms, bias_rate=64.0)
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == 5
    scale, bias = found[id(model[1].weight)], found[id(model[1].bias)]
    assert bias["lr"] == 64 * scale["lr"]
    assert found[id(model[3].bias)]["lr"] == scale["lr"]
    assert bias["lr"] * bias["weight_decay"] == pytest.approx(scale["lr"] * 0.1 * decay_norms)


def test_the_recipe_of_the_fast_runs_is_what_torch_makes_of_its_groups():
    """Nesterov SGD, biases at 64 times the rate, and weight decay independent of the rate and the group."""
    ours, theirs = net(), net()
    choice = SECTIONS["sgd"](name="sgd", lr=0.2, momentum=0.85, nesterov=True, weight_decay=5e-3, decoupled=True)
    got = take_steps(ours, prepare(choice, ours, bias_rate=64.0), 0, 5)
    biases = [theirs[1].bias]
    others = [parameter for parameter in theirs.parameters() if parameter is not theirs[1].bias]
    reference = torch.optim.SGD(
        [
            {"params": others, "lr": 0.2, "weight_decay": 5e-3 / 0.2},
            {"params": biases, "lr": 12.8, "weight_decay": 5e-3 / 12.8},
        ],
        momentum=0.85,
        nesterov=True,
    )
    for mine, other in zip(got, take_steps(theirs, reference, 0, 5), strict=True):
        torch.testing.assert_close(mine, other)


def test_without_a_rate_of_their_own_all_are_one_group():
    assert len(groups(net())) == 1
    assert "rate" not in groups(net())[0]


def test_frozen_parameters_are_not_stepped():
    model = net()
    model[0].weight.requires_grad_(False)
    assert model[0].weight not in {parameter for group in groups(model) for parameter in group["params"]}
