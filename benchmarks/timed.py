"""A recipe trained for as long as some minutes allow, as any run is, from folders of files to its test score.

    ./run.sh bench timed wrn22_4 --minutes 8 --competition cifar10 --device cuda

A few steps are timed first; the run then has as many whole epochs as fit (nine tenths of the time go to training).
Writes a dated JSON to benchmarks/results/.
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

import torch

import _record
from featherweight import job, predictions, run_folder
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.data import pack, parts
from featherweight.models import build
from featherweight.training.loop import fit
from featherweight.training.runtime import start

TRAINING = 0.9  # of the time; the rest is for loading, looks at the holdout and prediction


def step_seconds(recipe: Recipe, competition: Competition, train: pack.Pack, device: str, steps: int) -> float:
    """Seconds a step: the difference of a short and a longer run, so that what a run starts with is not counted."""
    seconds = []
    for count in (steps, 2 * steps, 4 * steps):  # the first warms up
        runtime = start(device, recipe.train.precision)
        torch.manual_seed(0)
        image = competition.image
        model = build(recipe.model, len(competition.classes), image.channels, image.size)
        changed = recipe.train.model_copy(update={"steps": count, "epochs": 1000})
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            began = time.perf_counter()
            augment = predictions.augmentations(recipe, competition)
            short = recipe.model_copy(update={"train": changed})
            fit(short, model, train, train.take(range(1)), len(competition.classes), augment, runtime, Path(folder))
            seconds.append(time.perf_counter() - began)
    return max(1e-6, (seconds[2] - seconds[1]) / (2 * steps))


def main() -> None:
    """Time some steps, train, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--competition", default="cifar10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--steps", type=int, help="steps of the shortest run that is timed")
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder of the JSON")
    given = parser.parse_args()
    began = time.monotonic()
    competition, recipe = load_competition(given.competition), load_recipe(given.recipe, given.set)
    data = pack.load(competition.source, competition.image, competition.classes)
    train, _, _ = parts.divide(recipe.split, competition, data)
    cuda = start(given.device, recipe.train.precision).device.type == "cuda"
    step = step_seconds(recipe, competition, train, given.device, given.steps or (50 if cuda else 1))
    left = given.minutes * 60 * TRAINING - (time.monotonic() - began)
    size = min(recipe.train.batch_size, len(train))
    epochs = max(1, int(left / (step * (len(train) // size))))
    print(f"{1 / step:,.1f} steps a second, so {epochs} epochs", flush=True)
    looks = max(1, epochs // 5)
    recipe = load_recipe(given.recipe, [*given.set, f"train.epochs={epochs}", f"train.evaluate_every={looks}"])
    command = shlex.split(_record.command())
    run = run_folder.start(run_folder.Task(given.recipe, recipe, given.competition, competition, command, given.device))
    result = job.run(run)
    minutes = (time.monotonic() - began) / 60
    path = _record.write(
        f"timed-{given.recipe}",
        f"{given.recipe} trained for about {given.minutes:g} minutes, timing of steps and prediction included",
        {"epochs": epochs, "images_per_second": size / step, "wall_minutes": minutes, "result": asdict(result)},
        out=given.out,
        device=str(start(given.device, recipe.train.precision).device),
    )
    tested = f", test {result.test.value:.2%}" if result.test else ""
    print(f"{given.recipe}: {epochs} epochs in {minutes:.1f} minutes, holdout {result.holdout.value:.2%}{tested}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
