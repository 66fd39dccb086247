"""Compare a residual to a plain network: one depth with and without shortcuts, over several seeds, on real images.

    ./run.sh bench residual --depth 56 --competition cifar10 --size 16 --subset 10000 --epochs 30 --seeds 3

Trains the ResNet and the plain network of the CIFAR-10 family with this depth, with each seed; both have the same
number of parameters, order of images and augmentation. Every training is an ordinary run, so an interrupted one
continues and a finished one is not repeated. Writes to reports/bench/ a dated JSON (the last losses and accuracies of
each seed, and the difference with its 95 % interval) and a figure with the curves: one line per network for the mean
over seeds, and a band from the lowest to the highest seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import _record
from featherweight import plotting
from featherweight.config import Competition, load_competition, load_recipe
from featherweight.runs import pipeline
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

PANELS = ("train_loss", "holdout_accuracy")


def train(net: str, seed: int, competition: Competition, name: str, overrides: list[str]) -> pd.DataFrame:
    """Start, continue or just find the run of one network and seed; return its history."""
    run_name = f"residual-{net}-{name}-s{seed}"
    if Run.exists(run_name):
        run = Run.find(run_name)
    else:
        recipe = load_recipe(net, [*overrides, f"seed={seed}"])
        command = ["./run.sh", "bench", "residual"]
        run = RunRequest(net, recipe, name, competition, command).start(run_name)
    pipeline.execute(run)
    return run.history


def draw(histories: dict[str, list[pd.DataFrame]], path: Path) -> None:
    """Draw the losses and accuracies of both networks against the epoch."""
    picture, axes = plotting.figure(1, len(PANELS))
    for place, panel in enumerate(PANELS):
        for net, runs in histories.items():
            epochs = runs[0]["epoch"]
            values = np.stack([history[panel].to_numpy() for history in runs])
            axes[0, place].fill_between(epochs, values.min(0), values.max(0), alpha=0.2)
            plotting.draw(axes[0, place], {net: (epochs.tolist(), values.mean(0).tolist())}, "epoch", panel)
        axes[0, place].legend(fontsize="small")
    plotting.save(picture, path)


def main() -> None:
    """Train, compare, draw, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, choices=(20, 32, 44, 56), default=56)
    parser.add_argument("--competition", default="digits")
    parser.add_argument("--size", type=int, help="image side in pixels (default: the competition's)")
    parser.add_argument("--subset", type=int, help="use only this many training images")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    competition = load_competition(arguments.competition)
    if arguments.size:
        competition = competition.model_copy(
            update={"image": competition.image.model_copy(update={"size": arguments.size})}
        )
    overrides = [f"train.epochs={arguments.epochs}", "predict.views=[]"]
    overrides += [f"split.subset={arguments.subset}"] if arguments.subset else []
    name = f"{arguments.competition}{competition.image.size}-{arguments.subset or 'all'}-e{arguments.epochs}"
    nets = [f"resnet{arguments.depth}", f"plain{arguments.depth}"]
    histories: dict[str, list[pd.DataFrame]] = {net: [] for net in nets}
    for seed in range(arguments.seeds):  # seed by seed, so that an interrupted benchmark has complete pairs
        for net in nets:
            histories[net].append(train(net, seed, competition, name, overrides))
    last = {
        net: {panel: [float(history[panel].iloc[-1]) for history in runs] for panel in PANELS}
        for net, runs in histories.items()
    }
    residual, plain = (last[net] for net in nets)
    gains = {panel: [a - b for a, b in zip(residual[panel], plain[panel], strict=True)] for panel in PANELS}
    differences = {panel: _record.paired(gain) for panel, gain in gains.items()}
    path = _record.write(
        f"residual{arguments.depth}-{name}",
        f"ResNet-{arguments.depth} less Plain-{arguments.depth} on {name}, {arguments.seeds} seeds, last epoch",
        {"last_epoch": last, "difference": differences},
    )
    draw(histories, path.with_suffix(".png"))
    for panel, difference in differences.items():
        print(f"{panel}: residual minus plain {_record.in_words(difference)}")
    print(f"wrote {path} and its figure")


if __name__ == "__main__":
    main()
