"""The plan: what is chosen, how long it takes, and what is said of it."""

import math
from dataclasses import replace

import pytest

from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.planning import costs, curves
from featherweight.planning.candidates import batch_size, filling, fine_tuned, from_scratch
from featherweight.planning.costs import Cost, Machine, Measured
from featherweight.planning.curves import Curves, Row
from featherweight.planning.pilots import Loss, Pilot, piloted
from featherweight.planning.plan import MARGIN, Findings, make, weighed
from featherweight.planning.task import Task
from featherweight.training.head import Head

DIGITS = load_competition("digits")
TASK = Task(
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


def level(dataset: str, easy: float) -> list[Row]:
    """Curves of a set on which networks of four times the weight halve the error, as do four times the epochs."""
    return [
        Row(dataset, 2000, 10, 32, 3, parameters, epochs, 4000, easy / (parameters * epochs / 4e6) ** 0.5)
        for parameters in (500_000, 1_000_000, 2_000_000, 4_000_000)
        for epochs in (4, 8, 16, 32)
    ]


MADE_UP = Curves(level("hard", 0.2) + level("easy", 0.05))
MADE_UP_TUNED = Curves([replace(row, published=True) for row in MADE_UP.rows])


def plan(seconds: float, step: float = 0.01, cost=None, **found):
    cost = cost or (lambda recipe: Cost(step, 1e-4, 10**9))
    measured = []
    for candidate in from_scratch(TASK):
        recipe = load_recipe(candidate.recipe, candidate.settings(1))
        parameters = weighed(recipe, DIGITS.seen_by(recipe), candidate.name)
        assert parameters is not None
        measured.append(Measured(candidate, parameters, cost(recipe)))
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
        assert best.timeline.total <= MARGIN * seconds + 12
        assert best.timeline.total + one_more > MARGIN * seconds


def test_of_few_epochs_the_last_is_cut_where_the_time_ends():
    best = plan(60, step=0.5).best
    steps = TASK.images // best.recipe.train.batch_size
    assert 1 < best.epochs < 10
    assert best.epochs % 1
    assert best.recipe.train.steps == round(best.epochs * steps)
    assert best.recipe.train.epochs == int(best.epochs) + 1
    assert MARGIN * 60 - 12 < best.timeline.total <= MARGIN * 60 + 12


def test_a_network_whose_steps_are_dear_is_left_for_one_that_gets_through_more_epochs():
    def cost(recipe):
        dear = recipe.model.name == "fastnet" and max(recipe.model.widths) > 128
        return Cost(2.0 if dear or recipe.model.name == "wrn" else 0.01, 1e-4, 10**9)

    assert plan(120, cost=cost).best.candidate.name == "fast net, narrow"


def test_what_does_not_fit_is_listed_with_the_reason():
    made = plan(40, cost=lambda recipe: Cost(9.0 if recipe.model.name == "wrn" else 0.01, 1e-4, 10**9))
    assert made.refused[0].startswith("WRN-16-4 at 8 px: an epoch takes ")
    assert any("instead of" in line for line in made.lines())


def test_where_mirroring_is_found_to_change_classes_nothing_is_mirrored():
    photos = DIGITS.model_copy(update={"image": DIGITS.image.model_copy(update={"mirror": True})})
    candidate = next(from_scratch(TASK))
    measured = [Measured(candidate, 500_000, Cost(0.01, 1e-4, 10**9))]
    recipes = [
        make(TASK, photos, measured, 100, MADE_UP, Findings(mirror=mirror)).best.recipe.image
        for mirror in (True, False)
    ]
    assert [image and image.mirror for image in recipes] == [None, False]


def test_steps_that_a_pilot_found_slower_are_planned_slower():
    slower, dear = plan(120, step=0.1, slow=2.0).best, plan(120, step=0.2).best
    assert 0 <= slower.epochs - dear.epochs <= 1


def pilot(error: float, mirrored: float, holdout: int = 400) -> Pilot:
    """A pilot that gets the part `mirrored` of its images wrong when they are mirrored."""
    loss = Loss(mirrored - error, (abs(mirrored - error) / holdout) ** 0.5)
    return Pilot(next(from_scratch(TASK)), 500_000, 1000, 3, holdout, error, loss)


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
    assert pilot(error, mirrored).forbids_mirroring(10) is forbidden


def test_a_pilot_of_few_images_does_not_decide_alone():
    assert not pilot(0.2, 0.35, holdout=20).forbids_mirroring(10)


def test_a_pilot_tells_how_hard_the_task_is():
    def forecast(error):
        row = Row("this task", 2000, 10, 32, 3, 500_000, 6, 2000, error)
        return MADE_UP.and_pilots([row]).forecast(task, 2_000_000, 16, 32)

    task = Task(2000, 200, 500, 10, 200, 32, 32, 3, True, False)
    easy, hard, unknown = forecast(0.02), forecast(0.6), MADE_UP.forecast(task, 2_000_000, 16, 32)
    assert hard.value < unknown.value < easy.value
    assert width(hard) < width(unknown)


def width(forecast) -> float:
    """Of its range, in logits."""
    return math.log(forecast.high / (1 - forecast.high)) - math.log(forecast.low / (1 - forecast.low))


def test_a_forecast_is_surer_near_its_pilot_than_far_from_it():
    task = Task(2000, 200, 500, 10, 200, 32, 32, 3, True, False)
    curves = MADE_UP.and_pilots([Row("this task", 2000, 10, 32, 3, 500_000, 4, 2000, 0.2)])
    widths = [width(curves.forecast(task, 500_000, epochs, 32)) for epochs in (4, 16, 64, 256)]
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]


def test_photographs_are_fine_tuned_at_real_sizes_and_small_images_enlarged():
    photos = Task(1500, 150, 500, 2, 700, 128, 300, 3, True, True)  # whatever size their competition's file gives them
    small = Task(1500, 150, 500, 2, 700, 32, 32, 3, True, True)
    assert {candidate.size for candidate in fine_tuned(photos)} == {128, 160, 224}
    assert {candidate.size for candidate in fine_tuned(replace(photos, images=30_000))} == {96, 128, 160, 224}
    assert {candidate.size for candidate in fine_tuned(small)} == {96, 128}
    several = next(fine_tuned(replace(photos, several=True)))
    assert load_recipe(several.recipe, several.settings(2)).head == Head(start="random", epochs=1)
    probe = next(fine_tuned(photos))
    recipe = load_recipe(probe.recipe, probe.settings(0))
    assert (recipe.train.epochs, recipe.head.start, recipe.ship) == (0, "probe", "raw")


def test_too_little_time_is_refused_in_words():
    with pytest.raises(UserError, match=r"nothing can be trained in 15 seconds; give it more time\n.*an epoch takes"):
        plan(15, step=1.0)


def test_small_sets_get_small_batches_and_large_ones_the_largest():
    assert [batch_size(images) for images in (100, 200, 500, 1000)] == [32, 64, 128, 256]


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
    task = Task(1500, 150, 500, 2, 700, 224, side, 3, True, False)
    assert {candidate.size for candidate in from_scratch(task)} == sizes
    assert all("image.size=" in " ".join(candidate.settings(3)) for candidate in from_scratch(task))


def test_images_unlike_those_of_the_pretrained_weights_are_fine_tuned_boldly():
    photos = Task(3000, 300, 500, 2, 1500, 64, 64, 3, mirror=True, pretrained=True)
    candidate = next(fine_tuned(photos))
    measured = [Measured(candidate, 3_400_000, Cost(0.1, 1e-4, 10**9))]
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
    counts = [weighed(load_recipe(one.recipe, one.settings(1)), small, one.name) for one in found]
    assert [0.9 * part < count <= part for count, part in zip(counts, (limit, limit / 4), strict=True)] == [True, True]


def test_with_thousands_of_classes_there_are_networks_that_fill_the_limit():
    many = DIGITS.model_copy(update={"classes": [f"c{index}" for index in range(3000)]})
    limited = many.model_copy(update={"limit": many.limit.model_copy(update={"parameters": 5_000_000})})
    counts = [weighed(load_recipe(one.recipe, one.settings(1)), limited, one.name) for one in filling(TASK, limited)]
    assert [0.9 * part < count <= part for count, part in zip(counts, (5e6, 1.25e6), strict=True)] == [True, True]


def test_under_the_usual_limit_the_usual_networks_are_enough():
    assert not list(filling(TASK, DIGITS))


def test_curves_learn_what_holds_within_every_set():
    """Not what one set is easier than the other: that is what a forecast is unsure of."""
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
        [] if error is None else [Row("", 700, classes, side, 3, 500_000, 0 if published else 3, 500, error, published)]
    )
    known = Curves(curves.table()).and_pilots(pilots)

    def value(images=3000, parameters=2_000_000, epochs=12.0, size=64):
        task = Task(images, 300, 500, classes, 1, side, side, 3, True, True)
        return known.forecast(task, parameters, epochs, size, published).value

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
    assert 0 < cost.step < 60
    assert 0 < cost.view < 1
    assert cost.memory > 50e6


def test_the_command_plans_and_stores_a_recipe(command, home):
    done = command("auto", "--minutes", "2", "--plan", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "the plan: " in done.stdout
    assert (home / "plans" / "digits" / "auto2m.yaml").is_file()
    assert done.stdout.splitlines()[-1].startswith("next: ./run.sh ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give --minutes 20 or --hours 8"),
        (["--minutes", "5", "--hours", "1"], "give --minutes 20 or --hours 8"),
        (["--minutes", "0.2"], "expected 1 or more"),
        (["--minutes", "-3"], "expected a time over 0"),
        (["--minutes", "nan"], "expected a time over 0"),
        (["--hours", "1e9"], "expected a time over 0"),
    ],
)
def test_odd_times_are_refused(words, complaint, home, capsys):
    from featherweight.cli.main import main

    assert main(["auto", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_a_pilot_on_digits_finds_that_mirrored_ones_are_others():
    candidate = next(from_scratch(TASK))
    cost = Cost(0.02, 1e-3, 10**9)
    pilot = piloted(Measured(candidate, 493_224, cost), TASK, DIGITS, 60.0, Machine("cpu", 1))
    assert pilot is not None
    assert pilot.images == TASK.images
    assert pilot.error < 0.3 < pilot.error + pilot.mirrored.more
    assert pilot.forbids_mirroring(10)
    assert pilot.slow > 0


def test_a_pilot_without_time_is_none():
    candidate = next(from_scratch(TASK))
    assert piloted(Measured(candidate, 493_224, Cost(1.0, 1.0, 10**9)), TASK, DIGITS, 5.0, Machine("cpu", 1)) is None


@pytest.mark.parametrize(("seconds", "fits"), [(100, False), (260, True)])
def test_a_probe_that_takes_longer_than_there_is_time_is_refused(seconds, fits):
    measured = [Measured(next(fine_tuned(TASK)), 3_400_000, Cost(5.0, 0.05, 10**9))]  # 64 s of probe, 96 s of looks
    if fits:
        assert make(TASK, DIGITS, measured, seconds, MADE_UP_TUNED, Findings()).best.epochs == 0
    else:
        with pytest.raises(UserError, match="nothing can be trained"):
            make(TASK, DIGITS, measured, seconds, MADE_UP_TUNED, Findings())
