import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from featherweight.models import MODELS, build
from featherweight.models.shape import Shape
from featherweight.schema import OneOf
from featherweight.training.averaging import AVERAGES, Averages
from featherweight.training.schedules import Position

STEPS, EPOCHS = 3, 8


def average(**keys):
    return OneOf(AVERAGES).sections[keys["name"]](**keys)


def model():
    torch.manual_seed(0)
    return build(OneOf(MODELS).sections["wrn"](name="wrn", depth=10, width=0.25), Shape(3, 1, 8))


def move(net, step):
    """Simulate a training step: change the weights and the statistics."""
    torch.manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        net.train()(torch.rand(4, 1, 8, 8))


def follow(net, averages, first=0, last=STEPS * EPOCHS, beside=lambda step: None):
    for step in range(first, last):
        move(net, step)
        averages.follow(net, Position(step + 1, STEPS, EPOCHS))
        beside(step + 1)


def same(one, other, **tolerance):
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], **tolerance, msg=name)


def test_ema_is_torchs():
    net = model()
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.n_averaged.fill_(1)  # torch takes the weights after the first step as its start, we those before it
    ours = Averages(net, [average(name="ema", decay=0.9, warmup=False)])
    follow(net, ours, beside=lambda step: theirs.update_parameters(net))
    mine, other = ours.shadows["ema"].state_dict(), theirs.module.state_dict()
    for name in mine:
        if "num_batches" not in name:  # a count is no mean: ours is the model's
            torch.testing.assert_close(mine[name], other[name], msg=name)


def test_ema_forgets_its_first_steps_sooner_with_its_warm_up():
    assert [round(average(name="ema")(Position(step, 1, 9)).part, 3) for step in (1, 2, 10, 10**6)] == [
        0.818,
        0.75,
        0.45,
        0.001,
    ]


def test_swa_is_torchs():
    net = model()
    theirs = AveragedModel(net, use_buffers=True)
    ours = Averages(net, [average(name="swa", start=0.5, every=2)])

    def beside(step):
        if step in (4 * STEPS, 6 * STEPS, 8 * STEPS):
            theirs.update_parameters(net)

    follow(net, ours, beside=beside)
    assert theirs.n_averaged == 3
    mine, other = ours.shadows["swa"].state_dict(), theirs.module.state_dict()
    for name in mine:
        if "num_batches" not in name:
            torch.testing.assert_close(mine[name], other[name], msg=name)


def test_before_an_average_begins_the_model_itself_would_ship():
    net = model()
    ours = Averages(net, [average(name="swa", start=0.5)])
    follow(net, ours, last=11)
    assert ours.shipping("swa", net) is net
    follow(net, ours, first=11, last=12)
    assert ours.shipping("swa", net) is ours.shadows["swa"]
    assert ours.shipping("raw", net) is net
    same(ours.shadows["swa"], net)  # the first of the mean is the model, to the last bit


def test_lookahead_pulls_the_model_back_every_few_steps():
    """Zhang et al. 2019, algorithm 1, written out; at the run's end the model is the slow weights."""
    net = model()
    expected = copy.deepcopy(net)
    slow = copy.deepcopy(net)
    ours = Averages(net, [average(name="lookahead", every=5, alpha=0.3)])
    for step in range(STEPS * EPOCHS):
        for each in (net, expected):
            move(each, step)
        ours.follow(net, Position(step + 1, STEPS, EPOCHS))
        if (step + 1) % 5 == 0 or step + 1 == STEPS * EPOCHS:
            with torch.no_grad():
                for s, f in zip(slow.parameters(), expected.parameters(), strict=True):
                    s += 0.3 * (f - s)
                    f.copy_(s)
    for one, other in zip(net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(net.parameters(), ours.shadows["lookahead"].parameters(), strict=True):
        assert torch.equal(one, other)


def test_growing_lookahead_is_airbenchs():
    """Its slow weights keep 0.95^5 * (i / total)^3."""
    growing = average(name="lookahead", every=5, alpha=1 - 0.95**5, growing=True)
    for step in (5, 10, 20):
        assert growing(Position(step, STEPS, EPOCHS)).part == pytest.approx(1 - 0.95**5 * (step / 24) ** 3)


def test_a_saved_state_goes_on_to_the_same_bits():
    choices = [average(name="ema"), average(name="swa", start=0.25), average(name="lookahead")]
    whole, averages = model(), None
    averages = Averages(whole, choices)
    follow(whole, averages)

    half = model()
    before = Averages(half, choices)
    follow(half, before, last=10)
    saved = copy.deepcopy((half.state_dict(), before.state_dict()))
    again = model()
    after = Averages(again, choices)
    again.load_state_dict(saved[0])
    after.load_state_dict(saved[1])
    follow(again, after, first=10)
    same(whole, again, rtol=0, atol=0)
    for name in ("ema", "swa", "lookahead"):
        same(averages.shadows[name], after.shadows[name], rtol=0, atol=0)


def test_swa_of_a_run_that_is_shortened_is_the_mean_of_what_it_has_seen():
    """If it should have begun before, it begins with the next epoch; weights averaged so far are kept."""
    net, seen = model(), []
    ours = Averages(net, [average(name="swa", start=0.5)])
    for step in range(10):  # of 20 epochs of a step, then of 8, then of 12
        move(net, step)
        ours.follow(net, Position(step + 1, 1, 20 if step < 5 else 8 if step < 7 else 12))
        if step >= 5:
            seen.append(next(net.parameters()).clone())
    torch.testing.assert_close(next(ours.shadows["swa"].parameters()), sum(seen) / len(seen))
