"""How often the 95 % intervals hold: every metric on simulated images whose true score is known.

    ./run.sh bench coverage --draws 400

Each cell is a metric, a number of images (30 to 10,000) and a strength of the classifier, from weak to nearly flawless;
of fresh images the share of intervals that hold the true score is counted. The truth is the score of a million images.
Writes a dated JSON to benchmarks/results/ with every cell, and says which are outside 93 to 97 %.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _record
from featherweight.console import Progress
from featherweight.evaluation.metrics import METRICS

CLASSES = 5
STRENGTHS = {"weak": 1.0, "good": 2.5, "nearly flawless": 6.0}
COUNTS = (30, 100, 1000, 10_000)
POPULATION = 200_000
WIDE = 0.02  # beyond 93 to 97 % by what the number of draws explains in one of a hundred cells


def images(
    count: int, strength: float, several: bool, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities [N, K] and true classes [N] or sets [N, K], unbalanced three to one."""
    if several:
        frequency = np.linspace(0.5, 0.17, CLASSES)
        true = (random.random((count, CLASSES)) < frequency).astype(np.uint8)
        logits = random.normal(size=true.shape) + np.log(frequency / (1 - frequency)) + strength * (true - frequency)
        return 1 / (1 + np.exp(-logits)), true
    shares = np.linspace(3, 1, CLASSES)
    labels = random.choice(CLASSES, count, p=shares / shares.sum())
    logits = random.normal(size=(count, CLASSES))
    logits[np.arange(count), labels] += strength
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return probs / probs.sum(1, keepdims=True), labels


def truth(name: str, strength: float, several: bool) -> float:
    """The score of very many images, in parts that fit into the memory."""
    parts = [images(POPULATION, strength, several, np.random.default_rng(10**6 + part)) for part in range(5)]
    return float(np.mean([METRICS[name].value(*part) for part in parts]))


def cell(name: str, count: int, strength: float, several: bool, draws: int) -> dict[str, float]:
    """Of `draws` sets of images, the share whose interval holds the truth, lies above it and lies below it."""
    true_score = truth(name, strength, several)
    random = np.random.default_rng([count, draws])
    scores = [METRICS[name](*images(count, strength, several, random)) for _ in range(draws)]
    above = float(np.mean([score.low > true_score + 1e-12 for score in scores]))
    below = float(np.mean([score.high < true_score - 1e-12 for score in scores]))
    return {"truth": true_score, "coverage": 1 - above - below, "above": above, "below": below}


def cells(names: list[str], counts: tuple[int, ...], strengths: list[str]) -> list[tuple[str, bool, int, str]]:
    """Every cell: metric, whether of sets, images, strength."""
    return [
        (name, target == "several", count, strength)
        for name in names
        for target in METRICS[name].targets
        for count in counts
        for strength in strengths
    ]


def main() -> None:
    """Measure, write and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--metrics", nargs="*", default=list(METRICS))
    parser.add_argument("--images", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--out", type=Path, default=_record.RESULTS)
    given = parser.parse_args()
    chosen = cells(given.metrics, tuple(given.images), list(STRENGTHS))
    rows = []
    with Progress("coverage", len(chosen), "cells") as bar:
        for name, several, count, strength in chosen:
            # Long bootstraps of many images: fewer draws say as much as is needed, for there the theory is certain.
            draws = given.draws if count < 5000 else max(100, given.draws // 2)
            found = cell(name, count, STRENGTHS[strength], several, draws)
            target = "several" if several else "one"
            rows.append(
                {"metric": name, "target": target, "images": count, "classifier": strength, "draws": draws, **found}
            )
            bar.advance(1)
    outside = []
    for row in rows:
        chance = 2.58 * math.sqrt(0.95 * 0.05 / row["draws"])
        if not 0.95 - WIDE - chance <= row["coverage"] <= 0.95 + WIDE + chance:
            outside.append(row)
            print("{metric} of {target}, {images:,} images, {classifier}: {coverage:.1%}".format(**row))
    share = float(np.mean([row["coverage"] for row in rows]))
    print(f"{len(rows)} cells, {share:.2%} of the intervals hold; {len(outside)} cells outside 93 to 97 %")
    print(f"wrote {_record.write('coverage', main.__doc__ or '', {'cells': rows, 'mean': share}, out=given.out)}")


if __name__ == "__main__":
    main()
