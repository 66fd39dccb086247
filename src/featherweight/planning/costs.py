"""What a recipe costs on this machine: a few steps of it, timed in a process of their own."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.config import Competition, Recipe
from featherweight.config.short_recipe import short_recipe
from featherweight.console import hushed
from featherweight.data.image import Image
from featherweight.data.mapped_rows import take_rows
from featherweight.data.photos import Photos
from featherweight.planning.candidates import Candidate
from featherweight.planning.own_process import in_own_process
from featherweight.training.forecast import peak_memory

BETWEEN_STEPS = 1.02  # an epoch takes this many times the time of its steps
LARGER = 1.2  # times what its pixels say, a larger size: EfficientNet-Lite0 took 1.15 times that at 224 px, from 128
STEPS = 4  # that are timed, after one that is not: the first chooses kernels and fills caches
PROPORTION = 4 / 3  # of photographs, whose shorter side is stored
WARM = 4  # images predicted before the time is taken: the first choose kernels
PATIENCE = 120.0  # seconds for one candidate; what takes longer is far too slow for any plan


@dataclass(frozen=True)
class Machine:
    """What a plan is measured on and trained on: a device by its name, and the threads of a CPU (None: all)."""

    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step and of one image in one test-time view, and the bytes of memory that training adds:
    the process's, and those of the GPU.
    """

    step: float
    view: float
    memory: int
    on_gpu: int = 0

    def at(self, size: int, measured: int) -> Cost:
        """Return what the same network is expected to cost at another size than the one it was `measured` at (pixels of
        a side): in proportion to the pixels, and a little more for a larger one, whose maps fit less into the caches.
        """
        pixels = (size / measured) ** 2
        slower = pixels * (LARGER if size > measured else 1.0)
        memory, on_gpu = round(self.memory * max(1.0, pixels)), round(self.on_gpu * max(1.0, pixels))
        return Cost(self.step * slower, self.view * slower, memory, on_gpu)


@dataclass(frozen=True)
class MeasuredCandidate:
    """A candidate within the limit, its parameters, what it costs here, and the seconds in which a run of it decodes
    what is not decoded yet.

    `by_size` is the size in pixels at which the same network was timed, where there was no time for this one.
    """

    candidate: Candidate
    parameters: int
    cost: Cost
    packing: float = 0.0
    by_size: int | None = None


def measure(
    recipe: Recipe, competition: Competition, machine: Machine | None = None, patience: float = PATIENCE
) -> Cost:
    """What a step and a prediction of this recipe cost here. Raises Failed for one that is too slow, does not fit into
    the memory, or meets another fault.

    The images are noise of the competition's size, since a step takes as long whatever it sees.
    """
    return in_own_process(_measured, recipe, competition, machine or Machine(), patience=min(patience, PATIENCE))


def _measured(recipe: Recipe, competition: Competition, machine: Machine) -> Cost:
    """The cost, measured in this process."""
    import torch

    from featherweight.budget.memory import within_memory
    from featherweight.data.pack import Pack
    from featherweight.evaluation.inference import batch_within_memory, predict_probs
    from featherweight.models import build
    from featherweight.runtime.device import make_runtime
    from featherweight.training.examples import Examples
    from featherweight.training.trainer import Trainer

    device = make_runtime(machine.device, recipe.train.precision, machine.threads)
    with hushed():
        recipe = within_memory(recipe, competition, device)  # as a run of it is
    shape, batch = competition.shape, recipe.train.batch_size
    noise = _noise(batch, competition.image)
    images = Pack([str(index) for index in range(batch)], noise, np.arange(batch) % shape.num_classes)
    before = peak_memory()
    torch.manual_seed(0)
    model = build(recipe.model, shape)
    with tempfile.TemporaryDirectory() as folder, hushed():
        examples = Examples(images, images.take(np.arange(1)), shape.num_classes, recipe.augment)
        history = Trainer(short_recipe(recipe, STEPS + 1), model, examples, device, Path(folder)).fit()
    size = batch_within_memory(recipe.predict.batch_size, shape.size, shape.size, device)
    whole = take_rows(noise, np.arange(size) % batch)  # a whole batch, whose memory is a run's
    predict_probs([model], whole[:WARM], runtime=device, batch_size=size)
    began = time.perf_counter()
    predict_probs([model], whole, runtime=device, batch_size=size)
    view = (time.perf_counter() - began) / size
    on_gpu = torch.cuda.max_memory_allocated() if device.device.type == "cuda" else 0
    return Cost(float(statistics.median(history["seconds"].diff().iloc[1:])), view, peak_memory() - before, on_gpu)


def _noise(count: int, image: Image) -> Any:
    """That many images of noise, as a pack holds them: cut from larger pictures, where these are stored."""
    random = np.random.default_rng(0)
    if image.store is None:
        return random.integers(0, 256, (count, image.size, image.size, image.channels), dtype=np.uint8)
    height, width = image.store, round(PROPORTION * image.store)
    size = height * width * image.channels
    rows = np.array([(0, place * size, height, width) for place in range(count)], dtype=np.int64)
    pixels = random.integers(0, 256, count * size, dtype=np.uint8)
    return Photos([pixels], rows, image.channels, image.evaluation_crop)
