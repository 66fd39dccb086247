"""Intervals hold as often as they say: the short version of `./run.sh bench coverage`."""

import importlib.util
import sys

import numpy as np
import pytest

from conftest import ROOT
from featherweight.evaluation import intervals
from featherweight.evaluation.metrics import METRICS

sys.path.insert(0, str(ROOT / "benchmarks"))
spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "benchmarks" / "coverage.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

QUICK = sorted(name for name, metric in METRICS.items() if name not in ("mean_average_precision", "auc"))


@pytest.mark.parametrize("name", QUICK)
def test_the_intervals_of_every_metric_hold(name, monkeypatch):
    monkeypatch.setattr(bench, "POPULATION", 20_000)
    for target in METRICS[name].targets:
        found = bench.cell(name, 150, 1.5, target == "several", 150)
        assert 0.89 <= found["coverage"] <= 1, (target, found)


@pytest.mark.parametrize("name", ["auc", "mean_average_precision"])
def test_the_intervals_of_areas_hold(name, monkeypatch):
    monkeypatch.setattr(bench, "POPULATION", 20_000)
    found = bench.cell(name, 100, 1.5, False, 40)
    assert 0.85 <= found["coverage"] <= 1, found


@pytest.mark.parametrize("count", [30, 100, 1000])
def test_a_proportion_of_many_truths_holds_in_95_of_100_cases(count):
    random = np.random.default_rng(count)
    ends = [intervals.proportion(hits, count) for hits in range(count + 1)]
    for low, high in ((0.3, 0.7), (0.8, 0.95)):
        truths = random.uniform(low, high, 4000)
        held = [
            ends[hits][0] <= p <= ends[hits][1] for p, hits in zip(truths, random.binomial(count, truths), strict=True)
        ]
        assert 0.93 <= np.mean(held) <= 0.97


def test_flawless_and_hopeless_scores_leave_doubt_at_one_end_alone():
    assert intervals.proportion(0, 50) == (0.0, pytest.approx(1 - 0.05 ** (1 / 50)))
    assert intervals.proportion(50, 50) == (pytest.approx(0.05 ** (1 / 50)), 1.0)
    low, high = intervals.bounded(1.0, np.ones(100), 50)
    assert high == 1.0
    assert 0.9 < low < 0.97
    assert intervals.bounded(-1.0, -np.ones(100), 50, (-1.0, 1.0))[0] == -1.0
