"""Train a recipe for a given number of minutes, as an ordinary run, from folders of files to its test score.

    ./run.sh bench timed wrn22_4 --minutes 8 --competition cifar10 --device cuda

A few steps are timed first; the run then trains for as many whole epochs as fit into nine tenths of the time.
Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _record
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.data import pack, parts
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runs import pipeline, predictions
from featherweight.runs.request import RunRequest
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

EPOCHS = 8  # short epochs in which steps are timed
TRAINING = 0.9  # fraction of the time for training; the rest is for loading, holdout evaluations and prediction


def step_seconds(recipe: Recipe, competition: Competition, train: pack.LabelledPack, device: str, steps: int) -> float:
    """Return the seconds per step: the mean over the later epochs of one run with short epochs.

    The start of a run, such as compiling and choosing kernels, falls into the first epoch, which is not counted. With
    progressive resizing the first epoch also has the smallest images, so the time of a step is slightly overestimated.
    """

    def cut(*labels: Any) -> Any:
        return recipe.sampling(*labels)[: steps * recipe.train.batch_size]

    timed = {"epochs": EPOCHS, "steps": None, "evaluate_every": EPOCHS}
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update=timed), "sampling": cut})
    runtime = make_runtime(device, recipe.train.precision)
    torch.manual_seed(0)
    image, classes = competition.image, len(competition.classes)
    model = build(recipe.model, Shape(classes, image.channels, image.size))
    augment = predictions.augmentations(recipe, competition)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        examples = Examples(train, train.take(np.zeros(1, dtype=np.int64)), classes, augment)
        history = Trainer(short, model, examples, runtime, Path(folder)).fit()
    done = history["step"].iloc[-1] - history["step"].iloc[0]
    return float(history["seconds"].iloc[-1] - history["seconds"].iloc[0]) / int(done)


def main() -> None:
    """Time some steps, train, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--competition", default="cifar10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--steps", type=int, help="steps of each short epoch that is timed")
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder of the JSON")
    arguments = parser.parse_args()
    began = time.monotonic()
    competition, recipe = load_competition(arguments.competition), load_recipe(arguments.recipe, arguments.set)
    data = competition.load()
    train, _, _ = parts.divide(recipe.split, competition, data)
    cuda = make_runtime(arguments.device, recipe.train.precision).device.type == "cuda"
    step = step_seconds(recipe, competition, train, arguments.device, arguments.steps or (50 if cuda else 1))
    left = arguments.minutes * 60 * TRAINING - (time.monotonic() - began)
    shown = len(recipe.sampling(train.labels, recipe.seed, 0))
    size = min(recipe.train.batch_size, shown)
    epochs = max(1, int(left / (step * (shown // size))))
    print(f"{1 / step:,.1f} steps/s, so {epochs} epochs", flush=True)
    looks = max(1, epochs // 5)
    recipe = load_recipe(arguments.recipe, [*arguments.set, f"train.epochs={epochs}", f"train.evaluate_every={looks}"])
    command = shlex.split(_record.command())
    run = RunRequest(arguments.recipe, recipe, arguments.competition, competition, command, arguments.device).start()
    result = pipeline.execute(run)
    minutes = (time.monotonic() - began) / 60
    path = _record.write(
        f"timed-{arguments.recipe}",
        f"{arguments.recipe} trained for about {arguments.minutes:g} minutes, timing of steps and prediction included",
        {"epochs": epochs, "images_per_second": size / step, "wall_minutes": minutes, "result": asdict(result)},
        out=arguments.out,
        device=str(make_runtime(arguments.device, recipe.train.precision).device),
    )
    tested = f", test {result.unbiased.value:.2%}" if result.unbiased else ""
    print(f"{arguments.recipe}: {epochs} epochs in {minutes:.1f} minutes, holdout {result.holdout.value:.2%}{tested}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
