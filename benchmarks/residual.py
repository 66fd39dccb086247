"""Residual against plain: one depth with and without shortcuts, over seeds, on real images.

    ./run.sh bench residual --depth 56 --competition cifar10 --size 16 --subset 10000 --epochs 30 --seeds 3

Trains ResNet-depth and Plain-depth of the CIFAR-10 family with each seed: both with the same parameters, order of
images and augmentation. Every training is a run like any other, so what was cut off goes on, and what is done is not
done again. Writes to reports/bench/ a dated JSON (each seed's last losses and accuracies, and the difference with
its 95 % interval) and the curves: a line a network through the mean over seeds, a band from the lowest to the highest.
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
    """The history of one network's run with one seed, begun, continued, or done already."""
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
    """The losses and accuracies of both networks against the epoch."""
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
    """Train, compare, draw, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, choices=(20, 32, 44, 56), default=56)
    parser.add_argument("--competition", default="digits")
    parser.add_argument("--size", type=int, help="pixels on a side (default: the competition's)")
    parser.add_argument("--subset", type=int, help="use only so many training images")
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
    for seed in range(arguments.seeds):  # in turn, so that a run cut short has pairs to show
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
        print(f"{panel}: residual less plain {_record.in_words(difference)}")
    print(f"wrote {path} and its picture")


if __name__ == "__main__":
    main()
