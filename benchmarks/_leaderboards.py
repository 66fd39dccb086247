"""Measure how often the public and private score lie in a run's expected range, on simulated images: see `coverage.py`.

The held-out images and the images behind each part of the leaderboard come from the same distribution. There are small
and large numbers of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from featherweight.evaluation.leaderboard import parts_of
from featherweight.evaluation.metrics import METRICS

SIZES = ((143, 359), (1000, 200))  # number of images held out, and to predict
PUBLIC = 0.3
CLASSIFIERS = ("good", "nearly flawless")
NO_SHIFT: tuple[float, dict[str, float]] = (0.0, {})
METRICS_ASKED = ("accuracy", "macro_f1", "samples_f1", "log_loss", "brier", "auc")
LEAST = 1e-9  # tolerance for a score that equals an end of the interval


def cell(
    images: Callable[[int, float, np.random.Generator], tuple[Any, Any]],
    strengths: Sequence[float],
    sizes: tuple[int, int],
    draws: int,
    metrics: dict[str, dict[str, Any]],
) -> dict[str, dict[str, float]]:
    """Return, per metric, the fraction of `draws` in which each part's score lies in its interval.

    `metrics` maps the name of each metric to its arguments.
    """
    held_out, to_predict = sizes
    public = round(PUBLIC * to_predict)
    parts = {"public": public, "private": to_predict - public}
    random = np.random.default_rng([held_out, to_predict])
    held: dict[str, dict[str, float]] = {metric: {"draws": draws} | dict.fromkeys(parts, 0.0) for metric in metrics}
    for draw in range(draws):
        strength = strengths[draw % len(strengths)]
        known, *scored = (images(count, strength, random) for count in (held_out, *parts.values()))
        for metric, keys in metrics.items():
            sizes = parts["public"], parts["private"]
            expected = parts_of(METRICS[metric](*known, **keys, groups=None), 0.0, NO_SHIFT, sizes, [])
            for part, (_, low, high, _), hidden in zip(parts, expected, scored, strict=True):
                score = METRICS[metric].value(*hidden, **keys)
                held[metric][part] += (low - LEAST <= score <= high + LEAST) / draws
    return held


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a Markdown table: minimum, mean and maximum over data and classifiers, per metric and sizes."""
    lines = ["| metric | " + " | ".join(f"{held:,} held out, {test:,} to predict" for held, test in SIZES) + " |"]
    lines.append("|---" * (len(SIZES) + 1) + "|")
    for metric in dict.fromkeys(row["metric"] for row in rows):
        fields = []
        for sizes in SIZES:
            shares = [
                100 * row[part]
                for row in rows
                for part in ("public", "private")
                if row["metric"] == metric and tuple(row["sizes"]) == sizes
            ]
            fields.append(f"{min(shares):.1f}, {np.mean(shares):.1f}, {max(shares):.1f}")
        lines.append(f"| {metric} | " + " | ".join(fields) + " |")
    return lines
