"""Measure the bias and the coverage of holdouts with few images per class: see `coverage.py --stratified`.

Labelled images are drawn from scikit-learn's digits, 30 % of them are held out, stratified or at random, and a
classifier is fitted to the others: a mixture of Gaussians around the classes' means, with the frequencies of its
training images as prior. The true accuracy is that on all other digits, with the frequencies of the population.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.split import divide
from featherweight.evaluation import metrics, stratification
from featherweight.evaluation.metrics import METRICS
from featherweight.schema import OneOf

DIGITS = 10
HELD_OUT = 0.3
# How many images of each class there are: by chance, of equally frequent classes or not, or equally many on purpose.
SIZES = {"by chance": np.ones(DIGITS), "by chance, up to 3 : 1": np.linspace(3, 1, DIGITS), "equal": None}
CLASSIFIERS = {"as sure as it should be": 1.0, "unsure": 4.0}  # variance of each Gaussian
IMAGES = (100, 400)
SPLITS = ("stratified", "random")


def cells() -> list[dict[str, Any]]:
    """Return the arguments of `cell` but for the draws."""
    named = ("sizes", "classifier", "images", "split")
    return [dict(zip(named, one, strict=True)) for one in itertools.product(SIZES, CLASSIFIERS, IMAGES, SPLITS)]


def cell(sizes: str, classifier: str, images: int, split: str, draws: int) -> dict[str, Any]:
    """Return mean bias of the accuracy, what is left of it after the correction, the standard error of the former, and
    the fraction of plain and of printed intervals that hold; all but the last two in points.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    pixels, accuracy = pixels / 16, OneOf(METRICS).validate("accuracy")
    random, rows = np.random.default_rng([images, len(sizes), len(classifier)]), []
    frequencies = SIZES[sizes]
    population = np.full(DIGITS, 1 / DIGITS) if frequencies is None else frequencies / frequencies.sum()
    for _ in range(draws):
        many = np.full(DIGITS, images // DIGITS) if frequencies is None else random.multinomial(images, population)
        drawn = np.concatenate([random.permutation(np.flatnonzero(labels == k))[: many[k]] for k in range(DIGITS)])
        held = _held_out(labels[drawn], split, random)
        answers = _answers(pixels, pixels[drawn[~held]], labels[drawn[~held]], CLASSIFIERS[classifier])
        others = np.setdiff1d(np.arange(len(labels)), drawn)
        recall = np.bincount(labels[others], answers[others] == labels[others], DIGITS) / np.bincount(labels[others])
        judged = {"predicted": answers[drawn[held]], "true": labels[drawn[held]], "groups": None}
        plain = metrics.judge(accuracy, **judged)
        told = stratification.judge(accuracy, **judged, labelled=images)
        bias, truth = stratification.bias(accuracy, **judged, labelled=images), float(population @ recall)
        holds = [one.low <= truth <= one.high for one in (plain, told)]
        rows.append([100 * (plain.value - truth), 100 * (plain.value - bias - truth), *holds])
    means, errors = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(draws)
    return dict(zip(("bias", "left", "plain", "printed", "error"), [*means.tolist(), float(errors[0])], strict=True))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| class sizes | classifier | images | split | bias | left | plain interval | printed interval |"]
    lines.append("|---" * 8 + "|")
    for row in rows:
        shares = f"{row['plain']:.1%} | {row['printed']:.1%}"
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
