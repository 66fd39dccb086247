import functools
import hashlib
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime import device
from featherweight.runtime.device import make_runtime
from featherweight.training import checkpoint
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

RECIPE = {
    "model": {"name": "wrn", "depth": 10, "width": 0.25, "dropout": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "augment": ["crop", "flip"],
    "train": {"epochs": 3, "batch_size": 16, "checkpoint_seconds": 0},
}


def pack(n: int, seed: int) -> Pack:
    """Make images of two classes, with a different half bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 100, (n, 8, 8, 1))
    images[labels == 1, :4] += 150
    images[labels == 0, 4:] += 150
    return Pack([str(i) for i in range(n)], images.astype(np.uint8), labels.astype(np.int64))


def train(folder, **changes):
    recipe = Recipe.model_validate({**RECIPE, **changes})
    folder.mkdir(exist_ok=True)
    device = make_runtime("cpu", recipe.train.precision)
    torch.manual_seed(recipe.seed)
    model = build(recipe.model, Shape(2, 1, 8))
    examples = Examples(pack(100, 0), pack(40, 1), 2, recipe.augment)
    history = Trainer(recipe, model, examples, device, folder).fit()
    checkpoint.save_weights(folder / "weights", model)
    return history, hashlib.sha256((folder / "weights").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Train once without a change or a stop; return the curve and the hash of the weights."""
    return train(tmp_path_factory.mktemp("whole") / "run")


def test_it_learns(tmp_path):
    history, _ = train(tmp_path / "run", train={"epochs": 6, "batch_size": 16}, augment=[])
    assert history["holdout_accuracy"].iloc[-1] == 1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2
    assert history["step"].tolist() == [6, 12, 18, 24, 30, 36]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, uninterrupted):
    same, other = (train(tmp_path / f"run{seed}", seed=seed)[1] for seed in (0, 1))
    assert same == uninterrupted[1] != other


def test_stopped_during_the_last_evaluation_it_stops(tmp_path, monkeypatch, uninterrupted):
    """No later step could notice the stop."""
    _, whole = uninterrupted
    epoch_row = Trainer.epoch_row

    def interrupted(self):
        if len(self.state.history) + 1 == self.length.epochs:
            os.kill(os.getpid(), signal.SIGINT)
        return epoch_row(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch_row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped")
    assert train(tmp_path / "stopped")[1] == whole


@pytest.mark.parametrize("stop_at", [1, 6, 11, 18])
def test_stopped_at_any_step_it_ends_in_the_same_bytes(tmp_path, monkeypatch, stop_at, uninterrupted):
    """In the middle of an epoch, at its last step before the evaluation, and after the very last step."""
    curve, whole = uninterrupted
    real, steps = Trainer.step_on, 0

    def step(*arguments):
        nonlocal steps
        steps += 1
        if steps == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(Trainer, "step_on", step)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    monkeypatch.setattr(Trainer, "step_on", real)
    history, resumed = train(tmp_path / "cut")
    assert resumed == whole
    assert not history["holdout_accuracy"].isna().any()
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), curve.drop(columns="seconds"))


@pytest.mark.slow
def test_a_compiled_run_saves_plain_names_and_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """With a backend that generates no code, which would take a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    said = {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0, "compile": True}
    whole = train(tmp_path / "whole", train=said, averages=["ema"], ship="ema")[1]
    train(tmp_path / "cut", train={**said, "steps": 8}, averages=["ema"], ship="ema")
    saved = checkpoint.load(tmp_path / "cut" / "checkpoint.pt")
    assert saved["step"] == 8
    assert not [name for name in (*saved["model"], *saved["averages"]["shadows"]["ema"]) if "_orig_mod" in name]
    assert train(tmp_path / "cut", train=said, averages=["ema"], ship="ema")[1] == whole


def test_how_often_it_saves_and_evaluates_changes_nothing(tmp_path, uninterrupted):
    _, often = uninterrupted
    seldom = train(
        tmp_path / "seldom", train={"epochs": 3, "batch_size": 16, "checkpoint_seconds": 999, "evaluate_every": 2}
    )
    assert seldom[1] == often
    assert seldom[0]["holdout_accuracy"].isna().tolist() == [True, False, False]


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path):
    with pytest.raises(
        UserError, match=r"the loss became (nan|inf) at step \d+ \(epoch \d\) with a learning rate of 1e\+25"
    ):
        train(tmp_path / "run", optimizer={"name": "sgd", "lr": 1e25})
    saved = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert saved["step"] > 0
    assert saved["losses"].isfinite().all()


def test_a_warm_up_as_long_as_the_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="warmup: its 12 steps leave the schedule none of the run's 10"):
        train(tmp_path / "run", warmup={"epochs": 2}, train={"epochs": 3, "batch_size": 16, "steps": 10})


def test_an_average_that_never_began_does_not_ship_unsaid(tmp_path, capsys):
    average = {"averages": ["swa"], "ship": "swa"}
    _, raw = train(tmp_path / "raw", train={"epochs": 1, "batch_size": 16, "steps": 3})
    _, shipped = train(tmp_path / "swa", train={"epochs": 1, "batch_size": 16, "steps": 3}, **average)
    assert raw == shipped
    assert "ship: swa had not begun when the run ended, so the raw weights are shipped" in capsys.readouterr().out


def test_bf16_trains_on_the_cpu_and_fp16_is_refused(tmp_path):
    history, _ = train(tmp_path / "run", train={"epochs": 1, "batch_size": 16, "precision": "bf16"})
    assert np.isfinite(history["train_loss"]).all()
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        make_runtime("cpu", "fp16")


def test_the_gain_of_bf16_is_a_measured_ratio_and_0_without_instructions(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert 0.001 < device.bf16_gain.__wrapped__() < 100
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert device.bf16_gain.__wrapped__() == 0


def test_it_runs_outside_the_main_thread(tmp_path):
    """Notebooks and web servers use threads, which cannot handle signals."""
    done = []
    thread = threading.Thread(target=lambda: done.append(train(tmp_path / "run")))
    thread.start()
    thread.join()
    assert len(done) == 1


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device cuda:99: not a device of this machine"):
        make_runtime("cuda:99")
    with pytest.raises(UserError, match="--device gpu: not a device of this machine"):
        make_runtime("gpu")


def test_an_operation_that_a_device_cannot_repeat_is_told(tmp_path, monkeypatch):
    """CUDA raises this in the first backward pass; here it is simulated."""
    words = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set ..."

    def step(*arguments):
        raise RuntimeError(words)

    monkeypatch.setattr(Trainer, "step_on", step)
    with pytest.raises(UserError, match=r"adaptive_avg_pool2d_backward_cuda has no deterministic.*--device cpu"):
        train(tmp_path / "run")
    words = "out of paper"
    with pytest.raises(RuntimeError, match="out of paper"):
        train(tmp_path / "other")


def test_the_last_line_says_that_the_score_is_without_views(tmp_path, capsys):
    train(tmp_path / "run", train={"epochs": 1, "batch_size": 16}, predict={"views": ["flip"]})
    assert "(without the test-time views)" in capsys.readouterr().out
    train(tmp_path / "plain", train={"epochs": 1, "batch_size": 16})
    assert "views" not in capsys.readouterr().out
