"""Measure the cost of a recipe on this machine, by timing a few steps in a process of its own."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.config import Competition, Recipe
from featherweight.config.short_recipe import short_recipe
from featherweight.console import hushed
from featherweight.data.image import Image
from featherweight.data.mapped_rows import take_rows
from featherweight.data.photos import Photos
from featherweight.planning.candidates import BATCH_SIZES, FAST, Candidate, batches
from featherweight.planning.own_process import in_own_process
from featherweight.training.forecast import peak_memory

EPOCH_FACTOR = 1.02  # an epoch takes this many times the time of its steps
# A larger size takes so many times what its pixels say: EfficientNet-Lite0 took 1.15 times that at 224 px, from 128 px.
LARGER_SIZE_FACTOR = 1.2
REGRESSION_SECONDS = 7e-6  # of a probe, per `regression_work`; used if no pilot has measured it
TIMED_BATCHES = 3  # of predictions
TIMED_STEPS = 4  # after a first one that selects kernels and fills caches
STEPS_IN_ALL = TIMED_STEPS + 2  # in whose time a candidate is measured, predictions included
ASPECT_RATIO = 4 / 3  # of photographs
PATIENCE_SECONDS = 120.0  # for one candidate; slower ones are useless for any plan


@dataclass(frozen=True)
class Machine:
    """What is measured and trained on: a device by name, and the number of CPU threads (None: all)."""

    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of a recipe on a machine.

    Attributes:
        step: seconds of a training step.
        overhead: seconds of it that do not depend on the number of images in the batch.
        view: seconds to predict one image in one test-time view.
        memory: bytes that training adds to the process.
        on_gpu: bytes that it needs on the GPU.
        checkpoint: bytes of a checkpoint.
        features: the number of inputs of the last linear layer (0: the network has none).
    """

    step: float
    view: float
    memory: int
    on_gpu: int = 0
    checkpoint: int = 0
    features: int = 0
    overhead: float = 0.0

    def in_batches(self, size: int, measured: int) -> Cost:
        """Return the expected cost with another batch size, given the `measured` one."""
        return replace(self, step=self.overhead + (self.step - self.overhead) * size / measured)

    def at(self, size: int, measured: int) -> Cost:
        """Return the expected cost of the same network at another size, given the size it was `measured` at (both in
        px).

        It is proportional to the number of pixels, and a little higher for a larger size, whose activations fit less
        well into the caches.
        """
        pixels = (size / measured) ** 2
        slower = pixels * (LARGER_SIZE_FACTOR if size > measured else 1.0)
        memory, on_gpu = round(self.memory * max(1.0, pixels)), round(self.on_gpu * max(1.0, pixels))
        step = self.overhead + (self.step - self.overhead) * slower
        return replace(self, step=step, view=self.view * slower, memory=memory, on_gpu=on_gpu)


@dataclass(frozen=True)
class MeasuredCandidate:
    """A candidate within the limit.

    Attributes:
        parameters: of its network.
        cost: on this machine.
        packing: seconds in which a run of it decodes images.
        packed: bytes that it stores of them.
        by_size: the image size in pixels from whose cost this one was estimated (None: it was measured itself).
    """

    candidate: Candidate
    parameters: int
    cost: Cost
    packing: float = 0.0
    packed: int = 0
    by_size: int | None = None

    def also(self, settings: Sequence[str]) -> MeasuredCandidate:
        """Return the candidate with more settings, which cost the same."""
        return replace(self, candidate=replace(self.candidate, fixed=(*self.candidate.fixed, *settings)))

    def with_enough_steps(self, images: int, epochs: float) -> MeasuredCandidate:
        """Return a fast net in smaller batches if so few epochs have too few steps; else the candidate itself."""
        own, usual = batches(images, epochs * images), self.candidate.one_epoch.train.batch_size
        if self.candidate.recipe != FAST or own == batches(images) or f"train.batch_size={usual}" in own:
            return self
        smaller = self.also(own)
        cost = self.cost.in_batches(smaller.candidate.one_epoch.train.batch_size, usual)
        return replace(smaller, cost=cost)


def estimated(candidate: Candidate, parameters: int, measured: Sequence[MeasuredCandidate]) -> MeasuredCandidate | None:
    """Return the candidate with a cost estimated from the same network at the nearest measured size; None if there is
    none.
    """
    timed = [one for one in measured if one.candidate.name == candidate.name and one.by_size is None]
    if not timed:
        return None
    nearest = min(timed, key=lambda one: abs(math.log(one.candidate.size / candidate.size)))
    size = nearest.candidate.size
    return MeasuredCandidate(candidate, parameters, nearest.cost.at(candidate.size, size), by_size=size)


def measure(
    recipe: Recipe, competition: Competition, machine: Machine | None = None, patience: float = PATIENCE_SECONDS
) -> Cost:
    """Return the cost of a step and of a prediction of this recipe here.

    The images are noise of the competition's size, since the time of a step does not depend on their content. Raises
    Failed if the recipe is too slow, does not fit into memory, or raises an error.
    """
    return in_own_process(
        _measured, recipe, competition, machine or Machine(), patience=min(patience, PATIENCE_SECONDS)
    )


def _measured(recipe: Recipe, competition: Competition, machine: Machine) -> Cost:
    """Return the cost, measured in this process."""
    import torch

    from featherweight.budget.memory import within_memory
    from featherweight.data.pack import LabelledPack
    from featherweight.evaluation.inference import batch_within_memory, predict_probs
    from featherweight.models import build
    from featherweight.runtime.device import make_runtime
    from featherweight.training.examples import Examples
    from featherweight.training.trainer import Trainer

    device = make_runtime(machine.device, recipe.train.precision, machine.threads)
    with hushed():
        recipe = within_memory(recipe, competition, device)  # as in a run
    shape, batch = competition.shape, recipe.train.batch_size
    noise = pictures_of_noise(batch, competition.image)
    images = LabelledPack([str(index) for index in range(batch)], noise, np.arange(batch) % shape.num_classes)
    before = peak_memory()
    torch.manual_seed(0)
    model = build(recipe.model, shape)

    def timed(images: LabelledPack) -> tuple[float, int]:
        """Return the seconds of a step of these images, and the bytes of a checkpoint."""
        with tempfile.TemporaryDirectory() as folder, hushed():
            examples = Examples(images, images.take(np.arange(1)), shape.num_classes, recipe.augment)
            trainer = Trainer(short_recipe(recipe, TIMED_STEPS + 1), model, examples, device, Path(folder))
            return float(statistics.median(trainer.fit()["seconds"].diff().iloc[1:])), trainer.state.nbytes

    step, checkpoint = timed(images)
    overhead = 0.0
    if batch > BATCH_SIZES[0]:
        smaller, _ = timed(images.take(np.arange(BATCH_SIZES[0])))
        overhead = min(max(0.0, (smaller * batch - step * BATCH_SIZES[0]) / (batch - BATCH_SIZES[0])), step)
    size = batch_within_memory(recipe.predict.batch_size, shape.size, shape.size, device)
    whole = take_rows(noise, np.arange(TIMED_BATCHES * size) % batch)  # whole batches, to need the memory of a run

    def predict(count: int) -> None:
        predict_probs([model], whole[:count], runtime=device, batch_size=size)

    predict(size)  # selects kernels for this shape
    view = seconds_of_an_image(predict, size, TIMED_BATCHES * size)
    on_gpu = torch.cuda.max_memory_allocated() if device.device.type == "cuda" else 0
    linear = [module.in_features for module in model.net.modules() if isinstance(module, torch.nn.Linear)]
    return Cost(step, view, peak_memory() - before, on_gpu, checkpoint, (linear or [0])[-1], overhead)


def seconds_of_an_image(predict: Callable[[int], object], few: int, many: int) -> float:
    """Return the seconds that each further image takes, given `predict(count)`.

    Every call has a part that does not depend on the number of images: memory that the one before has returned to the
    system is asked for again.
    """
    began = time.perf_counter()
    predict(few)
    between = time.perf_counter()
    predict(many)
    whole = time.perf_counter() - between
    further = whole - (between - began)
    return further / (many - few) if further > whole / 2 and many > few else whole / many


def stored_bytes(image: Image, side: int | None = None) -> int:
    """Return the bytes of one decoded image; of one that is stored as a photograph, with the usual proportions.

    Photographs are not enlarged to be stored: `side` is that of the pictures in pixels (None: they are larger).
    """
    if image.store is None:
        return image.size**2 * image.channels
    height = min(image.store, side or image.store)
    return height * round(ASPECT_RATIO * height) * image.channels


def pictures_of_noise(count: int, image: Image) -> Any:
    """Return `count` images of noise as a pack stores them, or crops of larger ones if `image` stores such."""
    random = np.random.default_rng(0)
    if image.store is None:
        return random.integers(0, 256, (count, image.size, image.size, image.channels), dtype=np.uint8)
    height, width = image.store, round(ASPECT_RATIO * image.store)
    size = stored_bytes(image)
    rows = np.array([(0, place * size, height, width) for place in range(count)], dtype=np.int64)
    pixels = random.integers(0, 256, count * size, dtype=np.uint8)
    return Photos([pixels], rows, image.channels, image.evaluation_crop)
