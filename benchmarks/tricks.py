"""Measure known ways to shorten a training at equal processor time: the end of docs/speed.md.

    ./run.sh bench tricks COMPETITION ... [--images 4000] [--epochs 10] [--seeds 0 1 2] [--only "half skipped"]
    ./run.sh bench tricks COMPETITION --steps

The base is that of `bench ablations`: the narrow fast net with Muon, in float32, batches of 256. A trick shows more
images if its steps are cheaper, and fewer if they are dearer, so that it takes the base's processor time; the record
has the seconds of each training. All are scored without test-time views on the same 2,000 held-out images. The gains,
paired by seed, and their intervals are those of `bench ablations`.

The base is also scored with test-time views of all images, and with views of only those whose highest probability is
below a threshold. The lowest threshold is taken with which one half of the held-out images is as often right as with
views of all; it is then scored on the other half, and the other way round.

With `--steps` single steps are timed: as they are, with `train.compile`, and with grouped convolutions. The first step
has the compiler's work, with an empty cache. Resumable within a day.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from argparse import Namespace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import _record
from _ablation_options import Option
from _varied import Trick, VariedTrainer, processor_seconds
from ablations import Cell, gains, recipe_of, trained
from featherweight.config import load_competition
from featherweight.evaluation import tta
from featherweight.evaluation.inference import predict_probs

TRICKS = (
    Trick("base"),
    Trick("quarter skipped", skip=0.25),
    Trick("half skipped", skip=0.5),
    Trick("128, then 512", sizes=(128, 512), length=0.98),
    Trick("64, then 256", sizes=(64, 256), length=0.835),
    Trick("two groups", groups=2, length=1.12),
)
STEPS = (("narrow", 256, 2), ("narrow", 512, 1), ("fast", 256, 1), ("fast", 512, 1))  # network, batch size, repetitions
KINDS = ("eager", "two groups", "compiled")
TIMED = 8  # steps, of which the first is apart
CELL = ("option", "seed", "images", "epochs", "holdout", "right", "seconds")
PREDICTED = 256  # images held out where steps are timed; they are repeated to fill a batch
THRESHOLDS = np.linspace(0, 1, 201)


def train(competition: str, option: str, seed: int, images: int, epochs: int) -> list[dict[str, Any]]:
    """Train once; return a row with the correct held-out images, the seconds of the training, and for the base the
    answers with views.
    """
    described = load_competition(competition)
    described.load()  # packing is not counted
    trick = next(trick for trick in TRICKS if trick.name == option)
    recipe, sizes = recipe_for(trick, images, epochs, seed, {})
    clock: list[float] = []
    began = processor_seconds()
    model, holdout, _, device = trained(
        recipe, described, partial(VariedTrainer, trick=trick, sizes=sizes, clock=clock)
    )
    seconds = processor_seconds() - began
    probs = predict_probs([model], holdout.images, runtime=device)
    row = {
        "right": int((probs.argmax(1) == holdout.labels).sum()),
        "holdout": len(holdout),
        "steps": len(sizes),
        "shown": sum(sizes),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 1),
        "of_steps": round(sum(clock), 1),
    }
    if trick.name == "base":
        views: list[tta.View] = [tta.flip, tta.shift] if described.image.mirror else [tta.shift]
        of_all = predict_probs([model], holdout.images, runtime=device, views=views)
        row["views"] = where_unsure(probs, of_all, holdout.labels, tta.count(views))
    return [row]


def recipe_for(
    trick: Trick, images: int, epochs: int, seed: int, changes: dict[str, Any], network: str = "narrow"
) -> Any:
    """Return the recipe of a training and the batch size of each of its steps."""
    each = images // 256
    sizes = trick.steps(epochs * each * 256)
    length = -(-len(sizes) // each)
    keys = {"train.steps": len(sizes), "train.epochs": length, "train.evaluate_every": length, **changes}
    arguments = Namespace(epochs=epochs, images=images, network=network)
    return recipe_of(Option(trick.name, "trick", keys), images, arguments, seed), sizes


def cell_of(row: dict[str, Any]) -> Cell:
    """Return a row as `bench ablations` would store it."""
    return Cell(row["competition"], *(row[name] for name in CELL))


def where_unsure(
    first: NDArray[np.float32], of_all: NDArray[np.float32], labels: NDArray[np.int64], views: int
) -> dict[str, Any]:
    """Return how many answers are right without views, with views of all images, and with views of unsure ones.

    `first` and `of_all` are the probabilities [N, K] without and with views. `asked` is the part of the images that
    are unsure, `saved` that of the network's passes.
    """
    right, right_of_all = first.argmax(1) == labels, of_all.argmax(1) == labels
    top, halves = first.max(1), np.arange(len(labels)) % 2
    chosen, thresholds = np.zeros(len(labels), dtype=bool), []
    for half in (0, 1):
        tuning = halves != half
        wanted = right_of_all[tuning].sum()
        for threshold in THRESHOLDS:
            unsure = top < threshold
            if np.where(unsure, right_of_all, right)[tuning].sum() >= wanted:
                break
        thresholds.append(round(float(threshold), 3))
        chosen |= unsure & ~tuning
    return {
        "without": int(right.sum()),
        "of_all": int(right_of_all.sum()),
        "of_unsure": int(np.where(chosen, right_of_all, right).sum()),
        "thresholds": thresholds,
        "asked": float(chosen.mean()),
        "saved": float((1 - chosen.mean()) * (views - 1) / views),
    }


def time_steps(competition: str, network: str, batch: int, kind: str, turn: int) -> list[dict[str, Any]]:
    """Time the first and the later steps of a training, and the prediction of a batch; return a row with the seconds
    and a checksum of the weights.
    """
    from torch._inductor import config  # takes seconds
    from torch._inductor.utils import fresh_cache

    described = load_competition(competition)
    described.load()
    clock: list[float] = []
    trick = next((trick for trick in TRICKS if trick.name == kind), TRICKS[0])
    changes: dict[str, Any] = {
        "train.batch_size": batch,
        "optimizer.lr": 0.12 * batch / 128,
        "split.holdout": PREDICTED,
    }
    changes |= {"train.steps": TIMED, "train.compile": kind == "compiled"}
    recipe, _ = recipe_for(trick, 4000, 1 + TIMED * batch // 4000, 0, changes, network)
    torch.compiler.reset()
    with fresh_cache(), config.patch(compile_threads=1):  # in this process, so that it is counted
        trainer = partial(VariedTrainer, trick=trick, sizes=[batch] * TIMED, clock=clock)
        model, holdout, _, device = trained(recipe, described, trainer)
    began = processor_seconds()
    predict_probs([model], np.tile(holdout.images, (batch // PREDICTED, 1, 1, 1)), runtime=device, batch_size=batch)
    predicted = processor_seconds() - began
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return [
        {
            "first": round(clock[0], 3),
            "later": round(statistics.median(clock[1:]), 4),
            "predicted": round(predicted, 4),
            "weights": digest.hexdigest()[:16],
        }
    ]


def main() -> None:
    """Measure what today's record lacks, and print the gains or the times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[trick.name for trick in TRICKS])
    parser.add_argument("--steps", action="store_true", help="time single steps")
    arguments = parser.parse_args()
    what = __doc__.splitlines()[0]
    if arguments.steps:
        cells = [
            {"competition": name, "network": network, "batch": batch, "kind": kind, "turn": turn}
            for name in arguments.competitions
            for network, batch, turns in STEPS
            for turn in range(turns)
            for kind in KINDS
        ]
        for row in _record.measured("tricks-steps", what, cells, time_steps):
            print(f"{row['network']:7} {row['batch']:4} {row['kind']:11} {row['first']:8} s, then {row['later']} s")
        return
    cells = [
        {
            "competition": name,
            "option": trick.name,
            "seed": seed,
            "images": arguments.images,
            "epochs": arguments.epochs,
        }
        for seed in arguments.seeds
        for trick in TRICKS
        if not arguments.only or trick.name in (*arguments.only, "base")
        for name in arguments.competitions
    ]
    rows = _record.measured("tricks", what, cells, train)
    for name, by_option in gains(map(cell_of, rows)).items():
        for option, one in by_option.items():
            print(f"{name:9} {option:16} {one['gain']:+6.2f} ± {one['half']:.2f}, {one['seeds']} seeds")
    for row in rows:
        if "views" in row:
            print(row["competition"], row["seed"], row["views"])


if __name__ == "__main__":
    main()
