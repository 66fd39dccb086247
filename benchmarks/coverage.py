"""Measure the coverage of the 95 % intervals: every metric on simulated images whose true score is known.

    ./run.sh bench coverage --draws 1000
    ./run.sh bench coverage --leaderboard 400    instead, simulate public and private scores: see `_leaderboards.py`
    ./run.sh bench coverage --stratified 400     instead, hold out few images per class: see `_small_holdouts.py`
    ./run.sh bench coverage --chosen 300         instead, choose the best of several classifiers: see `_chosen.py`
    ./run.sh bench coverage --folds 2            instead, estimate the gain of a mean of folds: see `_folds.py`
    ./run.sh bench coverage --cells 2 4          instead, train real runs with seeds 2 and 3: see `_cells.py`

A cell is a kind of data (five classes with frequencies up to 3:1; two classes, one with a tenth of the images;
multi-label data with five classes), a number of images (30 to 10,000) and a quality of the classifier, from useless to
nearly perfect. The strength of the classifier alternates between four values: a proportion of 30 images has so few
possible values that with a single strength the coverage jumps between 90 and 100 %. What should be near 95 % is the
mean coverage over true scores (Agresti and Coull 1998). The true score is that of half a million images. If it is
exactly 0 or 100 %, an interval that includes that end always holds, so there only a coverage that is too low is counted
as an error.

The record in reports/bench/ is written after every cell; the same command on the same day continues it.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _cell_summary
import _cells
import _chosen
import _folds
import _leaderboards
import _record
import _small_holdouts
from featherweight.evaluation.metrics import METRICS

COUNTS = (30, 100, 1000, 10_000)
POPULATION = 500_000  # images for the true score: its standard error is a seventh of that of 10,000 images
PIECE = 100_000
SLOW = 5  # at 10,000 images only one draw in five is scored by average precision, which takes a third of a second
LEAST = 1e-7  # tolerance when two scores are compared
CLASSIFIERS = {
    "hopeless": (-3.0, -2.0, -1.5, -1.0),
    "weak": (0.0, 0.5, 1.0, 1.5),
    "good": (2.0, 2.5, 3.0, 3.25),
    "nearly flawless": (3.5, 4.0, 4.5, 5.0),
    "flawless": (40.0,),
}


@dataclass(frozen=True)
class World:
    """A kind of simulated data: the frequency of each class, and whether images have several classes."""

    shares: tuple[float, ...]
    several: bool = False

    @property
    def target(self) -> str:
        """The kind of target, as metrics name it."""
        return "several" if self.several else "one"

    def metrics(self) -> list[str]:
        """Return the names of the metrics for this kind of target."""
        return [name for name, metric in METRICS.items() if self.target in metric.targets]

    def images(self, count: int, strength: float, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw probabilities float64 [N, K] and true classes int64 [N], or multi-label targets uint8 [N, K]."""
        shares = np.array(self.shares)
        if self.several:
            true = (random.random((count, len(shares))) < shares).astype(np.uint8)
            logits = random.normal(size=true.shape) + np.log(shares / (1 - shares)) + strength * (true - shares)
            return 1 / (1 + np.exp(-logits)), true
        labels = random.choice(len(shares), count, p=shares)
        logits = random.normal(size=(count, len(shares)))
        logits[np.arange(count), labels] += strength
        probs = np.exp(logits - logits.max(1, keepdims=True))
        return probs / probs.sum(1, keepdims=True), labels


WORLDS = {
    "five classes": World((5 / 15, 4 / 15, 3 / 15, 2 / 15, 1 / 15)),
    "one in ten": World((0.9, 0.1)),
    "sets of five": World((0.5, 0.42, 0.33, 0.25, 0.17), several=True),
}


def keys(name: str, world: World) -> dict[str, Any]:
    """Return arguments with which a metric differs from similar ones (k = 1 would make top-k equal to accuracy)."""
    if name == "weighted_log_loss":
        return {"weights": list(range(1, len(world.shares) + 1))}
    return {"k": 2} if name in ("top_k", "map_at_k") else {}


@cache
def truths(name: str, strength: float) -> dict[str, float]:
    """Return every metric's value on half a million images of a world, computed in pieces that fit into memory."""
    world, random = WORLDS[name], np.random.default_rng([len(WORLDS[name].shares), int(100 * strength) + 1000])
    pieces = [world.images(min(PIECE, POPULATION), strength, random) for _ in range(max(1, POPULATION // PIECE))]
    return {
        metric: float(np.mean([METRICS[metric].value(*piece, **keys(metric, world)) for piece in pieces]))
        for metric in world.metrics()
    }


def cell(name: str, classifier: str, count: int, draws: int, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return, per metric, the fractions of `draws` samples whose interval contains the truth, is above or below it."""
    world, random = WORLDS[name], np.random.default_rng([count, draws])
    chosen = [metric for metric in world.metrics() if metric in metrics]
    above, below = dict.fromkeys(chosen, 0), dict.fromkeys(chosen, 0)
    lengths = dict.fromkeys(chosen, 0.0)
    strengths = CLASSIFIERS[classifier]
    asked = {metric: draws // (SLOW if metric == "mean_average_precision" and count > 1000 else 1) for metric in chosen}
    for draw in range(draws):
        strength = strengths[draw % len(strengths)]
        images = world.images(count, strength, random)
        for metric in chosen:
            if draw >= asked[metric]:
                continue
            truth, score = truths(name, strength)[metric], METRICS[metric](*images, **keys(metric, world), groups=None)
            above[metric] += score.low > truth + LEAST
            below[metric] += score.high < truth - LEAST
            lengths[metric] += score.high - score.low
    return {
        metric: {
            "draws": asked[metric],
            "held": 1 - (above[metric] + below[metric]) / asked[metric],
            "above": above[metric] / asked[metric],
            "below": below[metric] / asked[metric],
            "length": lengths[metric] / asked[metric],
        }
        for metric in chosen
    }


def outside(row: dict[str, Any]) -> bool:
    """True if the coverage is significantly outside of 93 to 97 % (at the 1 % level, given the number of draws)."""
    chance = 2.58 * math.sqrt(0.95 * 0.05 / row["draws"])
    too_many = row["held"] > 0.97 + chance and row["classifier"] != "flawless"
    return bool(row["held"] < 0.93 - chance or too_many)


def main() -> None:
    """Measure, write the record, print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--metrics", nargs="*", default=list(METRICS))
    parser.add_argument("--images", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--classifiers", nargs="*", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    parser.add_argument("--out", type=Path, default=_record.RESULTS)
    text = "instead, train real runs with known test labels, with the seeds from FIRST to END - 1"
    parser.add_argument("--cells", type=int, nargs=2, metavar=("FIRST", "END"), help=text)
    text = "the kinds of trouble of these runs (default: all)"
    parser.add_argument("--troubles", nargs="*", default=list(_cells.TROUBLES), choices=_cells.TROUBLES, help=text)
    text = "instead, simulate this many public and private scores and compare them with the expected range"
    parser.add_argument("--leaderboard", type=int, metavar="DRAWS", help=text)
    text = "instead, hold out few images per class this many times, with classifiers that take no time to fit"
    parser.add_argument("--stratified", type=int, metavar="DRAWS", help=text)
    text = "instead, choose the best of several classifiers this many times, and estimate its optimism"
    parser.add_argument("--chosen", type=int, metavar="DRAWS", help=text)
    text = (
        "instead, train folds this many times with networks that take no time to fit, and compare their mean with each"
    )
    parser.add_argument("--folds", type=int, metavar="DRAWS", help=text)
    arguments = parser.parse_args()
    if arguments.leaderboard is not None:
        leaderboards(arguments.leaderboard, arguments.out)
        return
    if arguments.stratified is not None:
        small_holdouts(arguments.stratified, arguments.out)
        return
    if arguments.chosen is not None:
        best_of_several(arguments.chosen, arguments.out)
        return
    if arguments.folds is not None:
        means_of_folds(arguments.folds, arguments.out)
        return
    if arguments.cells is not None:
        real_runs(range(*arguments.cells), arguments.troubles, arguments.out)
        return
    asked = [
        {"world": world, "classifier": classifier, "images": count}
        for count in arguments.images
        for world in arguments.worlds
        for classifier in arguments.classifiers
    ]

    def one(world: str, classifier: str, images: int) -> list[dict[str, Any]]:
        shares = cell(world, classifier, images, arguments.draws, arguments.metrics)
        return [{"metric": metric, **held} for metric, held in shares.items()]

    rows = _record.measured("coverage", __doc__ or "", asked, one, arguments.out)
    tell(rows)


def leaderboards(draws: int, out: Path) -> None:
    """Simulate the cells that are missing in today's record, and print the table."""
    asked = [
        {"world": name, "classifier": classifier, "sizes": list(sizes)}
        for name, classifier, sizes in itertools.product(WORLDS, _leaderboards.CLASSIFIERS, _leaderboards.SIZES)
    ]

    def one(world: str, classifier: str, sizes: tuple[int, int]) -> list[dict[str, Any]]:
        of = WORLDS[world]
        metrics = {metric: keys(metric, of) for metric in _leaderboards.METRICS_ASKED if metric in of.metrics()}
        held = _leaderboards.cell(of.images, CLASSIFIERS[classifier], sizes, draws, metrics)
        return [{"metric": metric, **shares} for metric, shares in held.items()]

    what = _leaderboards.__doc__ or ""
    print("\n".join(_leaderboards.table(_record.measured("coverage-leaderboard", what, asked, one, out))))


def small_holdouts(draws: int, out: Path) -> None:
    """Draw the cells that are missing in today's record, and print the table."""

    def one(**cell: Any) -> list[dict[str, Any]]:
        return [{"draws": draws} | _small_holdouts.cell(**cell, draws=draws)]

    what, asked = _small_holdouts.__doc__ or "", _small_holdouts.cells()
    print("\n".join(_small_holdouts.table(_record.measured("coverage-stratified", what, asked, one, out))))


def best_of_several(draws: int, out: Path) -> None:
    """Draw the cells that are missing in today's record, and print the table."""

    def one(**cell: Any) -> list[dict[str, Any]]:
        return [{"draws": draws} | _chosen.cell(**cell, draws=draws)]

    what, asked = _chosen.__doc__ or "", _chosen.cells()
    print("\n".join(_chosen.table(_record.measured("coverage-chosen", what, asked, one, out))))


def means_of_folds(draws: int, out: Path) -> None:
    """Train the cells that are missing in today's record, and print the table."""
    what, asked = _folds.__doc__ or "", _folds.cells()
    rows = _record.measured("coverage-folds", what, asked, lambda **cell: _folds.cell(**cell, draws=draws), out)
    print("\n".join(_folds.table(rows)))


def real_runs(seeds: range, troubles: Sequence[str], out: Path) -> None:
    """Train the cells that are missing in today's record, and print a summary."""
    what, asked = _cells.__doc__ or "", _cells.cells(seeds, troubles)
    rows = _record.measured("coverage-cells", what, asked, lambda **cell: [_cells.cell(**cell)], out)
    _cell_summary.tell(_cell_summary.summary(rows))


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """Print the cells with a coverage outside of 93 to 97 %, and their number."""
    for row in filter(outside, rows):
        line = "{metric}, {world}, {classifier}, {images:,} images: {held:.1%} ({above:.1%} above, {below:.1%} below)"
        print(line.format(**row))
    share = float(np.mean([row["held"] for row in rows]))
    print(f"{len(rows)} cells: mean coverage {share:.2%}; {sum(map(outside, rows))} cells outside of 93 to 97 %")


if __name__ == "__main__":
    main()
