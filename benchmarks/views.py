"""Measure what test-time views gain after short and long trainings: the numbers of `planning/views.py`.

    ./run.sh bench views cifar20 letters fashion seedlings32 [--epochs 4 12 36] [--seeds 0]

The network is the base of `bench ablations`, trained on 4,000 images (or on four fifths, if a data set has fewer than
6,000). One training is scored on the same held-out images with each set of views. The gain is the difference of the
logits of the error, averaged over data sets, seeds and epochs in inverse proportion to their variances; its interval
comes from the images that only one of the two gets right. Resumable within a day.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

import _record
from _ablation_options import options
from ablations import HOLDOUT, recipe_of, trained
from featherweight.config import load_competition
from featherweight.evaluation import tta
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.intervals import NORMAL

IMAGES = 4000
VIEWS: dict[str, list[tta.View]] = {
    "none": [],
    "flip": [tta.flip],
    "shift": [tta.shift],
    "flip x shift": [tta.flip, tta.shift],
    "flip x shift 2": [tta.flip, partial(tta.shift, distance=1 / 16)],
}


def measure(competition: str, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Train once and score every set of views; return a row for each, with the images that only it gets right."""
    described = load_competition(competition)
    images = IMAGES if len(described.load().train) >= IMAGES + HOLDOUT else None
    count = images or round(0.8 * len(described.load().train))
    recipe = recipe_of(options()[0], count, argparse.Namespace(epochs=epochs, images=images, network="narrow"), seed)
    model, holdout, _, device = trained(recipe, described)
    rows: list[dict[str, Any]] = []
    plain = None
    for name, views in VIEWS.items():
        if name.startswith("flip") and not described.image.mirror:
            continue
        right = predict_probs([model], holdout.images, runtime=device, views=views).argmax(1) == holdout.labels
        plain = right if plain is None else plain
        only_it, only_plain = int((right & ~plain).sum()), int((plain & ~right).sum())
        outcome = {"right": int(right.sum()), "only_it": only_it, "only_without": only_plain}
        rows.append({"views": name, "holdout": len(holdout), **outcome})
    return rows


def gain(rows: list[dict[str, Any]], plain: dict[tuple[Any, ...], dict[str, Any]]) -> tuple[float, float]:
    """Return the mean gain in logits of the error over rows, and half of its 95 % interval."""
    gains, weights = [], []
    for row in rows:
        n, before = row["holdout"], plain[key(row)]["right"]
        error, of_plain = (min(max(1 - right / n, 0.5 / n), 1 - 0.5 / n) for right in (row["right"], before))
        slope = 1 / max(of_plain * (1 - of_plain), 1 / n)  # of the logit, per unit of error
        gains.append(np.log(of_plain / (1 - of_plain)) - np.log(error / (1 - error)))
        weights.append(1 / (slope**2 * max(row["only_it"] + row["only_without"], 1) / n**2))
    return float(np.average(gains, weights=weights)), float(NORMAL / np.sum(weights) ** 0.5)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies the training of a row."""
    return row["competition"], row["epochs"], row["seed"]


def main() -> None:
    """Measure what today's record lacks, and print the gains."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--epochs", nargs="+", type=int, default=[4, 12, 36])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    asked = [
        {"competition": competition, "epochs": epochs, "seed": seed}
        for seed in arguments.seeds
        for epochs in arguments.epochs
        for competition in arguments.competitions
    ]
    rows = _record.measured("views", __doc__.splitlines()[0], asked, measure)
    plain = {key(row): row for row in rows if row["views"] == "none"}
    for name in list(VIEWS)[1:]:
        for epochs in [*arguments.epochs, None]:
            of_these = [row for row in rows if row["views"] == name and epochs in (None, row["epochs"])]
            if of_these:
                mean, half = gain(of_these, plain)
                print(f"{name:14} {f'{epochs} epochs' if epochs else 'all':10} {mean:+.3f} logits (± {half:.3f})")
    for row in rows:
        print(
            f"{row['competition']:12} {row['epochs']:3} epochs  {row['views']:14} {row['right'] / row['holdout']:.2%}"
        )


if __name__ == "__main__":
    main()
