"""Test plans for a data set without its own learning curves: does the forecast hold, and what does the choice cost?

    ./run.sh bench leave_one_out

The rows of each data set in src/featherweight/planning/curves.csv are removed in turn, and its cheapest training (the
fewest parameters, then the fewest epochs) is put back as the pilot that a plan would train. Then each of its other
trainings is forecast. Prints how many scores lie within the 95 % range, and how many points the training with the best
forecast lies below the best training. A pilot often sees a few of many images, so trainings are also forecast from each
one on fewer images of the same data set: prints the mean miss in logits. Nothing is trained.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

import _record
from featherweight.planning.curves import Curves, MeasuredTraining, ScoreForecast, table
from featherweight.planning.dataset_facts import DatasetFacts


def tasks(rows: list[MeasuredTraining]) -> dict[str, list[MeasuredTraining]]:
    """Return the rows per task (data set, number of images, start); tasks with a single row are left out."""
    by_task: dict[str, list[MeasuredTraining]] = defaultdict(list)
    for row in rows:
        start = "pretrained" if row.published else "from scratch"
        by_task[f"{row.dataset}, {row.images:,} images, {start}"].append(row)
    return {name: of for name, of in by_task.items() if len(of) > 1}


def forecast(curves: Curves, row: MeasuredTraining) -> ScoreForecast:
    """Forecast a row's training from the curves."""
    facts = DatasetFacts(
        row.images, row.holdout, 0, row.classes, 1, row.size, row.side, row.channels, mirror=False, pretrained=False
    )
    return curves.forecast(facts, row.parameters, row.epochs, row.size, row.published)


def misses_from_fewer_images(rows: list[MeasuredTraining], published: bool) -> list[float]:
    """Return by how many logits the forecasts miss (below 0: too low) of each training, with pretrained weights or
    without, from another on less than two thirds of its images, without the other rows of the data set.
    """
    missed = []
    for row, pilot in itertools.permutations([row for row in rows if row.published == published], 2):
        if row.dataset == pilot.dataset and row.images > 1.5 * pilot.images:
            known = [other for other in rows if other.dataset != row.dataset]
            expected = forecast(Curves(known, [replace(pilot, dataset="pilot")]), row).value
            missed.append(float(np.log(expected / (1 - expected)) - np.log((1 - row.error) / row.error)))
    return missed


def main() -> None:
    """Forecast, compare, print, write the record."""
    rows = table()
    summaries: dict[str, dict[str, Any]] = {}
    for name, own in tasks(rows).items():
        pilot, *others = sorted(own, key=lambda row: (row.parameters, row.epochs))
        known = [row for row in rows if row.dataset != own[0].dataset]
        curves = Curves(known, [replace(pilot, dataset="pilot")])
        forecasts = [(row, forecast(curves, row)) for row in others]
        within = [one.low <= 1 - row.error <= one.high for row, one in forecasts]
        chosen, _ = max(forecasts, key=lambda pair: pair[1].value)
        best = min(others, key=lambda row: row.error)
        summaries[name] = {
            "forecasts": len(within),
            "within": sum(within),
            "mean_miss": sum(abs(one.value - 1 + row.error) for row, one in forecasts) / len(forecasts),
            "lost": chosen.error - best.error,
        }
        miss = summaries[name]["mean_miss"]
        print(f"{name}: {sum(within)} of {len(within)} within their range, mean error {miss:.1%}")
        print(f"  the choice loses {100 * summaries[name]['lost']:.1f} points")
    total, within_all = (sum(one[key] for one in summaries.values()) for key in ("forecasts", "within"))
    print(f"{within_all} of {total} within their range; largest loss by a choice: ", end="")
    print(f"{100 * max(one['lost'] for one in summaries.values()):.1f} points")
    fewer: dict[str, dict[str, float]] = {}
    for start, published in (("from scratch", False), ("pretrained", True)):
        missed = misses_from_fewer_images(rows, published)
        size, bias = float(np.mean(np.abs(missed))), float(np.mean(missed))
        print(f"{start}, from fewer images: {len(missed)} forecasts, mean miss {size:.2f} logits, signed {bias:+.2f}")
        fewer[start] = {"forecasts": len(missed), "miss": size, "bias": bias}
    fields = {"tasks": summaries, "from_fewer_images": fewer}
    print(f"written: {_record.write('leave-one-out', __doc__.splitlines()[0], fields).name}")


if __name__ == "__main__":
    main()
