"""A training on a machine that gets slower ends in time, and its recipe says how it was shortened."""

import hashlib
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runs.run import Run
from featherweight.runtime.device import make_runtime
from featherweight.training import checkpoint, deadline, trainer
from featherweight.training.deadline import Deadline, evaluations
from featherweight.training.examples import Examples
from featherweight.training.forecast import remaining_area
from featherweight.training.progressive import Progressive
from featherweight.training.trainer import Trainer

RECIPE = {
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": "cosine",
    "warmup": {"fraction": 0.1},
    "augment": ["crop", "flip"],
    "averages": [{"name": "ema", "decay": 0.9}],
    "ship": "ema",
    "train": {"epochs": 10, "batch_size": 16, "checkpoint_seconds": 0},  # 60 steps
}


class Clock:
    """A simulated clock; each training step advances it by `seconds(step)`."""

    def __init__(self, monkeypatch, seconds):
        self.now = 0.0
        monkeypatch.setattr(deadline.time, "monotonic", lambda: self.now)
        step_on = Trainer.step_on

        def slow(trainer, batch):
            self.now += seconds(trainer.state.step)
            return step_on(trainer, batch)

        monkeypatch.setattr(Trainer, "step_on", slow)


def train(folder, ends=None, stop_at=None, shortened=(), monkeypatch=None, **changes):
    """Train; return the number of steps and the hash of the weights."""
    recipe = Recipe.model_validate({**RECIPE, **changes})
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"shortened": list(shortened)})})
    folder.mkdir(exist_ok=True)
    labels = np.arange(96) % 2
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 1)).astype(np.uint8)
    pack = Pack([str(i) for i in range(96)], images, labels.astype(np.int64))
    runtime = make_runtime("cpu", recipe.train.precision)
    torch.manual_seed(recipe.seed)
    model = build(recipe.model, Shape(2, 1, 8))
    history = Trainer(recipe, model, Examples(pack, pack, 2, recipe.augment), runtime, folder).fit(deadline=ends)
    checkpoint.save_weights(folder / "weights", model)
    return history["step"].iloc[-1], hashlib.sha256((folder / "weights").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("seconds", "latest"),
    [
        (lambda step: 4.0, 1.02),  # four times slower than planned from the first step on
        (lambda step: 1.0 if step < 30 else 2.0, 1.10),  # slower from half of it on
        (lambda step: 1.0 + step / 20, 1.05),  # slower all the time
        (lambda step: 1.0 if step < 50 else 2.0, 1.10),  # in the end
    ],
)
def test_a_slow_machine_ends_in_time_and_the_recipe_gives_the_same_bytes(tmp_path, monkeypatch, seconds, latest):
    notes = []
    with monkeypatch.context() as patch:
        clock = Clock(patch, seconds)
        ends = Deadline(0.0, 80.0, after=10.0, step=1.0, noted=lambda *note: notes.append(note))
        steps, weights = train(tmp_path / "late", ends)
    assert steps < 60
    assert clock.now + 10.0 * seconds(int(steps)) <= 80 * latest
    assert notes[-1][1] == steps
    assert train(tmp_path / "again", shortened=notes) == (steps, weights)


@pytest.mark.parametrize(("seconds", "why"), [(1.0, "later than planned"), (1.3, "this machine has become slower")])
def test_why_a_run_is_shortened_is_said(tmp_path, monkeypatch, capsys, seconds, why):
    Clock(monkeypatch, lambda step: seconds)
    train(tmp_path, Deadline(-20.0, 71.0, after=10.0, step=1.0))  # 20 seconds were lost before the training
    assert f"  {why}: the run is shortened from 60 to " in capsys.readouterr().out


def test_a_machine_as_fast_as_planned_trains_to_the_end(tmp_path, monkeypatch):
    Clock(monkeypatch, lambda step: 1.0)
    ends = Deadline(0.0, 71.0, after=10.0, step=1.0, noted=pytest.fail)
    assert train(tmp_path, ends)[0] == 60


def test_a_short_pause_shortens_less_than_it_took_of_the_time(tmp_path, monkeypatch):
    Clock(monkeypatch, lambda step: 5.0 if step == 20 else 1.0)
    assert 50 <= train(tmp_path, Deadline(0.0, 72.0, after=10.0, step=1.0))[0] <= 60


def test_evaluations_that_are_to_come_are_counted(tmp_path, monkeypatch):
    """Each takes as long as three steps: 60 steps and 5 evaluations take 75 seconds, and only 56 are left."""
    clock = Clock(monkeypatch, lambda step: 1.0)
    predict = trainer.predict_probs

    def evaluated(*asked, **more):
        clock.now += 3.0
        return predict(*asked, **more)

    monkeypatch.setattr(trainer, "predict_probs", evaluated)
    settings = {**RECIPE["train"], "evaluate_every": 2}
    steps, _ = train(tmp_path, Deadline(0.0, 66.0, after=10.0, step=1.0, evaluation=3.0), train=settings)
    assert 40 <= steps <= 45
    assert clock.now + 10.0 <= 66.0 * 1.02


@pytest.mark.parametrize(("step", "left"), [(0, 5), (11, 5), (12, 5), (13, 4), (54, 1), (55, 1), (60, 1)])
def test_after_the_last_step_of_an_epoch_its_evaluation_is_still_to_come(step, left):
    assert evaluations(step, 10, 2, 6) == left


def test_however_late_one_more_step_is_done(tmp_path, monkeypatch):
    Clock(monkeypatch, lambda step: 100.0)
    assert train(tmp_path, Deadline(0.0, 20.0, after=10.0, step=1.0))[0] == 3  # the first says nothing of the rest


@pytest.mark.parametrize("first", [0, 1])
def test_a_slow_beginning_is_not_taken_for_the_rest(tmp_path, monkeypatch, first):
    """The first step of a process takes longer: kernels are chosen and images are copied."""
    Clock(monkeypatch, lambda step: 5.0 if step == first else 1.0)
    assert 50 <= train(tmp_path, Deadline(0.0, 74.0, after=10.0, step=1.0))[0] <= 60


def test_a_shortened_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    notes = [(9, 40), (25, 32)]
    whole = train(tmp_path / "whole", shortened=notes)
    assert whole[0] == 32
    step_on = Trainer.step_on

    def killed(trainer, batch):
        if trainer.state.step == 27:
            os.kill(os.getpid(), signal.SIGINT)
        return step_on(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step_on", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", shortened=notes)
    assert train(tmp_path / "killed", shortened=notes) == whole


def test_smaller_images_cost_less():
    progressive = Progressive(scales=[0.5], until=[0.5])
    assert remaining_area(None, 10, 30) == 20
    assert remaining_area(progressive, 0, 30) == 15 * 0.25 + 15


def test_it_is_noted_in_the_runs_recipe(finished):
    run = Run.find(str(finished / "runs" / "first"))
    kept = (run.folder / "recipe.yaml").read_text()
    try:
        run.note_shortened(5, 20)
        run.note_shortened(7, 15)
        again = Run.find(str(run.folder)).recipe
        assert again.train.shortened == [(5, 20), (7, 15)]
        assert replace(run, recipe=again).recipe.train.epochs == run.recipe.train.epochs
    finally:
        (run.folder / "recipe.yaml").write_text(kept)
