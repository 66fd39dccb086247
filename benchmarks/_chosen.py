"""Measure the optimism of the best of several classifiers, and its estimate: see `coverage.py --chosen`.

Classifiers have an accuracy of about 85 %; they are equally good, or their accuracies have a standard deviation of 3
points. They are right on the same images more often than by chance (a correlation of 0.7 of what decides it). The best
of them on the holdout is chosen.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.stats import norm

from featherweight.evaluation.metrics import METRICS
from featherweight.runs import selection
from featherweight.schema import OneOf

ACCURACY = 0.85
SPREADS = (0.0, 0.03)
CLASSIFIERS = (2, 5, 20)
IMAGES = (143, 1000)
CORRELATION = 0.7


def cells() -> list[dict[str, Any]]:
    """Return the arguments of `cell` but for the draws."""
    named = ("images", "classifiers", "spread")
    return [dict(zip(named, one, strict=True)) for one in itertools.product(IMAGES, CLASSIFIERS, SPREADS)]


def cell(images: int, classifiers: int, spread: float, draws: int) -> dict[str, Any]:
    """Return the mean optimism of the best, its standard error, its mean estimate, and the root mean square of what is
    left of it without and with the correction; all in points.
    """
    accuracy, labels = OneOf(METRICS).validate("accuracy"), np.ones(images, dtype=np.int64)
    random, rows = np.random.default_rng([images, classifiers]), []
    for _ in range(draws):
        truth = (ACCURACY + spread * random.normal(size=(classifiers, 1))).clip(0.01, 0.99)
        hardness = CORRELATION**0.5 * random.normal(size=images)
        hardness = hardness + (1 - CORRELATION) ** 0.5 * random.normal(size=(classifiers, images))
        right = (hardness < norm.ppf(truth)).astype(np.int64)
        best = np.argsort(-right.mean(1), kind="stable")
        told = selection.of_the_best(list(right[best]), labels, accuracy, groups=None)
        rows.append((100 * float(right[best[0]].mean() - truth[best[0], 0]), 100 * told))
    optimism, told = np.transpose(rows)
    return {
        "optimism": float(optimism.mean()),
        "error": float(optimism.std() / draws**0.5),
        "estimated": float(told.mean()),
        "off without": float(np.sqrt((optimism**2).mean())),
        "off with": float(np.sqrt(((optimism - told) ** 2).mean())),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| images | classifiers | accuracies differ by | optimism | estimated | error without, with correction |"]
    lines.append("|---" * 6 + "|")
    for row in rows:
        numbers = f"{row['images']:,} | {row['classifiers']} | {100 * row['spread']:.0f}"
        told = f"{row['optimism']:.1f} ± {row['error']:.1f} | {row['estimated']:.1f}"
        lines.append(f"| {numbers} | {told} | {row['off without']:.1f}, {row['off with']:.1f} |")
    return lines
