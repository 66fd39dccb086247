"""The forecast of its own length that a training prints after the first steps."""

import pytest
import torch
from torch import nn

from featherweight.training.forecast import TimeForecast, forward_share
from featherweight.training.progressive import Progressive


def lines(forecast: TimeForecast, seconds_of_a_step: float, steps: int = 8, evaluations: int = 1) -> list[str]:
    times = [(step, step * seconds_of_a_step) for step in range(1, steps + 1)]
    return [forecast.line(step, seconds, evaluations, lambda: 8_000_000) for step, seconds in times]


def test_it_is_said_once_from_steps_after_the_first():
    said = lines(TimeForecast(1000, None), 2.0)
    assert [bool(line) for line in said] == [False, False, False, True, False, False, False, False]
    assert said[3].startswith("  training takes about 33 minutes (996 steps at 2.0 s/step, 1 evaluation), ")
    assert "16 MB of disk" in said[3]
    assert "auto" not in said[3]


def test_quick_steps_are_timed_for_longer_and_short_trainings_say_nothing():
    assert not any(lines(TimeForecast(100, None), 0.01, steps=100))
    said = lines(TimeForecast(100_000, None), 0.01, steps=300)
    assert [step for step, line in enumerate(said, 1) if line] == [201]


def test_over_an_hour_a_plan_for_less_is_offered():
    line = next(filter(None, lines(TimeForecast(20_000, None, "./run.sh auto --minutes 60"), 2.0)))
    assert "about 11.1 hours" in line
    assert line.endswith("; ./run.sh auto --minutes 60 plans one that takes less")
    planned = next(filter(None, lines(TimeForecast(20_000, None), 2.0)))  # within auto, that is no advice
    assert "about 11.1 hours" in planned
    assert "auto" not in planned


def test_steps_on_images_that_grow_become_dearer():
    progressive = Progressive(scales=[0.5], until=[0.5])
    small = next(filter(None, lines(TimeForecast(1000, progressive), 2.0)))
    assert "about 83 minutes" in small  # half of the steps at the price measured, half at four times it


def test_evaluations_of_the_holdout_are_counted():
    forecast = TimeForecast(1000, None, evaluation=10.0)
    line = next(filter(None, lines(forecast, 2.0, evaluations=99)))
    assert "about 66 minutes (996 steps at 2.0 s/step, 99 evaluations)" in line  # 996 steps, and the time of 990 more


@pytest.mark.parametrize(("teachers", "share"), [([], 1 / 3), ([8], 1 / 4), ([8, 8], 1 / 5), ([80], 1 / 13)])
def test_the_more_teachers_compute_the_less_of_a_step_is_an_evaluation(teachers, share):
    """A step is three passes of the model and one of each teacher; an evaluation is one pass of the model."""
    model, *others = (nn.Conv2d(3, width, 3) for width in (8, *teachers))
    assert forward_share(model, others, torch.zeros(1, 3, 9, 9)) == pytest.approx(share)
