"""Measure the bias and the coverage of holdouts with few images per class: see `coverage.py --stratified`.

Labelled images are drawn from scikit-learn's digits, 30 % of them are held out, stratified or at random, and a
classifier is fitted to the others: a mixture of Gaussians around the classes' means, with the frequencies of its
training images as prior. The true accuracy is that on all other digits, with the frequencies of the population.

Sets of classes are one to three digits on top of each other; each digit has a classifier of two Gaussians, and the
score is the mean F1 of the images.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.split import divide, rarest
from featherweight.evaluation import leaderboard, metrics, stratification
from featherweight.evaluation.metrics import METRICS, Score
from featherweight.schema import OneOf

DIGITS = 10
HELD_OUT = 0.3
# How many images of each class there are: by chance, of equally frequent classes or not, or equally many on purpose.
SIZES = {"by chance": np.ones(DIGITS), "by chance, up to 3 : 1": np.linspace(3, 1, DIGITS), "equal": None}
SETS = "sets of one to three classes, by chance"
CLASSIFIERS = {"as sure as it should be": 1.0, "unsure": 4.0}  # variance of each Gaussian
IMAGES = (100, 400)
SPLITS = ("stratified", "random")
PUBLIC, PRIVATE = 300, 700  # images to predict
NEW = 1500  # images with sets of classes that the true score is that of


def cells() -> list[dict[str, Any]]:
    """Return the arguments of `cell` but for the draws."""
    named, each = ("split", "sizes", "classifier", "images"), (SPLITS, (*SIZES, SETS), CLASSIFIERS, IMAGES)
    return [dict(zip(named, one, strict=True)) for one in itertools.product(*each)]


def cell(sizes: str, classifier: str, images: int, split: str, draws: int) -> dict[str, Any]:
    """Return mean bias of the score, what is left of it after the correction, the standard error of the former, and the
    fraction of plain and of printed intervals, and of ranges for a private part, that hold; the bias, what is left and
    the error in points.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    world, rows = (pixels / 16, labels), []
    random, drawn = np.random.default_rng([images, len(sizes), len(classifier)]), _sets if sizes == SETS else _classes
    for _ in range(draws):
        plain, bias, truth, private = drawn(world, sizes, CLASSIFIERS[classifier], images, split, random)
        told = stratification.widened(plain, bias)
        _, expected = leaderboard.parts_of(plain, -bias, (0.0, {}), (PUBLIC, PRIVATE), [])
        ends = ((plain.low, truth, plain.high), (told.low, truth, told.high), (expected[1], private, expected[2]))
        holds = [low <= value <= high for low, value, high in ends]
        rows.append([100 * (plain.value - truth), 100 * (plain.value - bias - truth), *holds])
    means, errors = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(draws)
    named = ("bias", "left", "plain", "printed", "private", "error")
    return dict(zip(named, [*means.tolist(), float(errors[0])], strict=True))


World = tuple[NDArray[np.float64], NDArray[np.int64]]  # pixels [N, 64] and classes [N] of all digits
Outcome = tuple[
    Score, float, float, float
]  # of the holdout, its estimated bias, the true score, that of a private part


def _classes(
    world: World, sizes: str, variance: float, images: int, split: str, random: np.random.Generator
) -> Outcome:
    """Draw a data set of one class per image and judge a classifier by the accuracy."""
    (pixels, labels), accuracy = world, OneOf(METRICS).validate("accuracy")
    frequencies = SIZES[sizes]
    population = np.full(DIGITS, 1 / DIGITS) if frequencies is None else frequencies / frequencies.sum()
    many = np.full(DIGITS, images // DIGITS) if frequencies is None else random.multinomial(images, population)
    drawn = np.concatenate([random.permutation(np.flatnonzero(labels == k))[: many[k]] for k in range(DIGITS)])
    held = _held_out(labels[drawn], split, random)
    answers = _answers(pixels, pixels[drawn[~held]], labels[drawn[~held]], variance)
    others = np.setdiff1d(np.arange(len(labels)), drawn)
    recall = np.bincount(labels[others], answers[others] == labels[others], DIGITS) / np.bincount(labels[others])
    judged = {"predicted": answers[drawn[held]], "true": labels[drawn[held]], "groups": None}
    bias, truth = stratification.bias(accuracy, **judged, labelled=images), float(population @ recall)
    return metrics.score_of(accuracy, **judged), bias, truth, random.binomial(PRIVATE, truth) / PRIVATE


def _sets(world: World, sizes: str, variance: float, images: int, split: str, random: np.random.Generator) -> Outcome:
    """Draw a data set of sets of classes and judge a classifier by the mean F1 of the images."""
    (pixels, labels), score = world, OneOf(METRICS).validate("samples_f1")
    in_set = random.random((images + NEW, DIGITS)).argsort(1).argsort(1) < random.integers(1, 4, images + NEW)[:, None]
    rows, of_class = np.nonzero(in_set)
    summed = np.zeros((len(in_set), pixels.shape[1]))
    place = np.array([random.choice(np.flatnonzero(labels == k), len(of_class)) for k in range(DIGITS)])
    np.add.at(summed, rows, pixels[place[of_class, np.arange(len(of_class))]])
    true, new = in_set.astype(np.uint8), np.arange(len(in_set)) >= images
    held = np.zeros(len(in_set), dtype=bool)
    held[:images] = _held_out(rarest(true[:images]), split, random)
    seen = ~(held | new)
    logits = [_logit(summed, summed[seen], in_set[seen, k], variance) for k in range(DIGITS)]
    answers = (np.stack(logits, 1) > 0).astype(np.uint8)
    holdout, bias = metrics.score_of(score, answers[held], true[held], groups=None), 0.0  # none is estimated for sets
    private = np.flatnonzero(new)[:PRIVATE]
    truth, there = (metrics.value(score, answers[some], true[some]) for some in (new, private))
    return holdout, bias, truth, there


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table."""
    heads = ("class sizes", "classifier", "images", "split", "bias", "left", "plain interval", "printed", "private")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        shares = " | ".join(f"{row[held]:.1%}" for held in ("plain", "printed", "private"))
        off = f"{row['bias']:+.1f} ± {row['error']:.1f} | {row['left']:+.1f}"
        lines.append(f"| {row['sizes']} | {row['classifier']} | {row['images']} | {row['split']} | {off} | {shares} |")
    return lines


def _held_out(labels: NDArray[np.int64], split: str, random: np.random.Generator) -> NDArray[np.bool_]:
    """Return True [N] for the images that are held out."""
    held = np.zeros(len(labels), dtype=bool)
    if split == "random":
        held[random.permutation(len(labels))[: round(HELD_OUT * len(labels))]] = True
    else:
        ids, seed = [str(k) for k in range(len(labels))], int(random.integers(2**31))
        held[divide(ids, [str(label) for label in labels], holdout=HELD_OUT, seed=seed).holdout] = True
    return held


def _answers(
    images: NDArray[np.float64], seen: NDArray[np.float64], labels: NDArray[np.int64], variance: float
) -> NDArray[np.int64]:
    """Return the most probable class of each of `images` [N, P] after training on those `seen` [M, P]."""
    many = np.bincount(labels, minlength=DIGITS)
    sums = np.zeros((DIGITS, seen.shape[1]))
    np.add.at(sums, labels, seen)
    means = (sums + seen.mean(0)) / (many + 1)[:, None]
    logits = (images @ means.T - 0.5 * (means**2).sum(1)) / variance + np.log(np.maximum(many, 1e-9))
    answers: NDArray[np.int64] = logits.argmax(1)
    return answers


def _logit(
    images: NDArray[np.float64], seen: NDArray[np.float64], has: NDArray[np.bool_], variance: float
) -> NDArray[np.float64]:
    """Return the log odds of a class in each of `images` [N, P], after training on those `seen` [M, P] that `has` it
    [M] or not. The variance is in units of that of a pixel.
    """
    mean, spread = seen.mean(0), variance * float(seen.var(0).mean())
    yes, no = ((seen[part].sum(0) + mean) / (part.sum() + 1) for part in (has, ~has))
    odds = (has.sum() + 0.5) / ((~has).sum() + 0.5)
    logits: NDArray[np.float64] = (images @ (yes - no) - 0.5 * (yes**2 - no**2).sum()) / spread + np.log(odds)
    return logits
