"""What a recipe costs on this machine: a few steps of it, timed in a process of their own."""

from __future__ import annotations

import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.config import Competition, Recipe
from featherweight.console import hushed
from featherweight.errors import UserError

STEPS = 4  # that are timed, after one that is not: the first chooses kernels and fills caches
PATIENCE = 120.0  # seconds for one candidate; what takes longer is far too slow for any plan


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step and of one image in one test-time view, and the bytes of memory at the peak."""

    step: float
    view: float
    memory: int


def measure(recipe: Recipe, competition: Competition, threads: int | None = None) -> Cost | None:
    """What a step and a prediction of this recipe cost here; None for a recipe that is too slow or does not fit.

    The images are noise of the competition's size, since a step takes as long whatever it sees. The process is forked
    from a server that has imported torch once, so that its memory is the recipe's own and a crash is not ours.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "featherweight.training.trainer"])
    receiver, sender = context.Pipe(duplex=False)
    plain = recipe.model_dump(mode="json"), competition.model_dump(mode="json")
    worker = context.Process(target=_work, args=(*plain, threads, sender))
    worker.start()
    sender.close()
    try:
        answer: Cost | str | None = receiver.recv() if receiver.poll(PATIENCE) else None
    except EOFError:  # killed, for memory most likely
        answer = None
    worker.kill()
    worker.join()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def _work(recipe: dict[str, Any], competition: dict[str, Any], threads: int | None, sender: Connection) -> None:
    answer: Cost | str | None
    try:
        answer = _measured(Recipe.model_validate(recipe), Competition.model_validate(competition), threads)
    except UserError as error:
        answer = str(error)
    except (RuntimeError, MemoryError):  # what torch raises for memory that is not there
        answer = None
    sender.send(answer)


def _measured(recipe: Recipe, competition: Competition, threads: int | None) -> Cost:
    """The cost, measured in this process."""
    import torch

    from featherweight.data.pack import Pack
    from featherweight.evaluation.inference import predict_probs
    from featherweight.models import build
    from featherweight.runtime.device import start
    from featherweight.training.examples import Examples
    from featherweight.training.trainer import Trainer

    device = start("auto", recipe.train.precision, threads)
    shape, batch = competition.shape, recipe.train.batch_size
    noise = np.random.default_rng(0).integers(0, 256, (batch, shape.size, shape.size, shape.channels), dtype=np.uint8)
    images = Pack([str(index) for index in range(batch)], noise, np.arange(batch) % shape.num_classes)
    train = {"epochs": STEPS + 1, "steps": None, "evaluate_every": STEPS + 1, "checkpoint_seconds": math.inf}
    short = recipe.model_copy(
        update={"train": recipe.train.model_copy(update=train), "warmup": None, "early_stopping": None}
    )
    torch.manual_seed(0)
    model = build(recipe.model, shape)
    with tempfile.TemporaryDirectory() as folder, hushed():
        examples = Examples(images, images.take(np.arange(1)), shape.num_classes, recipe.augment)
        seconds = Trainer(short, model, examples, device, Path(folder)).fit()["seconds"].diff().iloc[1:]
    began = time.perf_counter()
    predict_probs([model], images.images, runtime=device, batch_size=recipe.predict.batch_size)
    view = (time.perf_counter() - began) / batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(float(statistics.median(seconds)), view, peak)
