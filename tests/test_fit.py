"""Whole runs with the options that have their own state: what ships, when they stop, and that they resume."""

import functools
import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import METRICS, score_of
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.schema import OneOf
from featherweight.training import checkpoint, trainer
from featherweight.training.early_stopping import evaluate
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

RECIPE = {
    "model": {"name": "wrn", "depth": 10, "width": 0.25, "dropout": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "augment": ["crop", "flip"],
}


def pack(n: int, seed: int) -> Pack:
    """Make images of two classes, with a different half bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 100, (n, 8, 8, 1))
    images[labels == 1, :4] += 150
    images[labels == 0, 4:] += 150
    return Pack([str(i) for i in range(n)], images.astype(np.uint8), labels.astype(np.int64))


def train(folder, epochs=3, metric=None, **changes):
    settings = {"epochs": epochs, "batch_size": 16, "checkpoint_seconds": 0, **changes.pop("train", {})}
    recipe = Recipe.model_validate({**RECIPE, "train": settings, **changes})
    folder.mkdir(exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = build(recipe.model, Shape(2, 1, 8))
    parts, device = (pack(100, 0), pack(40, 1)), make_runtime("cpu")
    examples = Examples(*parts, 2, recipe.augment)
    history = Trainer(recipe, model, examples, device, folder, metric).fit()
    checkpoint.save_weights(folder / "weights", model)
    return history, hashlib.sha256((folder / "weights").read_bytes()).hexdigest()


BALANCED = OneOf(METRICS).validate("balanced_accuracy")
EVERYTHING = {
    "ema": {"averages": ["ema"], "ship": "ema"},
    "swa": {"averages": [{"name": "swa", "start": 0.3}], "ship": "swa"},
    "lookahead, ema and swa": {
        "averages": [{"name": "swa", "start": 0.3}, "lookahead", {"name": "ema", "decay": 0.5}],
        "ship": "lookahead",
    },
    "sam, muon, accumulation": {
        "sam": {"rho": 0.1},
        "optimizer": {"name": "muon", "lr": 0.01},
        "train": {"accumulate": 2, "clip": 1.0, "decay_norms": False, "bias_rate": 8.0},
    },
    "mixing": {"mix": ["mixup", "cutmix"]},
    "progressive": {"progressive": {"scales": [0.5, 0.75], "until": [0.4, 0.6]}},
    "plateau and warm-up": {"schedule": {"name": "plateau", "patience": 0}, "warmup": {"epochs": 1}},
    "early stopping, the best": {"early_stopping": {"patience": 3}, "averages": ["ema"], "ship": "ema"},
    "a last epoch cut short": {"train": {"steps": 15}},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function that trains with some options of EVERYTHING, or with none, each once."""
    folder = tmp_path_factory.mktemp("whole")
    return functools.cache(lambda name: train(folder / str(name), metric=BALANCED, **EVERYTHING.get(name, {})))


@pytest.mark.some(2)
@pytest.mark.parametrize("options", EVERYTHING)
def test_stopped_anywhere_it_ends_in_the_same_bytes(tmp_path, monkeypatch, options, uninterrupted):
    history, whole = uninterrupted(options)
    real, steps = Trainer.step_on, 0
    for stop_at in (4, 9):  # in the first epoch, then again in the second

        def step(*arguments, at=stop_at):
            nonlocal steps
            steps += 1
            if steps == at:
                raise SystemError("killed")  # not asked to stop: killed after the last checkpoint
            return real(*arguments)

        monkeypatch.setattr(Trainer, "step_on", step)
        with pytest.raises(SystemError, match="killed"):
            train(tmp_path / "cut", metric=BALANCED, **EVERYTHING[options])
    monkeypatch.setattr(Trainer, "step_on", real)
    again, resumed = train(tmp_path / "cut", metric=BALANCED, **EVERYTHING[options])
    assert resumed == whole
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), history.drop(columns="seconds"), check_exact=True)


def test_each_option_is_felt(uninterrupted):
    felt = [name for name in EVERYTHING if "early" not in name]  # whose best may well be the last
    hashes = {name: uninterrupted(name)[1] for name in (*felt, None)}
    assert len(set(hashes.values())) == len(hashes)


def test_an_average_that_does_not_ship_changes_nothing(tmp_path, uninterrupted):
    _, plain = uninterrupted(None)
    assert train(tmp_path / "raw", averages=["ema", "swa"], ship="raw")[1] == plain


def test_the_shipped_average_is_what_is_scored(tmp_path):
    """An average that never leaves the initial weights has the same score at every evaluation."""
    frozen = {"name": "lookahead", "alpha": 1e-9, "every": 1000}
    history, _ = train(
        tmp_path / "run", epochs=2, averages=[{"name": "ema", "decay": 0.99999, "warmup": False}], ship="ema"
    )
    assert history["holdout_loss"].tolist() == pytest.approx([math.log(2)] * 2, abs=0.15)
    history, _ = train(tmp_path / "back", epochs=2, averages=[frozen], ship="raw")
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_swa_ships_with_statistics_of_its_own(tmp_path):
    """Statistics of the training images: neither averaged ones nor those of the last weights."""
    train(tmp_path / "run", epochs=4, averages=[{"name": "swa", "start": 0.25}], ship="swa")
    tensors = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    from safetensors.torch import load_file

    shipped = load_file(tmp_path / "run" / "weights")
    last = {name for name in shipped if name.startswith("net.norm.running")}
    assert last
    for name in last:
        assert not torch.equal(shipped[name], tensors["model"][name])
        assert not torch.equal(shipped[name], tensors["averages"]["shadows"]["swa"][name])
    assert shipped["net.norm.num_batches_tracked"] == 6  # one pass


def test_swa_is_scored_as_it_ships(tmp_path):
    """With its own statistics; averaged statistics would be those of other weights."""
    options = {"averages": [{"name": "swa", "start": 0.25}], "ship": "swa"}
    history, _ = train(tmp_path / "run", epochs=4, **options)
    model, holdout = build(Recipe.model_validate({**RECIPE, **options}).model, Shape(2, 1, 8)), pack(40, 1)
    checkpoint.load_weights(tmp_path / "run" / "weights", model)
    probs = predict_probs([model], holdout.images, runtime=make_runtime("cpu"))
    assert evaluate(probs, holdout.labels)["holdout_loss"] == history["holdout_loss"].iloc[-1]


def test_the_best_weights_from_before_an_average_keep_their_statistics(tmp_path, monkeypatch):
    scores = iter([0.9, 0.5, 0.5, 0.5])

    def evaluate(probs, labels):
        return {"holdout_loss": 1.0, "holdout_accuracy": next(scores), "holdout_f1": 0.0}

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    options = {"averages": [{"name": "swa", "start": 0.5}], "ship": "swa", "early_stopping": {"patience": 9}}
    train(tmp_path / "run", epochs=4, **options)
    from safetensors.torch import load_file

    best = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["best"]
    shipped = load_file(tmp_path / "run" / "weights")
    assert all(torch.equal(shipped[name], tensor) for name, tensor in best.items())


def test_statistics_that_are_frozen_are_not_taken_anew_for_an_average(tmp_path):
    """The layers after them were trained with these statistics only."""
    frozen = {"freeze_norms": True}
    train(tmp_path / "run", averages=[{"name": "swa", "start": 0.25}], ship="swa", train=frozen)
    from safetensors.torch import load_file

    shipped = load_file(tmp_path / "run" / "weights")
    assert shipped["net.norm.running_mean"].abs().max() == 0
    assert shipped["net.norm.num_batches_tracked"] == 0


def test_early_stopping_waits_and_restores_the_best(tmp_path):
    """With a learning rate near zero after a few epochs the holdout score cannot improve."""
    options = {"schedule": {"name": "milestones", "at": [2], "factor": 1e-12}, "optimizer": {"name": "sgd", "lr": 0.1}}
    stopping = {"metric": "accuracy", "patience": 3}
    history, _ = train(tmp_path / "run", epochs=30, early_stopping=stopping, **options)
    assert len(history) < 30
    best = history["holdout_accuracy"].max()
    first = int((history["holdout_accuracy"] == best).idxmax())
    assert len(history) == first + 1 + 3

    longer = train(tmp_path / "short", epochs=30, early_stopping={**stopping, "restore": "last"}, **options)
    assert len(longer[0]) == len(history)
    same_length = train(tmp_path / "best", epochs=30, early_stopping=stopping, **options)
    assert same_length[1] != longer[1]


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path, monkeypatch):
    """The score is highest at the second epoch: the run ships the weights of that epoch."""
    scores = iter([0.5, 0.9, 0.6, 0.7, 0.8])

    def evaluate(probs, labels):
        return {"holdout_loss": 1.0, "holdout_accuracy": next(scores), "holdout_f1": 0.0}

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    _, best = train(tmp_path / "best", epochs=9, early_stopping={"patience": 3}, schedule="constant")
    monkeypatch.undo()
    _, second = train(tmp_path / "second", epochs=2, schedule="constant")
    assert best == second


def test_early_stopping_counts_evaluations_not_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(
        trainer, "evaluate", lambda probs, labels: {"holdout_loss": 1.0, "holdout_accuracy": 0.5, "holdout_f1": 0.5}
    )
    history, _ = train(
        tmp_path / "run", epochs=20, train={"evaluate_every": 2}, early_stopping={"metric": "loss", "patience": 2}
    )
    assert len(history) == 6


def test_a_run_of_so_many_steps_stops_there(tmp_path):
    history, _ = train(tmp_path / "run", train={"steps": 15})
    assert history["step"].tolist() == [6, 12, 15]
    assert np.isfinite(history["holdout_loss"]).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"averages": ["ema"]}, "ship: set which weights to use: raw, ema"),
        ({"averages": ["ema"], "ship": "swa"}, "ship: there is no 'swa'; choose one of raw, ema"),
        ({"averages": ["ema", {"name": "ema", "decay": 0.9}], "ship": "ema"}, "averages: each can be used once"),
    ],
)
def test_what_ships_must_be_said(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({**RECIPE, **changes})


@pytest.mark.some(3)
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if "one" in metric.targets])
def test_the_competitions_metric_is_logged_and_may_be_watched(name, tmp_path):
    """The last column is the score of the weights that ship; the schedule and early stopping follow it."""
    metric = OneOf(METRICS).validate(name)
    watched = {"schedule": {"name": "plateau", "metric": "score", "patience": 0, "threshold": 0}}
    stopping = {"metric": "score", "patience": 2, "restore": "last"}
    history, _ = train(tmp_path / "run", metric=metric, epochs=12, early_stopping=stopping, **watched)
    scores = history["holdout_score"].tolist()
    sign = -METRICS[name].sign
    best = min(range(len(scores)), key=lambda place: (sign * scores[place], place))
    assert len(history) == min(best + 1 + 2, 12)
    first_bad = next((n for n in range(1, len(scores)) if sign * scores[n] >= min(sign * s for s in scores[:n])), 12)
    if first_bad + 1 < len(scores):
        assert history["lr"][first_bad + 1] == pytest.approx(history["lr"][first_bad] * 0.1)
    if name == "accuracy":
        assert scores == history["holdout_accuracy"].tolist()
    if name == "log_loss":
        assert scores == pytest.approx(history["holdout_loss"].tolist(), rel=1e-3)


@pytest.mark.some(3)
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if "one" in metric.targets])
def test_what_is_trained_on_is_scored_as_the_holdout_is(name, tmp_path, monkeypatch):
    """Over all images of an epoch, as predicted in each step; metrics of probabilities only on the holdout."""
    metric, real, told = OneOf(METRICS).validate(name), Trainer.step_on, []

    def step(*arguments):
        told.append(real(*arguments))
        return told[-1]

    monkeypatch.setattr(Trainer, "step_on", step)
    history, _ = train(tmp_path / "run", metric=metric, epochs=2, mix=["mixup"])
    for epoch, row in enumerate(history.to_dict("records")):
        true, given = torch.cat([answers for _, answers in told[6 * epoch : 6 * epoch + 6]], 1).long().numpy()
        assert row["train_accuracy"] == (true == given).mean()
        assert row["train_f1"] == pytest.approx(f1_score(true, given, average="macro"))
        if METRICS[name].input_kind == "answers":
            assert row["train_score"] == pytest.approx(score_of(metric, given, true, groups=None).value)
    assert history["train_score"].notna().all() == (METRICS[name].input_kind == "answers")
