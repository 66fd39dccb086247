"""The memory of a training step: computed from shapes, compared with the free memory, and released."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.budget import memory
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.evaluation.inference import batch_within_memory
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime

CPU = Runtime(torch.device("cpu"))


def test_what_backward_needs_is_counted_by_hand():
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 2))

    image, maps = 3 * 8 * 8 * 4, 4 * 8 * 8 * 4  # bytes: the image for the convolution, the result of the ReLU for all
    assert memory.activation_bytes(make, Shape(2, 3, 8)) == image + maps


def test_a_network_that_asks_for_values_is_not_guessed():
    class Asks(nn.Module):
        def forward(self, x):
            return x * float(x.mean())

    assert memory.activation_bytes(Asks, Shape(2, 3, 8)) is None


def large(free, monkeypatch, **train):
    recipe = load_recipe("fastnet94", ["image.size=64", *(f"train.{key}={value}" for key, value in train.items())])
    monkeypatch.setattr(Runtime, "free_memory", lambda self: int(free))
    return memory.within_memory(recipe, load_competition("cifar10").seen_by(recipe), CPU)


def test_a_batch_that_fits_is_left_alone(monkeypatch):
    assert large(1e12, monkeypatch).train.accumulate == 1


def test_a_batch_that_does_not_fit_is_cut_into_parts_and_that_is_said(monkeypatch, capsys):
    recipe = large(2.3e9, monkeypatch, batch_size=512)
    assert recipe.train.accumulate in (4, 8, 16)
    assert recipe.train.batch_size == 512
    assert f"train.accumulate: {recipe.train.accumulate}" in capsys.readouterr().out


def test_where_batch_norms_are_frozen_a_cpu_cuts_a_large_batch_whatever_is_free(monkeypatch, capsys):
    free, frozen = 1e12, {"batch_size": 512, "freeze_norms": "true"}
    cut = large(free, monkeypatch, **frozen)
    assert cut.train.accumulate in (2, 4)
    assert cut.train == large(2 * free, monkeypatch, **frozen).train
    assert "and nothing is lost, since batch norms are frozen" in capsys.readouterr().out
    assert large(free, monkeypatch, batch_size=512).train.accumulate == 1
    monkeypatch.setattr(memory, "AT_ONCE", 0)
    assert large(free, monkeypatch, batch_size=32, freeze_norms="true").train.accumulate == 1  # small enough by itself


def test_what_no_cutting_makes_fit_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"choose a smaller image\.size, train\.batch_size or model"):
        large(5e8, monkeypatch)
    with pytest.raises(UserError, match="even with 2 of 65536 images at a time"):  # their own pixels: 13 GB
        large(1e10, monkeypatch, batch_size=65536)
    assert large(3e10, monkeypatch, batch_size=65536).train.accumulate > 1


def test_what_the_user_has_cut_is_not_cut_less(monkeypatch):
    assert large(1e12, monkeypatch, accumulate=4).train.accumulate == 4


@pytest.mark.parametrize(("size", "batch"), [(32, 256), (64, 256), (96, 64), (128, 64), (224, 16), (1024, 1)])
def test_batches_of_large_images_are_predicted_in_halves(size, batch):
    assert batch_within_memory(256, size, size, CPU) == batch


@pytest.mark.parametrize(("asked", "batch"), [(75, 15), (250, 5), (500, 5), (96, 12), (251, 1), (20, 20), (19, 19)])
def test_a_batch_that_cannot_be_halved_is_cut_to_a_divisor(asked, batch):
    """20 images of 224 px fit."""
    assert batch_within_memory(asked, 224, 224, CPU) == batch


def test_a_gpu_takes_more_at_a_time():
    assert batch_within_memory(256, 224, 224, replace(CPU, device=torch.device("cuda"))) == 256


def test_memory_of_odd_blocks_is_given_back():
    from featherweight.runtime.device import make_runtime

    make_runtime("cpu")  # from here on the process keeps what it frees
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the system does not tell what a process holds")

    def resident():
        return int(statm.read_text().split()[1]) * 4096

    blocks = [torch.ones(2**22 + number) for number in range(32)]  # half a gigabyte
    spare = np.ones(10)  # above them, so that the top of the heap stays
    del blocks
    before = resident()
    CPU.release_memory()
    assert before - resident() > 2**28
    assert spare.sum() == 10
