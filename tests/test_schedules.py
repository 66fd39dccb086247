import pytest
import torch
from pydantic import ValidationError

from featherweight.config import Recipe
from featherweight.schema import OneOf
from featherweight.training.schedules import (
    SCHEDULES,
    Position,
    beginning,
    constant,
    cosine,
    rate_factor,
    scaled,
    stepped,
)

LR = torch.optim.lr_scheduler


def factors(schedule, epochs, steps=1, **arguments):
    return [schedule(Position(step, steps, epochs), **arguments) for step in range(epochs * steps)]


def torchs(make, steps, lr=1.0, every=1):
    """Return the learning rates of a torch scheduler that is stepped every given number of steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
    scheduler = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


def test_stepped_is_the_logbooks_base_times_a_fifth_to_the_k():
    """LOGBOOK A: k is how many of 3/10, 5/10, 7/10, 9/10 of the epochs have been reached; five plateaus."""
    expected = [0.2**k for k in (0, 0, 0, 1, 1, 2, 2, 3, 3, 4)]
    assert factors(stepped, 10) == pytest.approx(expected)


@pytest.mark.parametrize("epochs", range(1, 101))
def test_stepped_changes_at_the_first_epoch_that_reaches_the_fraction(epochs):
    for step, factor in enumerate(factors(stepped, epochs)):
        assert factor == pytest.approx(0.2 ** sum(10 * step >= tenths * epochs for tenths in (3, 5, 7, 9)))


def test_stepped_holds_within_an_epoch():
    assert factors(stepped, 10, steps=3) == pytest.approx([f for f in factors(stepped, 10) for _ in range(3)])


def test_stepped_cuts_again_at_given_epochs():
    """LOGBOOK A15: three more plateaus near the end of a run of 50."""
    rates = [stepped(Position(epoch, 1, 50), epochs=[43, 45, 47]) for epoch in range(50)]
    assert [rates[epoch] for epoch in (42, 43, 44, 45, 46, 47, 49)] == pytest.approx(
        [0.2**k for k in (3, 4, 4, 6, 6, 7, 7)]  # 45 is nine tenths of 50 as well
    )


# Each against the scheduler of torch of the same settings: (ours, steps an epoch, epochs, torch's, stepped every).
TORCH = {
    "milestones by epoch": (
        {"name": "milestones", "at": [5, 2]},
        3,
        8,
        lambda o: LR.MultiStepLR(o, [2, 5], 0.1),
        3,
    ),
    "milestones by iteration": (
        {"name": "milestones", "at": [7, 11], "by": "iteration", "factor": 0.5},
        3,
        8,
        lambda o: LR.MultiStepLR(o, [7, 11], 0.5),
        1,
    ),
    "every": ({"name": "every", "epochs": 3, "factor": 0.3}, 2, 10, lambda o: LR.StepLR(o, 3, 0.3), 2),
    "linear": ({"name": "linear", "final": 0.2}, 3, 7, lambda o: LR.LinearLR(o, 1.0, 0.2, 21), 1),
    "cosine": ({"name": "cosine", "final": 0.1}, 4, 5, lambda o: LR.CosineAnnealingLR(o, 20, 0.1), 1),
    "one_cycle": ({"name": "one_cycle"}, 7, 9, lambda o: LR.OneCycleLR(o, 1.0, 63, cycle_momentum=False), 1),
    "one_cycle, a triangle": (
        {"name": "one_cycle", "up": 0.23, "start": 0.2, "final": 0.07, "shape": "linear"},
        10,
        5,
        lambda o: LR.OneCycleLR(
            o, 1.0, 50, pct_start=0.23, anneal_strategy="linear", div_factor=5, final_div_factor=0.2 / 0.07
        ),
        1,
    ),
    "cyclic": (
        {"name": "cyclic", "base": 0.2, "up": 4, "down": 7},
        10,
        5,
        lambda o: LR.CyclicLR(o, 0.2, 1.0, 4, 7, cycle_momentum=False),
        1,
    ),
    "cyclic, halved": (
        {"name": "cyclic", "up": 5, "mode": "triangular2"},
        10,
        5,
        lambda o: LR.CyclicLR(o, 0.1, 1.0, 5, mode="triangular2", cycle_momentum=False),
        1,
    ),
    "cyclic, shrunk": (
        {"name": "cyclic", "up": 5, "mode": "exp_range", "gamma": 0.97},
        10,
        5,
        lambda o: LR.CyclicLR(o, 0.1, 1.0, 5, mode="exp_range", gamma=0.97, cycle_momentum=False),
        1,
    ),
}


@pytest.mark.parametrize("case", TORCH)
def test_equals_torch(case):
    keys, steps, epochs, make, every = TORCH[case]
    schedule = OneOf(SCHEDULES).sections[keys["name"]](**keys)
    ours = [schedule(Position(step, steps, epochs)) for step in range(steps * epochs)]
    assert ours == pytest.approx(torchs(make, steps * epochs, every=every), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
@pytest.mark.parametrize("arguments", [{"patience": 1}, {"patience": 0, "cooldown": 2, "threshold": 0.05}])
def test_plateau_equals_torch(metric, arguments):
    scores = torch.rand(40, generator=torch.Generator().manual_seed(3)).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = LR.ReduceLROnPlateau(optimizer, "min" if metric == "loss" else "max", 0.5, min_lr=0.01, **arguments)
    ours = OneOf(SCHEDULES).sections["plateau"](name="plateau", metric=metric, factor=0.5, final=0.01, **arguments)
    history = []
    for epoch, score in enumerate(scores):
        assert ours(Position(epoch * 3 + 1, 3, 40, history=history)) == pytest.approx(optimizer.param_groups[0]["lr"])
        theirs.step(score)
        history.append({f"holdout_{metric}": score})
    assert optimizer.param_groups[0]["lr"] < 0.2


def test_plateau_passes_over_epochs_without_a_look():
    plateau = OneOf(SCHEDULES).sections["plateau"](name="plateau", patience=0)
    history = [{"holdout_loss": value} for value in (1.0, float("nan"), float("nan"))]
    assert plateau(Position(3, 1, 9, history=history)) == 1
    assert plateau(Position(4, 1, 9, history=[*history, {"holdout_loss": 1.0}])) == pytest.approx(0.1)


def test_staged_is_the_logbooks():
    """LOGBOOK C: 3e-6 for 30 epochs, 2e-6 for 50, 1e-6 for 100; the last stage stays."""
    staged = OneOf(SCHEDULES).sections["staged"](name="staged", stages=[[30, 3], [50, 2], [100, 1]])
    rates = [1e-6 * staged(Position(epoch, 1, 200)) for epoch in range(200)]
    assert rates == pytest.approx([3e-6] * 30 + [2e-6] * 50 + [1e-6] * 120)


def recipe(**changes):
    base = {"model": {"name": "wrn", "depth": 10, "width": 0.25}, "optimizer": "sgd"}
    return Recipe.model_validate({**base, **changes})


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ({"name": "cosine"}, lambda o: LR.CosineAnnealingLR(o, 22)),
        ({"name": "linear"}, lambda o: LR.LinearLR(o, 1.0, 1e-12, 22)),
        ("constant", lambda o: LR.ConstantLR(o, 1.0)),
    ],
)
def test_a_warm_up_before_a_schedule_is_torchs_sequence_of_both(schedule, make):
    """Torch's LinearLR for the warm-up, then the schedule over what remains."""
    said = recipe(schedule=schedule, warmup={"epochs": 1.5, "start": 0.1}, train={"epochs": 7})
    start = beginning(said, steps_per_epoch=4)
    ours = [rate_factor(said, Position(step, 4, 7, start.total, start.warmup)) for step in range(28)]

    def both(optimizer):
        return LR.SequentialLR(optimizer, [LR.LinearLR(optimizer, 0.1, 1.0, 6), make(optimizer)], [6])

    assert ours == pytest.approx(torchs(both, 28), abs=1e-9)
    assert ours[6] == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_goes_before_any_schedule(name):
    needed = {"milestones": {"at": [6]}, "every": {"epochs": 6}, "staged": {"stages": [[6, 1.0], [1, 0.5]]}}
    said = recipe(
        schedule={"name": name, **needed.get(name, {})}, warmup={"epochs": 2, "start": 0.0}, train={"epochs": 10}
    )
    start = beginning(said, steps_per_epoch=5)
    assert (start.warmup, start.total, start.epochs) == (10, 50, 10)
    ours = [rate_factor(said, Position(step, 5, 10, start.total, start.warmup)) for step in range(50)]
    assert ours[0] == 0
    assert ours[:11] == sorted(ours[:11])
    if name in needed:  # what is said in epochs is counted from the start
        assert ours[29] == 1 > ours[30]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_knows_how_to_fit_a_shorter_run(name):
    """Half the epochs and half the steps: the factor at each step is that at twice the step of the whole."""
    needed = {
        "milestones": {"at": [6, 8]},
        "every": {"epochs": 4},
        "staged": {"stages": [[6, 1.0], [4, 0.5]]},
        "stepped": {"at": [0.4], "epochs": [6]},
        "cyclic": {"up": 20, "down": 10},
    }
    whole = recipe(schedule={"name": name, **needed.get(name, {})}, train={"epochs": 10}).schedule
    half = scaled(whole, 0.5)
    one_cycle_differs_by_a_step = 0.06
    for step in range(50):
        near = whole(Position(2 * step, 10, 10, 100)), half(Position(step, 10, 5, 50))
        assert near[0] == pytest.approx(near[1], abs=one_cycle_differs_by_a_step)
    assert scaled(whole, 1e-9).model_validate(scaled(whole, 1e-9).model_dump()) == scaled(whole, 1e-9)


def test_a_warm_up_may_be_a_part_of_the_run():
    assert beginning(recipe(warmup={}, train={"epochs": 30}), steps_per_epoch=10).warmup == 30
    assert beginning(recipe(warmup={"fraction": 0.5}, train={"steps": 100}), steps_per_epoch=30).warmup == 50


def test_a_run_may_end_at_a_step():
    """LOGBOOK B: 64k iterations, in the middle of an epoch."""
    start = beginning(recipe(train={"epochs": 200, "steps": 64_000}), steps_per_epoch=351)
    assert (start.total, start.epochs) == (64_000, 183)
    assert beginning(recipe(train={"epochs": 2, "steps": 64_000}), steps_per_epoch=351).total == 702


def test_constant():
    assert factors(constant, 3) == [1.0] * 3


def test_cosine_ends_at_its_final_rate():
    assert cosine(Position(20, 4, 5), final=0.1) == pytest.approx(0.1)


def test_a_warm_up_leaves_the_schedule_something():
    with pytest.raises(
        ValidationError, match=r"warmup\.epochs: expected less than train\.epochs, 3, got 3: the schedule"
    ):
        recipe(warmup={"epochs": 3}, train={"epochs": 3})


def test_no_patience_stays_none_and_a_cooldown_is_as_much_of_the_run():
    schedule = recipe(schedule={"name": "plateau", "patience": 0, "cooldown": 10}).schedule
    assert (scaled(schedule, 0.5).patience, scaled(schedule, 0.5).cooldown) == (0, 5)
    assert scaled(recipe(schedule={"name": "plateau", "patience": 3}).schedule, 0.01).patience == 1


def test_a_factor_on_each_step_is_the_same_on_the_whole_run():
    whole = recipe(schedule={"name": "cyclic", "up": 20, "mode": "exp_range", "gamma": 0.99}).schedule
    half = scaled(whole, 0.5)
    assert half.gamma == pytest.approx(0.99**2)
    assert [half(Position(step, 10, 5)) for step in range(50)] == pytest.approx(
        [whole(Position(2 * step, 10, 10)) for step in range(50)]
    )
