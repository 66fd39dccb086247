"""Compare time and accuracy of a recipe to the published fast recipe, on the same images and device, taking turns.

    ./run.sh bench race --recipe fastnet94 --device cuda --runs 5

Both train on all training images of CIFAR-10's JPEG folders and predict the test folder, whose classes only the scorer
sees. The clock starts when the decoded images are in host memory (ours) or on the device (published) and stops after
the last test prediction, including test-time views. Each first runs for one epoch that is not counted. The recipe is
trained like any run. With JPEG images both score lower than published figures. Writes a dated JSON to reports/bench/,
and continues a record of the same day with the same settings.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _airbench94 as airbench94
import _record
from _airbench94 import Outcome, wait
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.data import pack
from featherweight.evaluation.inference import predict_probs
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runs import predictions
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer


def ours(
    recipe: Recipe, competition: Competition, train: pack.LabelledPack, test: pack.LabelledPack, device: str
) -> Outcome:
    """Train the recipe on all of `train`; return its time and its accuracy on `test`."""
    runtime = make_runtime(device, recipe.train.precision)
    classes, side = len(competition.classes), competition.image.size
    holdout = train.take(np.zeros(1, dtype=np.int64))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        torch.manual_seed(recipe.seed)
        model = build(recipe.model, Shape(classes, competition.image.channels, side))
        augment = predictions.augmentations(recipe, competition)
        Trainer(recipe, model, Examples(train, holdout, classes, augment), runtime, Path(folder)).fit()
        views = predictions.views(recipe, competition)
        probs = predict_probs([model], test.images, runtime=runtime, views=views, augment=augment, batch_size=2000)
        wait(runtime.device)
        seconds = time.perf_counter() - began
    return Outcome(seconds, float((probs.argmax(1) == test.labels).mean()))


def labelled(competition: Competition, images: int | None) -> tuple[pack.LabelledPack, pack.LabelledPack]:
    """Return the training images, and the test images with the scorer's labels; at most `images` of each."""
    data, answers = (
        competition.load(),
        pack.answers(competition.source),
    )
    assert data.predict is not None
    assert answers is not None
    index = {name: place for place, name in enumerate(competition.classes)}
    truth = np.array([index[answers[id]] for id in data.predict.ids])
    test = pack.LabelledPack(data.predict.ids, np.array(data.predict.images), truth)
    places = [np.random.default_rng(0).permutation(len(part))[:images] for part in (data.train, test)]
    train, test = (part.take(chosen) for part, chosen in zip((data.train, test), places, strict=True))
    return train, test


def begun(before: dict[str, Any], about: dict[str, Any], racers: list[str]) -> dict[str, list[Outcome]]:
    """Return the outcomes of an earlier race with the same settings; none if the settings differ."""
    if any(before.get(key) != value for key, value in about.items()):
        return {racer: [] for racer in racers}
    kept = {racer: [before["runs"][racer][key] for key in Outcome._fields] for racer in racers}
    return {racer: [Outcome(*pair) for pair in zip(*columns, strict=True)] for racer, columns in kept.items()}


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the runs, their median time and their mean accuracy."""
    return {
        "seconds": [outcome.seconds for outcome in outcomes],
        "accuracy": [outcome.accuracy for outcome in outcomes],
        "median_seconds": statistics.median(outcome.seconds for outcome in outcomes),
        "mean_accuracy": statistics.mean(outcome.accuracy for outcome in outcomes),
    }


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="fastnet94")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--competition", default="cifar10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--limit", type=float, default=math.inf, help="start no run that would end after this many seconds"
    )
    parser.add_argument("--images", type=int, help="train and test on only this many images")
    parser.add_argument("--epochs", type=float, default=airbench94.EPOCHS, help="epochs of the published recipe")
    parser.add_argument("--batch", type=int, default=airbench94.BATCH, help="batch size of the published recipe")
    parser.add_argument(
        "--widths", type=int, nargs=3, default=airbench94.WIDTHS, help="widths of the published network"
    )
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder of the JSON")
    return parser.parse_args()


def main() -> None:
    """Train in turn, print, write the record."""
    arguments = parsed()
    competition = load_competition(arguments.competition)
    recipe = load_recipe(arguments.recipe, [*arguments.set, "train.evaluate_every=10000"])
    train, test = labelled(competition, arguments.images)
    runtime = make_runtime(arguments.device, recipe.train.precision)
    device, dtype = runtime.device, runtime.dtype

    def published_run(epochs: float) -> Outcome:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = device.type == "cuda"
        return airbench94.run(
            (np.array(train.images), train.labels),
            (test.images, test.labels),
            device,
            epochs,
            arguments.batch,
            arguments.widths,
        )

    def our_run(seed: int, changes: dict[str, Any]) -> Outcome:
        once = recipe.model_copy(update={"seed": seed, "train": recipe.train.model_copy(update=changes)})
        with contextlib.redirect_stdout(io.StringIO()):
            return ours(once, competition, train, test, arguments.device)

    model = build(recipe.model, competition.shape)
    about = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "images": len(train),
        "recipe": recipe.model_dump(mode="json"),
        "precision": {arguments.recipe: str(dtype or "torch.float32"), "published": "fp32, on CUDA fp16"},
        "published": {"epochs": arguments.epochs, "batch": arguments.batch, "widths": list(arguments.widths)},
    }
    widths = "" if tuple(arguments.widths) == airbench94.WIDTHS else "-" + "x".join(map(str, arguments.widths))

    name = f"race-{arguments.recipe}{widths}"
    runs = begun(_record.earlier(name, arguments.out), about, [arguments.recipe, "published"])
    first = len(runs["published"])
    if first >= arguments.runs:
        sys.exit(f"{first} pairs were run today already; take more --runs")

    our_run(0, {"epochs": 1, "steps": 5})
    published_run(0.1)
    began = time.monotonic()
    for number in range(first, arguments.runs):
        done = number - first
        if done and (time.monotonic() - began) * (done + 1) / done > arguments.limit:
            break
        runs[arguments.recipe].append(our_run(number, {}))
        torch.manual_seed(number)
        runs["published"].append(published_run(arguments.epochs))
        each = "  ".join(f"{name} {done[-1].accuracy:.2%} in {done[-1].seconds:.2f} s" for name, done in runs.items())
        print(f"run {number + 1}: {each}", flush=True)
        rows = {name: summary(outcomes) for name, outcomes in runs.items()}
        gain = _record.paired([a - b for a, b in zip(*(row["accuracy"] for row in rows.values()), strict=True)])
        times = [row["seconds"] for row in rows.values()]
        path = _record.write(  # after every pair, since a pair may take an hour
            name,
            "seconds of training and predicting with test-time views, and test accuracy, on CIFAR-10 as JPEG",
            {**about, "runs": rows, "gain": gain, "seconds_over_published": _record.quotients(*times)},
            out=arguments.out,
            device=str(device),
        )
    for name, row in rows.items():
        print(f"{name}: {row['mean_accuracy']:.2%} in {row['median_seconds']:.2f} s, {len(row['seconds'])} runs")
    print(f"{arguments.recipe} minus published, accuracy: {_record.in_words(gain)}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
