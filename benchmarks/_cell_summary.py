"""The summary of the cells of `_cells.py`: how often intervals held, and how far off holdouts and estimates were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from _cells import TROUBLES
from featherweight.evaluation import intervals

WITHOUT_SHIFT = ("none", "tiny validation")


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, per trouble, how often each interval held (with a 95 % interval) and the error of the estimates."""
    shares: dict[str, Any] = {"held": {}, "held or named": {}, "off": {}, "above": {}, "labels": {}}
    shares["error over 2 AUC - 1"] = {}
    for trouble in ("without shift", *TROUBLES):
        some = [row for row in rows if row["trouble"] == trouble or (trouble, row["trouble"]) in ALIKE]
        if not some:
            continue
        shares["held"][trouble] = {
            part: [*share([row["held"][part] for row in some])] for part in ("validation", "public", "private")
        }
        named = [
            row["held"]["private"] or row["shift named"] or row["groups named"] or row["labels"]["named"]
            for row in some
        ]
        shares["held or named"][trouble] = [*share(named)]
        doubts = [row["labels"] for row in some]
        shares["labels"][trouble] = {
            "named": sum(each["named"] for each in doubts),
            "interval holds": sum(each["said"][1] <= each["true"] <= each["said"][2] for each in doubts),
            "suspects": sum(each["suspects"] for each in doubts),
            "suspects wrong": sum(each["suspects wrong"] for each in doubts),
            "of confident learning": [sum(each["confident learning"][k] for each in doubts) for k in (1, 2)],
        }
        errors = [
            {name.split(" with ")[0]: value - row["hidden"]["validation"] for name, value in row["estimates"].items()}
            | {"holdout": row["holdout"][0] - row["hidden"]["validation"]}
            for row in some
        ]
        shares["off"][trouble] = {
            name: float(np.sqrt(np.mean([each[name] ** 2 for each in errors if name in each]))) for name in errors[0]
        }
        shares["above"][trouble] = {
            "holdout": float(np.mean([row["holdout"][0] - row["hidden"]["validation"] for row in some])),
            "expected": float(np.mean([row["expected"] - row["hidden"]["private"] for row in some])),
        }
        shares["error over 2 AUC - 1"][trouble] = error_over_shift(some)
    shares["error over 2 AUC - 1"]["all"] = error_over_shift(rows)
    return shares


def error_over_shift(rows: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Return the error of the mean label-free estimate, divided by 2 AUC - 1, and the number of runs.

    The error is a root mean square over the runs that named a shift. `featherweight.runs.without_labels.ERROR` is set
    from it.
    """
    parts = [
        (float(np.mean(list(row["estimates"].values()))) - row["hidden"]["validation"]) / (2 * row["auc"][0] - 1)
        for row in rows
        if row["shift named"]
    ]
    return float(np.sqrt(np.mean(np.square(parts)))) if parts else 0.0, len(parts)


ALIKE = {("without shift", trouble) for trouble in WITHOUT_SHIFT}


def share(held: Sequence[bool]) -> tuple[float, float, float, int]:
    """Return the fraction that is true, the two ends of its 95 % interval, and the number of values."""
    return float(np.mean(held)), *intervals.proportion(sum(held), len(held)), len(held)


def tell(shares: dict[str, Any]) -> None:
    """Print a summary as the tables of `docs/intervals.md`."""
    print(
        "| problem | cells | validation interval holds | private interval holds | holds, or run warned "
        "| holdout, expected above the truth | error of ATC, DoC, weights, holdout (points) |"
    )
    print("|---" * 7 + "|")
    for trouble, parts in shares["held"].items():
        named, above, off = (shares[what][trouble] for what in ("held or named", "above", "off"))
        held = [_percent(*each) for each in (parts["validation"], parts["private"], named)]
        beyond = ", ".join(f"{100 * above[name]:+.1f}" for name in ("holdout", "expected"))
        errors = ", ".join(f"{100 * off[name]:.1f}" for name in ("ATC", "DoC", "importance weights", "holdout"))
        print(f"| {trouble} | {named[3]} | {' | '.join(held)} | {beyond} | {errors} |")
    for trouble, labels in shares["labels"].items():
        print(f"labels, {trouble}: " + ", ".join(f"{name} {value}" for name, value in labels.items()))
    error, runs = shares["error over 2 AUC - 1"]["all"]
    print(f"root mean square error of the estimates in {runs} runs that named a shift: {error:.3f} times 2 AUC - 1")


def _percent(part: float, low: float, high: float, cells: int) -> str:
    return f"{100 * part:.0f} % [{100 * low:.0f}, {100 * high:.0f}]" if cells else ""
