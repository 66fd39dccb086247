"""What a recipe costs on this machine: a few steps of it, timed in a process of their own."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight.config import Competition, Recipe
from featherweight.console import hushed
from featherweight.planning.candidates import Candidate
from featherweight.planning.own_process import in_own_process
from featherweight.training.forecast import peak_memory

STEPS = 4  # that are timed, after one that is not: the first chooses kernels and fills caches
WARM = 4  # images predicted before the time is taken: the first choose kernels
PATIENCE = 120.0  # seconds for one candidate; what takes longer is far too slow for any plan


@dataclass(frozen=True)
class Machine:
    """What a plan is measured on and trained on: a device by its name, and the threads of a CPU (None: all)."""

    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step and of one image in one test-time view, and the bytes of memory that training adds."""

    step: float
    view: float
    memory: int


@dataclass(frozen=True)
class Measured:
    """A candidate within the limit, its parameters, and what it costs here."""

    candidate: Candidate
    parameters: int
    cost: Cost


def measure(
    recipe: Recipe, competition: Competition, machine: Machine | None = None, patience: float = PATIENCE
) -> Cost | None:
    """What a step and a prediction of this recipe cost here; None for a recipe that is too slow or does not fit.

    The images are noise of the competition's size, since a step takes as long whatever it sees.
    """
    return in_own_process(_measured, recipe, competition, machine or Machine(), patience=min(patience, PATIENCE))


def _measured(recipe: Recipe, competition: Competition, machine: Machine) -> Cost:
    """The cost, measured in this process."""
    import torch

    from featherweight.data.pack import Pack
    from featherweight.evaluation.inference import batch_within_memory, predict_probs
    from featherweight.models import build
    from featherweight.runtime.device import start
    from featherweight.training.examples import Examples
    from featherweight.training.head import Head
    from featherweight.training.trainer import Trainer

    device = start(machine.device, recipe.train.precision, machine.threads)
    shape, batch = competition.shape, recipe.train.batch_size
    noise = np.random.default_rng(0).integers(0, 256, (batch, shape.size, shape.size, shape.channels), dtype=np.uint8)
    images = Pack([str(index) for index in range(batch)], noise, np.arange(batch) % shape.num_classes)
    train = {"epochs": STEPS + 1, "steps": None, "evaluate_every": STEPS + 1, "checkpoint_seconds": math.inf}
    plain = {"warmup": None, "early_stopping": None, "head": Head()}
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update=train), **plain})
    before = peak_memory()
    torch.manual_seed(0)
    model = build(recipe.model, shape)
    with tempfile.TemporaryDirectory() as folder, hushed():
        examples = Examples(images, images.take(np.arange(1)), shape.num_classes, recipe.augment)
        seconds = Trainer(short, model, examples, device, Path(folder)).fit()["seconds"].diff().iloc[1:]
    size = batch_within_memory(recipe.predict.batch_size, shape.size, shape.size, device)
    whole = np.resize(noise, (size, *noise.shape[1:]))  # a whole batch, whose memory is a run's
    predict_probs([model], whole[:WARM], runtime=device, batch_size=size)
    began = time.perf_counter()
    predict_probs([model], whole, runtime=device, batch_size=size)
    view = (time.perf_counter() - began) / size
    return Cost(float(statistics.median(seconds)), view, peak_memory() - before)
