"""The plan of `auto`: what it chooses, how long it takes, and what it prints."""

import math
import os
import re
import signal
import time
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import logit

from featherweight import paths
from featherweight.budget.memory import within_memory
from featherweight.config import Competition, load_competition, load_recipe
from featherweight.data import pack_writer
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS
from featherweight.planning import auto, costs, curves, measuring, own_process, packing_time, pilots, views
from featherweight.planning.candidates import FAST, batch_size, batches, filling, fine_tuned, from_scratch
from featherweight.planning.clock import Clock
from featherweight.planning.costs import Cost, Machine, MeasuredCandidate
from featherweight.planning.curves import Curves, MeasuredTraining, ScoreForecast
from featherweight.planning.dataset_facts import DatasetFacts, describe
from featherweight.planning.option import PLANNED_SHARE, Findings, _for_these_classes
from featherweight.planning.own_process import Failed, in_own_process
from featherweight.planning.packing_time import ListedImages
from featherweight.planning.pilot_outcome import FlipDrop, Pilot
from featherweight.planning.pilots import PilotContext, PilotTime, piloted
from featherweight.planning.plan import Plan, make, parameters_within_limit
from featherweight.planning.plan_file import write
from featherweight.planning.timeline import passes_after
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.schema import OneOf
from featherweight.training.deadline import evaluations
from featherweight.training.forecast import step_seconds
from featherweight.training.head import Head

DIGITS = load_competition("digits")
TASK = DatasetFacts(
    images=1295,
    holdout=143,
    predict=359,
    classes=10,
    smallest=125,
    size=8,
    side=8,
    channels=1,
    mirror=False,
    pretrained=False,
)


def level(dataset: str, easy: float) -> list[MeasuredTraining]:
    """Make curves of a data set on which four times the parameters halve the error, as do four times the epochs."""
    return [
        MeasuredTraining(dataset, 2000, 10, 32, 3, parameters, epochs, 4000, easy / (parameters * epochs / 4e6) ** 0.5)
        for parameters in (500_000, 1_000_000, 2_000_000, 4_000_000)
        for epochs in (4, 8, 16, 32)
    ]


MADE_UP = Curves(level("hard", 0.2) + level("easy", 0.05))
MADE_UP_TUNED = Curves([replace(row, published=True) for row in MADE_UP.rows])


def is_wide(recipe) -> bool:
    return max(recipe.model.widths) == 384


def plan(seconds: float, step: float = 0.01, cost=None, **found):
    cost = cost or (lambda recipe: Cost(step, 1e-4, 10**9))
    measured = []
    for candidate in from_scratch(TASK):
        recipe = load_recipe(candidate.recipe, candidate.settings(1))
        parameters = parameters_within_limit(recipe, DIGITS.seen_by(recipe), candidate.name)
        assert parameters is not None
        measured.append(MeasuredCandidate(candidate, parameters, cost(recipe)))
    return make(TASK, DIGITS, measured, seconds, MADE_UP, Findings(**found))


def test_where_all_cost_the_same_the_network_that_learns_best_is_taken():
    made = plan(60)
    values = [option.forecast.value for option in made.options]
    assert values == sorted(values, reverse=True)
    assert made.best.parameters > 2_000_000


def test_the_epochs_fill_the_time_and_no_more():
    for seconds in (30.0, 60.0, 120.0):
        best = plan(seconds, step=0.1).best
        one_more = best.timeline.training / best.epochs
        assert best.timeline.total <= PLANNED_SHARE * seconds + 12
        assert best.timeline.total + one_more > PLANNED_SHARE * seconds


def test_of_few_epochs_the_last_is_cut_where_the_time_ends():
    best = plan(60, step=1.9).best
    steps = TASK.images // best.recipe.train.batch_size
    assert 1 < best.epochs < 10
    assert best.epochs % 1
    assert best.recipe.train.steps == round(best.epochs * steps)
    assert best.recipe.train.epochs == int(best.epochs) + 1
    assert PLANNED_SHARE * 60 - 12 < best.timeline.total <= PLANNED_SHARE * 60 + 12


def test_where_no_epoch_fits_a_part_of_one_is_trained():
    best = plan(60, step=15.0).best
    steps = TASK.images // best.recipe.train.batch_size
    assert 0.25 <= best.epochs < 1
    assert (best.recipe.train.epochs, best.recipe.train.steps) == (1, round(best.epochs * steps))
    assert best.timeline.total <= PLANNED_SHARE * 60 < 60
    assert re.search(r": 0\.\d\d of an epoch in ", best.line)


def test_a_short_training_is_not_kept_from_its_time_by_evaluations_that_it_will_not_make():
    """Each evaluation takes 3 seconds: ten evaluations would leave no time."""
    best = plan(85, cost=lambda recipe: Cost(4.0, 0.02, 10**9)).best
    assert 0.25 <= best.epochs < 2


def test_a_part_of_an_epoch_is_forecast_below_a_whole_one_and_never_below_guessing():
    known = Curves(curves.table())
    facts = DatasetFacts(5026, 500, 500, 10, 500, 20, 20, 3, True, False, commonest=600)
    reached = [
        _for_these_classes(known.forecast(facts, 2_000_000, epochs, 20), facts, False)
        for epochs in (0.25, 0.5, 1.0, 2.0)
    ]
    values = [one.value for one in reached]
    assert values == sorted(values)
    assert values[0] < values[2] - 0.15
    assert all(1 - facts.chance <= one.low <= one.value <= one.high for one in reached)


def test_a_part_of_an_epoch_is_forecast_like_a_whole_one_of_that_many_images():
    known, facts = Curves(curves.table()), replace(TASK, images=60_000)
    half = known.forecast(facts, 500_000, 0.5, 28)
    assert half == known.forecast(replace(facts, images=30_000), 500_000, 1.0, 28)


def test_in_the_same_time_more_images_are_not_forecast_to_do_harm():
    """From a pilot of few images: 100,000 images are seen in all, 20 times each or not even once."""
    facts = replace(TASK, images=5000)
    known = Curves(curves.table()).and_pilots([MeasuredTraining("", 1700, 10, 28, 1, 500_000, 3, 1000, 0.4)])
    few, many = (known.forecast(replace(facts, images=images), 500_000, 1e5 / images, 28) for images in (5e3, 3e5))
    assert many.value > few.value - 0.02 > 0.6


@pytest.mark.parametrize(("images", "shortest"), [(90_000, 8000), (6000, 6000)])
def test_of_many_images_a_part_of_an_epoch_is_fine_tuned_and_of_few_a_probe_alone_is_fitted(images, shortest):
    facts = replace(TASK, images=images, holdout=500)
    measured = [MeasuredCandidate(next(fine_tuned(facts)), 3_400_000, Cost(0.32, 1e-4, 10**9))]
    epochs = [
        make(facts, DIGITS, measured, seconds, MADE_UP_TUNED, Findings()).best.epochs for seconds in range(60, 600, 5)
    ]
    tuned = [one for one in epochs if one]
    assert 0 in epochs
    assert shortest <= min(tuned) * images < 1.1 * shortest
    assert epochs == sorted(epochs)


def test_of_many_images_a_small_part_of_an_epoch_is_enough():
    candidate = next(from_scratch(TASK))
    measured = [MeasuredCandidate(candidate, 500_000, Cost(0.6, 1e-5, 10**9))]
    best = make(replace(TASK, images=200_000), DIGITS, measured, 60, MADE_UP, Findings()).best
    assert 10_000 / 200_000 <= best.epochs < 0.25


def test_a_short_training_has_enough_steps_in_smaller_batches():
    """A fiftieth of a step's second does not depend on its 256 images."""
    candidate, facts = next(from_scratch(TASK)), replace(TASK, images=20_000, holdout=10, predict=10)
    measured = [MeasuredCandidate(candidate, 500_000, Cost(1.0, 1e-5, 10**9, overhead=0.02))]

    def best(seconds):
        return make(facts, DIGITS, measured, seconds, MADE_UP, Findings()).best

    short, long = best(60), best(600)
    assert (short.recipe.train.batch_size, short.recipe.optimizer.lr) == (32, 0.015)
    assert short.step == pytest.approx(0.02 + 0.98 * 32 / 256)
    assert short.recipe.train.steps * short.step == pytest.approx(60 * PLANNED_SHARE - 12, rel=0.1)
    assert (long.recipe.train.batch_size, long.step) == (256, 1.0)


def test_views_are_left_out_where_their_time_gains_more_as_epochs():
    candidate = next(from_scratch(TASK))
    measured = [MeasuredCandidate(candidate, 500_000, Cost(0.1, 1e-3, 10**9))]

    def best(predict, seconds=200):
        return make(replace(TASK, predict=predict), DIGITS, measured, seconds, MADE_UP, Findings()).best

    many, few = best(60_000), best(1000)
    assert (many.recipe.predict.views, len(few.recipe.predict.views)) == ([], 2)
    assert many.epochs > 100
    assert "test-time views: none" in "".join(Plan(TASK, 200, [many], []).lines())
    most = best(1_000_000, 5000)  # the longest training fits in with them
    assert (most.epochs, len(most.recipe.predict.views)) == (400, 2)


def test_of_two_kinds_of_views_the_one_worth_more_for_its_time_is_kept():
    """Of mirrored images one is seen, of shifted ones two, which gain less."""
    colour = load_competition("cifar10")
    facts = replace(TASK, mirror=True, predict=4000, channels=3)
    measured = [MeasuredCandidate(next(from_scratch(facts)), 500_000, Cost(0.05, 5e-3, 10**9))]
    kept = [
        [view.name for view in make(facts, colour, measured, seconds, MADE_UP, Findings()).best.recipe.predict.views]
        for seconds in (60, 130, 4000)
    ]
    assert kept == [[], ["flip"], ["flip", "shift"]]


def test_where_no_training_is_better_than_a_guess_the_longest_is_taken():
    guess = SimpleNamespace(forecast=lambda *asked: ScoreForecast(0.02, 0.01, 0.03))
    measured = [MeasuredCandidate(next(from_scratch(TASK)), 500_000, Cost(0.1, 1e-3, 10**9))]
    short, long = (
        make(replace(TASK, predict=10_000), DIGITS, measured, seconds, guess, Findings()).best
        for seconds in (100, 1000)
    )
    assert short.forecast.value == long.forecast.value == 1 - TASK.chance
    assert (short.recipe.predict.views, short.epochs > 100) == ([], True)
    assert (len(long.recipe.predict.views), long.epochs) == (2, 400)  # the longest one leaves time for views


def test_a_forecast_falls_by_what_the_left_out_views_gain():
    recipe, plain = load_recipe(FAST), load_recipe(FAST, ["predict.views=[]"])
    assert views.lost(recipe, recipe, DIGITS) == 0
    assert views.lost(plain, recipe, DIGITS) == views.GAINS[frozenset({"shift"})] > 0  # digits are not mirrored
    assert [*views.settings(load_recipe(FAST, ["predict.views=[rotate]"]), DIGITS)] == [()]
    half = ScoreForecast(0.5, 0.1, 1.0).raised(np.log(3))
    assert (half.value, half.low, half.high) == pytest.approx((0.75, 0.25, 1.0))


def test_small_sizes_of_all_networks_come_before_large_ones_of_any():
    """Else the widest network, at all sizes, would take the time for measuring the others."""
    large = DIGITS.model_copy(update={"limit": DIGITS.limit.model_copy(update={"parameters": 12_000_000})})
    facts = replace(TASK, side=200)
    turns = [(one.name, one.size) for one in auto._in_turn(fine_tuned(facts), facts, large)]
    sizes = [size for name, size in turns if "pretrained" not in name]
    assert sizes == sorted(sizes)
    assert turns[1] == ("fast net, narrow", 32)
    assert ("fast net, filling the limit", 32) in turns


def test_of_very_many_images_a_smaller_part_is_held_out():
    assert auto._held_out(30_000) == []
    assert load_recipe("fastnet94", auto._held_out(50_000)).split.holdout == 3000


def test_a_network_whose_steps_are_dear_is_left_for_one_that_gets_through_more_epochs():
    def cost(recipe):
        return Cost(16.0 if max(recipe.model.widths) > 128 else 0.01, 1e-4, 10**9)

    assert plan(120, cost=cost).best.candidate.name == "fast net, narrow"


def test_what_does_not_fit_is_listed_with_the_reason():
    made = plan(40, cost=lambda recipe: Cost(90.0 if is_wide(recipe) else 0.01, 1e-4, 10**9))
    assert made.refused[0].startswith("fast net, wide at 8 px: an epoch takes ")
    assert any("instead of" in line for line in made.lines())


def test_where_mirroring_is_found_to_change_classes_nothing_is_mirrored():
    photos = DIGITS.model_copy(update={"image": DIGITS.image.model_copy(update={"mirror": True})})
    candidate = next(from_scratch(TASK))
    measured = [MeasuredCandidate(candidate, 500_000, Cost(0.01, 1e-4, 10**9))]
    recipes = [
        make(TASK, photos, measured, 100, MADE_UP, Findings(mirror=mirror)).best.recipe.image
        for mirror in (True, False)
    ]
    assert [image and image.mirror for image in recipes] == [None, False]


def test_steps_that_a_pilot_found_slower_are_planned_slower():
    slower, dear = plan(120, step=0.1, slowdown=2.0).best, plan(120, step=0.2).best
    assert abs(slower.epochs - dear.epochs) <= 1


def pilot(error: float, mirrored: float, holdout: int = 400, chance: float = 0.9, upside_down: float = 1.0) -> Pilot:
    """Make a pilot that gets the fractions `mirrored` and `upside_down` of its images wrong when they are flipped."""
    losses = [FlipDrop(one - error, (abs(one - error) / holdout) ** 0.5) for one in (mirrored, upside_down)]
    return Pilot(next(from_scratch(TASK)), 500_000, 1000, 3, holdout, error, chance, *losses)


@pytest.mark.parametrize(
    ("error", "upside_down", "mirror", "allowed"),
    [
        (0.1, 0.105, True, True),  # seedlings, seen from above
        (0.1, 0.3, True, False),  # photographs with a sky
        (0.1, 0.105, False, False),  # the competition's file forbids mirroring
        (0.88, 0.88, True, False),  # a pilot that has learned nothing tells nothing
    ],
)
def test_images_whose_up_and_down_are_alike_are_turned_upside_down(error, upside_down, mirror, allowed):
    colour = load_competition("cifar10")
    facts = replace(TASK, mirror=mirror, channels=3)
    words = []
    one = pilot(error, error, upside_down=upside_down)
    findings = auto._findings([one], [], facts, words)
    assert (findings.upside_down, bool(words)) == (allowed, allowed)
    measured = [MeasuredCandidate(next(from_scratch(facts)), 500_000, Cost(0.01, 1e-4, 10**9))]
    best = make(facts, colour, measured, 100, MADE_UP, findings).best
    names = [choice.name for choice in best.recipe.augment]
    assert names == ["crop", "alternating_flip", "vertical_flip"][: 3 if allowed else 2]
    assert best.recipe.augment[:2] == load_recipe("fastnet94_muon").augment


@pytest.mark.parametrize(
    ("error", "mirrored", "forbidden"),
    [
        (0.1, 0.5, True),  # road signs, letters
        (0.1, 0.12, False),  # photographs: a little is always lost by what it has not seen
        (0.88, 0.89, False),  # a pilot that has learned nothing tells nothing
        (0.2, 0.2, False),
    ],
)
def test_mirroring_is_forbidden_only_where_a_pilot_shows_it(error, mirrored, forbidden):
    assert pilot(error, mirrored).forbids_mirroring is forbidden


def test_a_pilot_of_few_images_does_not_decide_alone():
    assert not pilot(0.2, 0.35, holdout=20).forbids_mirroring


def test_a_pilot_that_always_says_the_most_frequent_class_has_learned_nothing():
    """Two classes at 9 : 1: it is right on 90 %, which says nothing about the difficulty of the task."""
    assert not pilot(0.1, 0.1, chance=0.1).has_learned
    assert "no better than always predicting the most frequent class (90.0%)" in str(pilot(0.1, 0.1, chance=0.1))
    assert pilot(0.04, 0.04, chance=0.1).has_learned
    assert pilot(0.02, 0.1, chance=0.1).forbids_mirroring  # all of what it knew is lost
    assert not pilot(0.1, 0.1, holdout=30, chance=0.15).has_learned


def test_the_score_that_is_expected_of_uneven_classes_is_that_of_even_ones_as_hard():
    even = DatasetFacts(2000, 200, 500, 2, 1000, 32, 32, 3, True, False)
    uneven = replace(even, smallest=200, commonest=1800)
    assert (even.unevenness, round(uneven.unevenness, 6)) == (1.0, 0.2)

    def expected(facts, one):
        learned = MADE_UP.and_pilots([auto._row(one, facts)] if one.has_learned else [])
        return _for_these_classes(learned.forecast(facts, 2_000_000, 16, 32), facts, not one.has_learned)

    half_of_chance = expected(even, pilot(0.25, 0.3, chance=0.5)), expected(uneven, pilot(0.05, 0.06, chance=0.1))
    assert 1 - half_of_chance[1].value == pytest.approx((1 - half_of_chance[0].value) / 5, rel=0.1)
    nothing_learned = expected(uneven, pilot(0.1, 0.1, chance=0.1))
    assert nothing_learned.low == pytest.approx(0.9)
    assert 0.9 < nothing_learned.value < 0.96 < half_of_chance[1].low + 0.02
    assert nothing_learned.high > 0.99


@pytest.mark.parametrize(
    ("error", "chance", "bold"),
    [(0.033, 0.5, False), (0.21, 0.86, True), (0.228, 0.9, True), (0.40, 0.93, True), (0.05, 0.1, True)],
)
def test_how_boldly_to_fine_tune_follows_from_the_part_of_chance_that_a_probe_gets_wrong(error, chance, bold):
    """Dogs and cats, seedlings, CIFAR-10 and signs, as measured, and two classes at 9 : 1."""
    probe = replace(pilot(error, error, chance=chance), candidate=next(fine_tuned(TASK)), epochs=0)
    assert probe.is_unlike is bold
    assert not pilot(error, error, chance=chance).is_unlike  # of a network that starts from nothing


def test_where_no_pilot_shows_what_random_weights_reach_pretrained_ones_come_first():
    """Flowers, after whose first pilot no time was left for a second: a network from nothing at 32 px was chosen."""
    facts = replace(TASK, images=1800, classes=102, size=224, side=500, channels=3, pretrained=True)
    tuned = replace(next(fine_tuned(facts)), fixed=())
    probe = replace(pilot(0.45, 0.45, chance=0.98), candidate=tuned, epochs=0, parameters=3_500_000)
    measured = [
        MeasuredCandidate(next(from_scratch(facts)), 500_000, Cost(0.5, 1e-3, 10**9)),
        MeasuredCandidate(tuned, 3_500_000, Cost(9.0, 1e-2, 10**9)),
    ]
    known = Curves(curves.table()).and_pilots([auto._row(probe, facts)])
    words = []
    made = make(facts, DIGITS, measured, 200, known, auto._findings([probe], measured, facts, words))
    assert made.best.forecast.value < made.options[1].forecast.value
    assert made.best.candidate == replace(tuned, fixed=made.best.candidate.fixed)
    assert words == ["no pilot shows what random weights reach here, so pretrained ones come first"]
    assert auto._findings([], measured, facts, []).scratch_unknown  # 8,000 photographs: no time for any pilot
    both = [probe, pilot(0.9, 0.9, chance=0.98)]
    assert not auto._findings(both, measured, facts, []).scratch_unknown
    auto._findings([probe], measured[1:], facts, words)
    assert len(words) == 1  # without networks from random weights nothing is said of them


@pytest.mark.parametrize(("channels", "pilots", "mirror"), [(1, [], False), (3, [], True), (1, [(0.1, 0.1)], True)])
def test_grey_images_of_which_no_pilot_tells_are_not_mirrored(channels, pilots, mirror):
    words = []
    facts = replace(TASK, channels=channels, mirror=True)
    found = auto._findings([pilot(*one) for one in pilots], [], facts, words)
    assert found.mirror is mirror
    assert bool(words) is not mirror


def test_a_pilot_tells_how_hard_the_task_is():
    def forecast(error):
        row = MeasuredTraining("this task", 2000, 10, 32, 3, 500_000, 6, 2000, error)
        return MADE_UP.and_pilots([row]).forecast(facts, 2_000_000, 16, 32)

    facts = DatasetFacts(2000, 200, 500, 10, 200, 32, 32, 3, True, False)
    easy, hard, unknown = forecast(0.02), forecast(0.6), MADE_UP.forecast(facts, 2_000_000, 16, 32)
    assert hard.value < unknown.value < easy.value
    assert width(hard) < width(unknown)


def width(forecast) -> float:
    """Return the width of the forecast's range, in logits."""
    return math.log(forecast.high / (1 - forecast.high)) - math.log(forecast.low / (1 - forecast.low))


def test_a_forecast_is_surer_near_its_pilot_than_far_from_it():
    facts = DatasetFacts(2000, 200, 500, 10, 200, 32, 32, 3, True, False)
    curves = MADE_UP.and_pilots([MeasuredTraining("this task", 2000, 10, 32, 3, 500_000, 4, 2000, 0.2)])
    widths = [width(curves.forecast(facts, 500_000, epochs, 32)) for epochs in (4, 16, 64, 256)]
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]


def test_photographs_are_fine_tuned_at_real_sizes_and_small_images_enlarged():
    photos = DatasetFacts(
        1500, 150, 500, 2, 700, 128, 300, 3, True, True
    )  # whatever size their competition's file gives them
    small = DatasetFacts(1500, 150, 500, 2, 700, 32, 32, 3, True, True)
    assert {candidate.size for candidate in fine_tuned(photos)} == {96, 128, 160, 224}
    assert {candidate.size for candidate in fine_tuned(replace(photos, images=30_000))} == {96, 128, 160, 224}
    assert {candidate.size for candidate in fine_tuned(small)} == {96, 128, 192}
    assert {candidate.size for candidate in fine_tuned(replace(photos, side=100))} == {96, 128, 160, 224}
    assert all(load_recipe(one.recipe, one.settings(1)).model.arguments["stem"] == 4 for one in fine_tuned(small))
    several = next(fine_tuned(replace(photos, several=True)))
    assert load_recipe(several.recipe, several.settings(2)).head == Head(start="random", epochs=1)
    probe = next(fine_tuned(photos))
    recipe = load_recipe(probe.recipe, probe.settings(0))
    assert (recipe.train.epochs, recipe.head.start, recipe.ship) == (0, "probe", "raw")


def test_too_little_time_is_refused_in_words():
    with pytest.raises(UserError, match=r"nothing can be trained in that: give it twice the time\n.*an epoch takes"):
        plan(15, step=10.0)


def test_small_sets_get_small_batches_and_large_ones_the_largest():
    assert [batch_size(images) for images in (100, 200, 500, 1000)] == [32, 64, 128, 256]
    assert batches(1000) == ("train.batch_size=256", "optimizer.lr=0.24", "optimizer.rest_lr=1")
    assert [batch_size(50_000, seen) for seen in (1000, 20_000, 40_000, 70_000)] == [32, 64, 128, 256]
    assert batches(8000) == ("train.batch_size=256", "optimizer.lr=0.12", "optimizer.rest_lr=0.5")
    assert batches(45_000, 100_000) == batches(8000)  # 195 steps of 512 would be too few
    assert batches(45_000) == ("train.batch_size=512", "optimizer.lr=0.12", "optimizer.rest_lr=0.5")


@pytest.mark.parametrize(
    ("side", "sizes"),
    [
        (8, {8}),
        (28, {28}),
        (36, {36}),
        (64, {32, 64}),
        (65, {32, 65}),
        (80, {32, 64, 80}),
        (95, {32, 64, 95}),
        (128, {32, 64, 96, 128}),
        (129, {32, 64, 96}),
        (300, {32, 64, 96, 128}),
    ],
)
def test_images_are_reduced_for_networks_that_start_from_random_weights(side, sizes):
    facts = DatasetFacts(1500, 150, 500, 2, 700, 224, side, 3, True, False)
    assert {candidate.size for candidate in from_scratch(facts)} == sizes
    assert all("image.size=" in " ".join(candidate.settings(3)) for candidate in from_scratch(facts))


def test_images_unlike_those_of_the_pretrained_weights_are_fine_tuned_boldly():
    photos = DatasetFacts(3000, 300, 500, 2, 1500, 64, 64, 3, mirror=True, pretrained=True)
    candidate = next(fine_tuned(photos))
    measured = [MeasuredCandidate(candidate, 3_400_000, Cost(0.1, 1e-4, 10**9))]
    gentle, bold = (
        make(photos, DIGITS, measured, 300, MADE_UP_TUNED, Findings(unlike=unlike)).best.recipe.optimizer
        for unlike in (False, True)
    )
    assert gentle == load_recipe("finetune_lite0").optimizer
    assert bold == load_recipe("finetune_lite0_bold").optimizer != gentle


@pytest.mark.parametrize("limit", [20_000, 300_000, 3_000_000])
def test_under_a_small_limit_there_are_networks_that_fill_it(limit):
    small = DIGITS.model_copy(update={"limit": DIGITS.limit.model_copy(update={"parameters": limit})})
    found = list(filling(TASK, small))
    counts = [parameters_within_limit(load_recipe(one.recipe, one.settings(1)), small, one.name) for one in found]
    assert [0.9 * part < count <= part for count, part in zip(counts, (limit, limit / 4), strict=True)] == [True, True]


def test_no_smaller_variant_is_looked_for_of_a_candidate_over_the_limit(monkeypatch):
    """That takes longer than its count, and `auto` has a deadline."""
    monkeypatch.setattr(
        "featherweight.budget.count.nearest_that_fits", lambda *arguments: pytest.fail("a variant is looked for")
    )
    small = DIGITS.model_copy(update={"limit": DIGITS.limit.model_copy(update={"parameters": 1000})})
    assert parameters_within_limit(load_recipe("tiny"), small, "tiny") is None


def test_with_thousands_of_classes_there_are_networks_that_fill_the_limit():
    many = DIGITS.model_copy(update={"classes": [f"c{index}" for index in range(3000)]})
    limited = many.model_copy(update={"limit": many.limit.model_copy(update={"parameters": 5_000_000})})
    counts = [
        parameters_within_limit(load_recipe(one.recipe, one.settings(1)), limited, one.name)
        for one in filling(TASK, limited)
    ]
    assert [0.9 * part < count <= part for count, part in zip(counts, (5e6, 1.25e6), strict=True)] == [True, True]


def test_under_the_usual_limit_the_usual_networks_are_enough():
    assert not list(filling(TASK, DIGITS))


def test_under_a_larger_limit_there_is_a_network_that_fills_it():
    large = DIGITS.model_copy(update={"limit": DIGITS.limit.model_copy(update={"parameters": 12_000_000})})
    (one,) = filling(TASK, large)
    counted = parameters_within_limit(load_recipe(one.recipe, one.settings(1)), large, one.name)
    assert counted is not None
    assert 0.9 * 12e6 < counted <= 12e6


def test_the_first_epoch_of_a_pilot_is_no_measure_of_its_steps():
    history = pd.DataFrame({"step": [5, 10, 15], "seconds": [8.0, 10.0, 12.0]})
    assert step_seconds(history) == pytest.approx(0.4)
    assert step_seconds(history[:1]) == pytest.approx(1.6)  # there is no other
    assert step_seconds(pd.DataFrame({"step": [0], "seconds": [0.0]})) == 0


def test_what_a_run_does_after_its_training_is_planned():
    """The views, the features that a shift is judged by, and the report's own look at the holdout."""
    facts = replace(TASK, images=60_000, holdout=6000, predict=10_000)
    assert passes_after(facts, 6) == 6 * (6000 + 10_000) + 6000 + 3000 + 6000 + 500
    assert passes_after(replace(facts, predict=0), 6) == 6 * 6000 + 6000 + 500


def test_the_features_of_a_probe_are_in_the_plans_memory_and_disk():
    facts = replace(TASK, pretrained=True, images=100_000, mirror=True, side=224, size=224, channels=3)
    candidate = next(fine_tuned(facts))
    cost = Cost(0.01, 1e-4, 10**9, checkpoint=10**7, features=1280)
    mirrored = DIGITS.model_copy(update={"image": DIGITS.image.model_copy(update={"mirror": True})})
    measured = [MeasuredCandidate(candidate, 3_000_000, cost)]
    best = make(facts, mirrored, measured, 3600, MADE_UP_TUNED, Findings()).best
    features = 2 * 100_000 * 1280 * 4
    assert best.cost.memory == 2 * features
    assert best.disk == features + 2 * 10**7


def test_a_pilot_of_a_large_set_takes_batches_for_its_own_images(monkeypatch):
    asked = []
    monkeypatch.setattr(pilots, "in_own_process", lambda *what, **patience: asked.append(what) or refuse("x"))
    facts = replace(TASK, images=45_000, holdout=64)
    candidate = next(from_scratch(facts))
    assert "train.batch_size=512" in candidate.settings(1)  # 30 seconds are enough for 3 epochs of 5,120 images
    measured = MeasuredCandidate(candidate, 493_224, Cost(1.0, 1e-4, 10**9))
    shown = replace(context(), facts=facts, train=[str(i) for i in range(45_000)], judges=[str(i) for i in range(64)])
    piloted(measured, shown, 30.0, time.monotonic() + 99)
    recipe = asked[0][1]
    assert (recipe.train.batch_size, recipe.optimizer.lr, recipe.optimizer.rest_lr) == (32, 0.03, 1.0)


def test_the_pilot_is_of_the_network_that_is_cheapest_by_the_image(monkeypatch):
    """A step of it, of 512 images, may take longer than one of a larger network in small batches."""
    facts = replace(TASK, images=45_000)
    by_name = {one.name: one for one in from_scratch(facts)}
    narrow, wide = by_name["fast net, narrow"], by_name["fast net, wide"]
    measured = [
        MeasuredCandidate(wide, 4_587_816, Cost(0.44, 2e-3, 10**9)),
        MeasuredCandidate(narrow, 493_224, Cost(0.51, 3e-4, 10**9)),
    ]
    tried = []
    monkeypatch.setattr(auto, "piloted", lambda one, *rest: tried.append(one.candidate) or "too few")
    assert auto._pilots(measured, context(), Clock(0.0, 300, math.inf), []) == []
    assert tried == [narrow]


def test_a_probe_is_a_pilot_at_the_size_for_which_its_error_was_judged(monkeypatch):
    """At 96 px the error on photographs like those of the pretrained weights is larger."""
    facts = replace(TASK, side=300, images=30_000)
    measured = [
        MeasuredCandidate(candidate, 3_400_000, Cost(1.0, candidate.size**2 * 1e-7, 10**9))
        for candidate in fine_tuned(facts)
    ]
    tried = []
    monkeypatch.setattr(auto, "piloted", lambda one, *rest: tried.append(one.candidate.size) or "too few")
    assert auto._pilots(measured, context(), Clock(0.0, 300, math.inf), []) == []
    assert auto._pilots(measured[:1], context(), Clock(0.0, 300, math.inf), []) == []
    assert tried == [128, 96]


def test_curves_learn_what_holds_within_every_set():
    """Differences in difficulty between data sets are the uncertainty of a forecast, and are not learned."""
    small, large = MADE_UP.forecast(TASK, 500_000, 8, 8), MADE_UP.forecast(TASK, 4_000_000, 8, 8)
    longer = MADE_UP.forecast(TASK, 500_000, 32, 8)
    assert small.value < large.value
    assert small.value < longer.value
    assert large.low < large.value < large.high
    assert large.high - large.low > 0.02


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("error", [None, 0.002, 0.1, 0.5, 0.97])
@pytest.mark.parametrize(("classes", "side"), [(2, 224), (45, 224), (3000, 32), (10, 8)])
def test_more_time_images_pixels_or_parameters_are_never_forecast_to_do_harm(published, error, classes, side):
    pilots = (
        []
        if error is None
        else [MeasuredTraining("", 700, classes, side, 3, 500_000, 0 if published else 3, 500, error, published)]
    )
    known = Curves(curves.table()).and_pilots(pilots)

    def value(images=3000, parameters=2_000_000, epochs=12.0, size=64):
        facts = DatasetFacts(images, 300, 500, classes, 1, side, side, 3, True, True)
        return known.forecast(facts, parameters, epochs, size, published).value

    for key, values in {
        "images": (300, 3000, 30_000, 300_000),
        "parameters": (100_000, 500_000, 2_000_000, 5_000_000),
        "epochs": (1.0, 3.0, 12.0, 48.0, 200.0, 400.0),
        "size": (32, 64, 128, 224),
    }.items():
        reached = [value(**{key: one}) for one in values]
        assert reached == sorted(reached), key


def test_the_table_that_ships_is_whole():
    rows = curves.table()
    assert len({row.dataset for row in rows}) >= 2
    assert all(0 <= row.error <= 1 and row.parameters <= 5_000_000 for row in rows)


def test_a_cost_is_measured_in_a_process_of_its_own():
    cost = costs.measure(load_recipe("tiny"), DIGITS, Machine("cpu", 1))
    assert cost is not None
    assert 0 <= cost.overhead <= cost.step < 60
    assert cost.step > 0
    assert Cost(1.0, 1.0, 1, overhead=0.2).in_batches(64, 256).step == pytest.approx(0.4)
    assert 0 < cost.view < 1
    assert cost.memory > 50e6


def test_the_command_plans_and_stores_a_recipe(home, monkeypatch, capsys):
    """Only one candidate is measured, and its pilot has two seconds."""
    from featherweight.cli.main import main

    monkeypatch.setattr(measuring, "MEASURING_SHARE", 0.0)
    monkeypatch.setattr(auto, "PILOT_SHARE", 0.02)
    assert main(["auto", "--minutes", "2", "--plan", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "the plan: " in said
    assert (home / "plans" / "digits" / "auto2m.yaml").is_file()
    assert said.splitlines()[-1].startswith("next: ./run.sh ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give --minutes 20 or --hours 8"),
        (["--minutes", "5", "--hours", "1"], "give --minutes 20 or --hours 8"),
        (["--minutes", "0.2"], "expected 1 or more"),
        (["--minutes", "-3"], "expected a time above 0"),
        (["--minutes", "nan"], "expected a time above 0"),
        (["--hours", "1e9"], "expected a time above 0"),
        (["--minutes", "5", "--name", "a/b"], "--name a/b: expected a plain name"),
    ],
)
def test_odd_words_are_refused_before_anything_is_planned(words, complaint, home, capsys):
    from featherweight.cli.main import main

    assert main(["auto", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_a_pilot_on_digits_finds_that_mirrored_ones_are_others():
    candidate = next(from_scratch(TASK))
    cost = Cost(0.02, 1e-3, 10**9)
    pilot = piloted(MeasuredCandidate(candidate, 493_224, cost), context(), 60.0, time.monotonic() + 100)
    assert isinstance(pilot, Pilot), pilot
    assert pilot.images == TASK.images
    assert pilot.error < 0.3 < pilot.error + pilot.mirror_drop.increase
    assert pilot.forbids_mirroring
    assert pilot.slowdown > 0


def test_what_a_call_of_a_prediction_costs_besides_its_images_is_not_counted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(costs.time, "perf_counter", lambda: now[0])

    def predict(count):
        now[0] += 3.0 + 0.5 * count

    assert costs.seconds_of_an_image(predict, 10, 30) == pytest.approx(0.5)
    assert costs.seconds_of_an_image(predict, 10, 10) == pytest.approx(0.8)  # too few to tell them apart


def test_a_pilot_is_shortened_to_end_in_time():
    """As when other programs begin after the steps were timed."""
    shown = context()
    recipe = load_recipe("fastnet94_muon", [*next(from_scratch(TASK)).settings(400), "image.mirror=false"])
    limit = PilotTime(time.monotonic() + 6, judging=0.1, step=1e-4)  # a step takes much longer
    result = pilots._trained(recipe, DIGITS, shown.train, shown.judges, Machine("cpu", 1), limit)
    assert 0 < result.epochs < 400
    assert result.error < result.chance / 2


def test_a_pilot_has_the_images_that_the_time_allows(monkeypatch):
    asked = []
    monkeypatch.setattr(pilots, "in_own_process", lambda *what, **patience: asked.append(what) or refuse("x"))
    measured = MeasuredCandidate(next(from_scratch(TASK)), 493_224, Cost(2.0, 1e-4, 10**9))
    for left in (16, 50):  # of which starting a process takes five
        piloted(measured, context(), 60.0, time.monotonic() + left)
    few, many = (len(what[3]) for what in asked)
    assert 100 < few < many / 2


def test_pilots_see_no_image_of_the_holdout(monkeypatch):
    given = []
    monkeypatch.setattr(auto, "measured_within", lambda *args: [None])
    monkeypatch.setattr(auto, "_pilots", lambda measured, context, *rest: given.append(context) or refuse("here"))
    with pytest.raises(Failed, match="here"):
        auto.plan(DIGITS, 5, time.monotonic(), Machine("cpu", 1))
    _, holdout, _ = ListedImages(DIGITS).divided(load_recipe("fastnet94").split)
    (context,) = given
    assert set(holdout.ids).isdisjoint([*context.train, *context.judges])
    assert set(context.train).isdisjoint(context.judges)
    assert len(context.judges) == pytest.approx(129, abs=3)


def context() -> PilotContext:
    listed = ListedImages(DIGITS)
    train, holdout, _ = listed.divided(load_recipe("fastnet94").split)
    return PilotContext(TASK, listed, train.ids, holdout.ids, Machine("cpu", 1))


@pytest.mark.parametrize(
    ("cost", "seconds", "left", "why"),
    [
        (Cost(1.0, 1.0, 10**9), 5.0, 60, "in 5 seconds, without decoding, it would train on .*: too few"),
        (Cost(0.1, 1e-3, 10**9), 60.0, 0.2, "in 0 seconds, without decoding, it would train on 0 .*: too few"),
    ],
)
def test_why_there_is_no_pilot_is_said(cost, seconds, left, why):
    candidate = next(from_scratch(TASK))
    reason = piloted(MeasuredCandidate(candidate, 493_224, cost), context(), seconds, time.monotonic() + left)
    assert re.search(why, reason)


def test_images_too_few_to_judge_a_pilot_are_planned_for_without_one(folders):
    listed = ListedImages(folders)
    train = listed.data.train.take(np.arange(4))
    assert listed.for_pilots(train) == (train.ids, [])
    candidate, cost = next(from_scratch(TASK)), Cost(0.02, 1e-3, 10**9)
    unjudged = replace(context(), judges=[])
    reason = piloted(MeasuredCandidate(candidate, 493_224, cost), unjudged, 60.0, time.monotonic() + 100)
    assert "be judged by 0: too few" in reason


@pytest.mark.parametrize(
    ("images", "seen", "epochs"), [(5000, 20_000, 4), (1000, 3000, 3), (1000, 9e4, 20), (200, 9e4, 20), (9000, 9e4, 3)]
)
def test_a_pilot_of_few_images_takes_steps_enough_to_learn_from_them(images, seen, epochs):
    assert pilots._epochs(images, batch_size(images), seen) == epochs


def test_where_views_are_dear_fewer_images_judge_a_pilot(monkeypatch):
    asked = []
    monkeypatch.setattr(pilots, "in_own_process", lambda *what, **patience: asked.append(what) or refuse("x"))
    candidate = next(from_scratch(TASK))
    measured = MeasuredCandidate(candidate, 493_224, Cost(4.0, 0.1, 10**9))
    facts = replace(TASK, holdout=1000)
    piloted(
        measured, replace(context(), facts=facts, judges=[str(i) for i in range(1000)]), 60.0, time.monotonic() + 99
    )
    _, _, _, shown, judged, *_ = asked[0]
    batch = load_recipe(candidate.recipe, candidate.settings(3)).train.batch_size
    assert (len(shown), len(judged)) == (int(40.2 / (3 * 4.0 / batch)), 66)


def refuse(*reason):
    raise Failed(*reason)


def test_a_task_is_told_from_what_is_listed_without_decoding(folders, monkeypatch):
    def decoded(*what):
        raise AssertionError("decoded")

    monkeypatch.setattr(pack_writer, "write", decoded)
    train, holdout, _ = ListedImages(folders).divided(load_recipe("fastnet94").split)
    facts = describe(folders, train, holdout, ListedImages(folders).data.predict)
    assert (facts.images, facts.holdout, facts.predict, facts.smallest, facts.commonest) == (36, 4, 5, 9, 27)


def test_where_decoding_alone_takes_longer_than_there_is_it_is_said_at_once(folders, monkeypatch):
    monkeypatch.setattr(ListedImages, "_of_one", lambda self, image: 30.0 * image.size / 32)
    monkeypatch.setattr(packing_time, "cores", lambda: 2)
    monkeypatch.setattr(costs, "measure", lambda *what: pytest.fail("measured"))
    began = time.monotonic()
    with pytest.raises(UserError) as refused:
        auto.plan(folders, 5, began, Machine("cpu", 1))
    assert str(refused.value).startswith("--minutes 5: decoding the images takes about 11 minutes on this machine")
    enough = re.search(r"Give it --minutes (\d+) or more", str(refused.value))
    assert enough
    assert 22 <= int(enough[1]) <= 26  # twice the decoding, and what had passed before


def test_what_the_disk_has_no_room_for_is_left_out(folders, monkeypatch):
    """45 pictures of 40 px, which are stored as they are for pretrained weights, and at 32 px for random ones."""
    free = 45 * 3 * 40 * 53 + 40 * 3 * 32 * 32
    monkeypatch.setattr(packing_time.shutil, "disk_usage", lambda place: SimpleNamespace(free=free - 1))
    listed, refused = ListedImages(folders), []
    facts = replace(TASK, images=36, size=32, side=40, channels=3)
    stored = replace(next(fine_tuned(replace(facts, side=80))), size=128)
    scratch = next(from_scratch(facts))
    assert auto._with_room([stored, scratch], listed, facts, refused) == [scratch]
    assert refused == [f"{stored.name} at 128 px: the decoded images take more than the 0.0 GB of free disk"]
    free += 1
    assert auto._with_room([stored, scratch], listed, facts, refused) == [stored, scratch]


def test_a_slow_start_is_not_called_decoding(folders):
    with pytest.raises(UserError) as refused:
        auto.plan(folders, 1, time.monotonic() - 50, Machine("cpu", 1))
    assert re.fullmatch(
        r"--minutes 1: 5\d seconds of it passed while Python started and the images were listed; too little is left\. "
        r"Give it --minutes 2 or more",
        str(refused.value),
    )


def test_what_is_packed_takes_no_time_and_a_run_decodes_for_kin_at_the_declared_size_too(folders, monkeypatch):
    monkeypatch.setattr(ListedImages, "_of_one", lambda self, image: 0.01 * image.size)
    monkeypatch.setattr(packing_time, "cores", lambda: 1)
    listed, small = ListedImages(folders), folders.seen_by(load_recipe("fastnet94", ["image.size=16"]))
    assert listed.seconds_of_a_run(folders) == pytest.approx(45 * 0.32, rel=0.01)
    assert listed.seconds_of_a_run(small) == pytest.approx(45 * 0.16 + 40 * 0.32, rel=0.01)
    assert listed.bytes_of_a_run(small, 40) == 3 * (45 * 16**2 + 40 * 32**2)
    listed.load(small)
    assert listed.bytes_of_a_run(small, 40) == 3 * 40 * 32**2
    assert listed.seconds(small.image) == 0
    assert listed.seconds_of_a_run(small) == pytest.approx(40 * 0.32 + 40 * packing_time.GROUPING_SMALL_SECONDS)
    listed.load(folders)  # as for a pilot, which looks for no copies
    assert listed.seconds_of_a_run(folders) == pytest.approx(40 * packing_time.GROUPING_SMALL_SECONDS)
    assert ListedImages(folders).seconds_of_a_run(folders) == 0  # an earlier run has looked for them
    monkeypatch.setattr(packing_time.image_groups, "MOST_SEARCHED", 39)
    assert listed.seconds_of_a_run(folders) == pytest.approx(40 * packing_time.COMPARING_SECONDS)
    monkeypatch.setattr(packing_time.image_groups, "LARGEST", 0)
    assert listed.seconds_of_a_run(folders) == 0  # too many bytes to look for copies
    assert ListedImages(folders).seconds(small.image) == 0


def test_images_kept_in_one_file_are_listed_and_their_reading_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x=pixels, y=np.arange(60) % 3, t=pixels[:10])
    arrays = Competition.model_validate(
        {
            "title": "arrays",
            "source": {"name": "arrays", "train": "set.npz:x", "labels": "set.npz:y", "test": "set.npz:t"},
            "image": {"size": 16, "channels": 1, "mirror": False},
            "classes": ["0", "1", "2"],
            "limit": 5_000_000,
        }
    )
    monkeypatch.setattr(paths, "data", lambda: tmp_path)
    monkeypatch.setattr(ListedImages, "_of_one", lambda self, image: 0.0)
    listed = ListedImages(arrays)
    train, holdout, _ = listed.divided(load_recipe("fastnet94").split)
    facts = describe(arrays, train, holdout, listed.data.predict)
    assert (facts.images, facts.holdout, facts.predict, facts.commonest) == (54, 6, 10, 18)
    assert 0 < listed.seconds(arrays.image) < 5
    listed.load(arrays)
    assert listed.seconds(arrays.image) == ListedImages(arrays).seconds(arrays.image) == 0


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Make a competition with 30 labelled images of one class, 10 of another, and 5 images to predict."""
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name, count in (("train/a", 30), ("train/b", 10), ("test", 5)):
        (tmp_path / name).mkdir(parents=True)
        for place in range(count):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{'ab'[place % 2]}{place * 37 % 101}.png")
    return Competition.model_validate(
        {
            "title": "folders",
            "source": {"name": "folders", "path": str(tmp_path), "train": "train", "test": "test"},
            "image": {"size": 32, "mirror": True},
            "classes": ["a", "b"],
            "limit": 5_000_000,
        }
    )


def explode(recipe, competition, how):
    """Fail in a worker process."""
    if how == "sleep":
        time.sleep(60)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("a fault\nof ours")


def interrupted(recipe, competition):
    """Receive Ctrl-C in a worker process, as all processes of a terminal do."""
    os.kill(os.getpid(), signal.SIGINT)
    return "done"


def test_ctrl_c_is_for_the_command_alone():
    assert in_own_process(interrupted, load_recipe("tiny"), DIGITS, patience=60.0) == "done"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("kill", "too large: its process was killed, for memory most likely"),
        ("fault", "ValueError: a fault"),
        ("sleep", "too slow: not done in 2 seconds"),
    ],
)
def test_why_work_in_a_process_came_to_nothing_is_told(how, reason):
    with pytest.raises(Failed) as failed:
        in_own_process(explode, load_recipe("tiny"), DIGITS, how, patience=2.0 if how == "sleep" else 60.0)
    assert str(failed.value) == reason


def test_the_start_of_a_process_is_part_of_the_patience(monkeypatch):
    own_process.wait_for_server()
    started, begin = [], ForkServerProcess.start

    def slowly(process):
        time.sleep(3)
        begin(process)
        started.append(time.monotonic())

    monkeypatch.setattr(ForkServerProcess, "start", slowly)
    with pytest.raises(Failed, match="too slow: not done in 3 seconds"):
        in_own_process(explode, load_recipe("tiny"), DIGITS, "sleep", patience=3.0)
    assert time.monotonic() - started[0] < 2


def test_candidates_have_their_time_to_be_measured_however_long_the_fork_server_takes(folders, monkeypatch):
    patiences, now = [], [time.monotonic()]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(auto, "start_server", lambda: None)
    monkeypatch.setattr(auto, "wait_for_server", lambda: now.__setitem__(0, now[0] + 25))
    monkeypatch.setattr(costs, "measure", lambda *what: patiences.append(what[-1]) or refuse("too slow"))
    with pytest.raises(UserError, match="no network that can be trained"):
        auto.plan(folders, 1, now[0], Machine("cpu", 1))
    assert patiences[0] == 30.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("no such thing\nsay another"), "no such thing"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 GB"), "too large: "),
        (RuntimeError("CUDA out of memory. Tried to allocate 8 GiB"), "too large: "),
        (MemoryError(), "too large: "),
        (RuntimeError("expected scalar type Float"), "RuntimeError: expected scalar type Float"),
    ],
)
def test_only_what_memory_lacks_is_called_too_large(error, reason):
    assert own_process._reason(error).startswith(reason)


def test_a_fault_of_one_candidate_does_not_end_the_plan(monkeypatch):
    def measure(recipe, seen, machine, patience):
        if is_wide(recipe):
            raise Failed("ValueError: a fault")
        return Cost(0.01, 1e-4, 10**9)

    monkeypatch.setattr(costs, "measure", measure)
    refused = []
    clock = Clock(time.monotonic(), 300, math.inf)
    measured = measuring.measured_within(list(from_scratch(TASK)), DIGITS, clock, Machine("cpu", 1), refused)
    assert len(measured) == 2
    assert refused == ["fast net, wide at 8 px: ValueError: a fault"]


def test_measuring_ends_in_its_part_of_the_time(monkeypatch):
    """No candidate is started that would not finish, and none is waited for beyond the time left."""
    now, patiences = [1000.0], []
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])

    def measure(recipe, seen, machine, patience):
        patiences.append(patience)
        now[0] += 25
        return Cost(0.01, 1e-4, 10**9)

    monkeypatch.setattr(costs, "measure", measure)
    refused = []
    measured = measuring.measured_within(
        list(from_scratch(TASK)), DIGITS, Clock(1000.0, 300, 1100.0), Machine("cpu", 1), refused
    )
    assert len(measured) == 2
    assert patiences == [100.0, 35.0]
    assert refused == ["fast net, wide at 8 px: not measured, for lack of time"]


def test_measuring_tells_every_minute_how_far_it_is(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])
    for _ in measuring.telling(list(from_scratch(TASK))):
        now[0] += 40
    assert capsys.readouterr().out == "  measured: 2 of 3\n"


def test_a_size_that_there_is_no_time_to_measure_is_estimated_by_another(monkeypatch):
    """In proportion to the pixels, slightly more for larger sizes; networks never measured are left out."""
    now = [1000.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])

    def measure(recipe, seen, machine, patience):
        now[0] += 25
        return Cost(0.1, 1e-3, 10**9)

    monkeypatch.setattr(costs, "measure", measure)
    refused = []
    facts = replace(TASK, side=200)
    clock = Clock(1000.0, 275, 1133.0)
    measured = measuring.measured_within(list(from_scratch(facts)), DIGITS, clock, Machine("cpu", 1), refused)
    assert [(one.candidate.title, one.by_size) for one in measured[:2]] == [
        ("fast net, narrow at 32 px", None), ("fast net at 32 px", None)
    ]  # fmt: skip
    others = {one.candidate.title: one for one in measured[2:]}
    assert {one.by_size for one in others.values()} == {32}
    assert not [title for title in others if "wide" in title]
    assert others["fast net at 64 px"].cost == Cost(0.1 * 4 * 1.2, 1e-3 * 4 * 1.2, 4 * 10**9)
    assert Cost(0.1, 1e-3, 10**9).at(16, 32) == Cost(0.025, 0.25e-3, 10**9)
    assert refused == ["fast net, wide at 32, 64, 96, 128 px: not measured, for lack of time"]
    assert "(by its time at 32 px)" in make(facts, DIGITS, measured[2:], 4000, MADE_UP, Findings()).best.line


def test_a_size_chosen_by_an_estimate_is_measured_before_it_is_trained(monkeypatch):
    facts, now = replace(TASK, side=64), time.monotonic()
    candidates = {one.size: one for one in from_scratch(facts) if one.name == "fast net, narrow"}
    small = MeasuredCandidate(candidates[32], 500_000, Cost(0.1, 1e-3, 10**9))
    large = costs.estimated(candidates[64], 500_000, [small])
    planned = make(facts, DIGITS, [large], 4000, MADE_UP, Findings())
    clock = Clock(now, 600, now + 200)
    assert measuring.estimated_choice(planned, [small, large], clock) is large
    short_of_time = [Clock(now, 100, now + 200), Clock(now, 600, now + 5)]
    assert [measuring.estimated_choice(planned, [small, large], short) for short in short_of_time] == [None, None]
    monkeypatch.setattr(costs, "measure", lambda *args: Cost(0.3, 2e-3, 10**9))
    own = measuring.at_its_own_size(large, DIGITS, clock, Machine("cpu", 1), [])
    assert (own.cost.step, own.by_size) == (0.3, None)
    assert (
        measuring.estimated_choice(make(facts, DIGITS, [own], 4000, MADE_UP, Findings()), [small, own], clock) is None
    )

    def no_memory(*args):
        raise own_process.Failed("too large")

    refused = []
    monkeypatch.setattr(costs, "measure", no_memory)
    assert measuring.at_its_own_size(large, DIGITS, clock, Machine("cpu", 1), refused) is None
    assert refused == ["fast net, narrow at 64 px: too large"]


@pytest.mark.parametrize("minutes", [20, 100])  # a tenth of it, and the two minutes that a candidate has, are too short
def test_no_time_is_spent_on_a_size_that_could_not_be_measured_in_what_is_left(minutes, monkeypatch):
    now, asked = [1000.0], []
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])

    def measure(recipe, seen, machine, patience):
        asked.append((recipe.model.name, seen.image.size))
        now[0] += 6
        return Cost(6.0, 1e-3, 10**9)

    monkeypatch.setattr(costs, "measure", measure)
    clock = Clock(1000.0, 60 * minutes, 1000.0 + 20 * minutes)
    measured = measuring.measured_within(
        list(from_scratch(replace(TASK, side=64))), DIGITS, clock, Machine("cpu", 1), []
    )
    assert {size for _, size in asked} == {32}  # at 64 px six steps would take 173 seconds
    assert [one.by_size for one in measured] == [None] * 3 + [32] * 3


def test_a_large_batch_is_measured_in_the_parts_that_a_run_would_have(monkeypatch):
    monkeypatch.setattr(Runtime, "free_memory", lambda self: 3_000_000_000)
    recipe = load_recipe("fastnet94", ["train.batch_size=1024", "image.size=64"])
    seen = DIGITS.seen_by(recipe)
    cut = within_memory(recipe, seen, make_runtime("cpu", recipe.train.precision))
    assert cut.train.accumulate > 1
    taken = []
    monkeypatch.setattr(
        "featherweight.training.trainer.Trainer.__init__", lambda self, recipe, *rest: taken.append(recipe) or refuse()
    )
    with pytest.raises(Failed):
        costs._measured(recipe, seen, Machine("cpu", 1))
    assert taken[0].train.accumulate == cut.train.accumulate


def test_noise_in_place_of_photographs_is_cut_from_larger_pictures():
    image = DIGITS.image.model_copy(update={"size": 32, "store": 48, "channels": 3})
    noise = costs.pictures_of_noise(6, image)
    assert noise.shape == (6, 32, 32, 3)
    assert noise.whole(np.arange(6))[0].shape == (6, 48, 64, 3)
    assert np.asarray(noise[:2]).std() > 20


@pytest.mark.parametrize(("epochs", "every", "looks"), [(9, 1, 9), (10, 1, 10), (11, 2, 6), (19, 2, 10), (400, 40, 10)])
def test_the_holdout_is_evaluated_ten_times_at_most(epochs, every, looks):
    settings = next(from_scratch(TASK)).settings(epochs)
    assert f"train.evaluate_every={every}" in settings
    assert evaluations(0, epochs, every) == looks


def test_another_plan_does_not_take_the_place_of_one_that_is_there(home):
    first, other = plan(60), plan(60, mirror=False)
    stored = [write(made, "auto1m", "digits") for made in (first, first, other, other, first)]
    assert [path.name for path in stored] == [f"auto1m{number}.yaml" for number in ("", "", "-2", "-2", "")]


@pytest.mark.parametrize(("seconds", "fits"), [(100, False), (260, True)])
def test_a_probe_that_takes_longer_than_there_is_time_is_refused(seconds, fits):
    measured = [
        MeasuredCandidate(next(fine_tuned(TASK)), 3_400_000, Cost(5.0, 0.05, 10**9))
    ]  # 66 s of probe, 96 s of looks
    if fits:
        assert make(TASK, DIGITS, measured, seconds, MADE_UP_TUNED, Findings()).best.epochs == 0
    else:
        with pytest.raises(UserError, match="nothing can be trained"):
            make(TASK, DIGITS, measured, seconds, MADE_UP_TUNED, Findings())


def test_where_nothing_could_be_measured_the_reasons_are_told(folders, monkeypatch):
    monkeypatch.setattr(costs, "measure", lambda *what: refuse("ValueError: a fault"))
    with pytest.raises(UserError, match=r"no network that can be trained.*\n  fast net.*: ValueError: a fault"):
        auto.plan(folders, 5, time.monotonic(), Machine("cpu", 1))


def test_a_plan_tells_the_disk_that_it_needs_and_the_time_that_it_leaves():
    small = plan(36_000, cost=lambda recipe: Cost(0.001, 1e-4, 10**9, checkpoint=500_000_000)).lines()
    assert any("; disk: 1,000 MB" in line for line in small)  # a new checkpoint beside the old one
    assert any(re.search(r"^  9\.\d hours are left unused", line) for line in small)
    assert not any("unused" in line for line in plan(60, step=0.1).lines())


def test_a_plan_tells_what_pilots_found():
    made = replace(plan(60), found=["a pilot, fast net at 8 px: left out: it would see 3 images"])
    assert "  a pilot, fast net at 8 px: left out: it would see 3 images" in made.lines()


@pytest.mark.parametrize(("metric", "calibrated"), [("accuracy", 0), ("auc", 0), ("log_loss", 1), ("brier", 1)])
def test_where_a_loss_of_probabilities_is_judged_they_are_calibrated(metric, calibrated):
    judged = DIGITS.model_copy(update={"metric": OneOf(METRICS).validate(metric)})
    measured = [MeasuredCandidate(next(from_scratch(TASK)), 500_000, Cost(0.01, 1e-4, 10**9))]
    assert make(TASK, judged, measured, 100, MADE_UP, Findings()).best.recipe.predict.calibrate == calibrated


def test_where_there_is_no_time_for_the_features_of_mirror_images_a_probe_does_without():
    colour = load_competition("cifar10")
    facts = replace(TASK, images=5000, mirror=True, channels=3, holdout=100, predict=100)
    measured = [MeasuredCandidate(next(fine_tuned(facts)), 3_400_000, Cost(9.0, 0.01, 10**9))]
    options = [make(facts, colour, measured, seconds, MADE_UP_TUNED, Findings()).best for seconds in (100, 200)]
    assert [(option.epochs, option.mirror) for option in options] == [(0, False), (0, True)]


def test_without_a_probe_fine_tuning_is_bold():
    """Too bold costs less than too gentle."""
    assert auto._findings([], [], TASK, []).unlike
    like = replace(pilot(0.03, 0.03, chance=0.5), candidate=next(fine_tuned(TASK)), epochs=0)
    assert not auto._findings([like], [], TASK, []).unlike


def test_after_no_pilot_at_all_photographs_of_many_classes_are_fine_tuned():
    """8,000 photographs in 196 classes and five minutes: the curves expect too much of a fast net at 32 px."""
    facts = replace(TASK, images=7300, classes=196, size=224, side=500, channels=3, pretrained=True, mirror=True)
    measured = [
        MeasuredCandidate(next(from_scratch(facts)), 530_000, Cost(0.4, 5e-4, 10**9)),
        MeasuredCandidate(replace(next(fine_tuned(facts)), fixed=()), 3_600_000, Cost(0.5, 4e-3, 10**9)),
    ]
    findings = auto._findings([], measured, facts, [])
    best = make(facts, DIGITS, measured, 240, Curves(curves.table()), findings).best
    assert best.candidate.starts_published


def test_pixels_of_photographs_are_worth_more_than_those_that_enlarging_makes():
    """A probe on dogs and cats errs by 8.0, 3.3 and 0.7 % at 96, 128, 224 px, on enlarged seedlings by 22 to 17 %."""
    known = Curves(curves.table())

    def gain(side):
        facts = replace(TASK, side=side, size=side, channels=3, pretrained=True)
        small, large = (known.forecast(facts, 3_400_000, 1, size, published=True) for size in (96, 192))
        return float(logit(large.value) - logit(small.value))

    assert gain(300) > 2 * gain(32) > 0
