"""Whether one run is better than another: paired tests on the same images, and tests over seeds if there are several.

A comparison of two runs is about these weights on images of this kind. That one *recipe* is better than another needs
several seeds of both, since two seeds of one recipe differ as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import Groups, independent, numbered
from featherweight.evaluation.metrics import Metric, metric_by_name, metric_of, plain, resampled, spoken, value
from featherweight.schema import Choice

REPLICATES = 1000  # bootstrap resamples at least; more for many comparisons
ALPHA = 0.05  # significance level


@dataclass(frozen=True)
class HoldoutPredictions:
    """What a run predicts for its holdout.

    Attributes:
        name: of the run.
        probs: float32 [N, K], at its cross-fitted temperature.
        labels: true classes [N], or sets [N, K].
        decided: its answers, if they are not those of the unfitted rule.
        groups: int64 [N], the same number for related images; None if no images are related.
    """

    name: str
    probs: NDArray[np.float32]
    labels: NDArray[Any]
    decided: NDArray[Any] | None = None
    groups: Groups | None = None

    @property
    def several(self) -> bool:
        """True if each image has a set of classes."""
        return self.labels.ndim == 2

    @property
    def right(self) -> NDArray[np.bool_]:
        """True [N] for the images whose class, or whole set, is right."""
        answers = plain(self.probs, self.several) if self.decided is None else self.decided
        right: NDArray[np.bool_] = answers == self.labels
        return np.all(right, axis=1) if self.several else right

    def hits(self, metric: Choice) -> NDArray[np.bool_]:
        """Return True [N] for the images that are right, as the metric counts or, for any other metric, as `right`."""
        hits = metric_of(metric).hits(self.metric_input(metric), self.labels, **metric.arguments)
        return self.right if hits is None else hits

    def metric_input(self, metric: Choice) -> NDArray[Any]:
        """Return what a metric takes: the answers, or the probabilities as float64."""
        if metric_of(metric).input_kind == "answers" and self.decided is not None:
            return self.decided
        return self.probs.astype(np.float64)


@dataclass(frozen=True)
class Paired:
    """How much better `one` is than `other` by a metric on the same images (a lower loss is better).

    It has the 95 % interval and the p-value of a paired bootstrap, and the p-value of McNemar's exact test. By metrics
    that count images McNemar's test decides, together with the interval; by any other metric the bootstrap decides, and
    McNemar's test is of the accuracies.
    """

    one: str
    other: str
    metric: str
    gain: float
    low: float
    high: float
    p: float
    mcnemar: float
    among: int = 1  # comparisons made at once; the significance level is divided by it (Bonferroni)
    several: bool = False  # each image has a set of classes

    @property
    def of(self) -> Metric:
        """The metric."""
        return metric_by_name(self.metric)

    @property
    def counts(self) -> bool:
        """True if the metric is the share of images that are right, for which McNemar's test applies."""
        return self.of.counts and not self.several

    @property
    def significant(self) -> bool:
        """True if the difference is significant."""
        p = self.mcnemar if self.counts else self.p
        return p < ALPHA / self.among and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        scale = self.of.scale
        span = f"{abs(self.gain) * scale:.2f} {self.of.unit} of {spoken(self.metric)}"
        interval = f"95 % interval {self.low * scale:+.2f} to {self.high * scale:+.2f}"
        if self.counts:
            decides = "" if self.significant or self.low <= 0 <= self.high else ", which decides"
            tests = f"({interval}, McNemar p = {self.mcnemar:.3g}{decides})"
        else:
            differ = "differ" if self.mcnemar < ALPHA / self.among else "do not differ significantly"
            tests = f"({interval}, paired bootstrap p = {self.p:.3g}); their accuracies {differ}"
            tests += f" (McNemar p = {self.mcnemar:.3g})"
        if not self.significant:
            return f"no significant difference between {self.one} and {self.other}: {span} {tests}"
        better, worse = (self.one, self.other) if self.gain > 0 else (self.other, self.one)
        return f"{better} is better than {worse} on these images: by {span} {tests}"


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_], *, groups: Groups | None) -> float:
    """Return the two-sided p-value of McNemar's exact test, from the images that only one of two classifiers gets
    right.

    With `groups` int64 [N] it counts the groups of related images of which one classifier gets more right.
    """
    from scipy.stats import binomtest

    ahead = one.astype(np.int64) - other
    clusters = numbered(groups)
    if clusters is not None:
        ahead = np.bincount(clusters, ahead)
    alone, without = int((ahead > 0).sum()), int((ahead < 0).sum())
    return float(binomtest(alone, alone + without).pvalue) if alone + without else 1.0


def against_each(
    one: HoldoutPredictions, others: Sequence[HoldoutPredictions], metric: Choice, among: int = 1
) -> list[Paired]:
    """Compare a run with each of several others image by image, as some of `among` comparisons; the bootstrap draws the
    same images for all.

    Resamples of few groups of related images vary too little, and those of one not at all: no p-value is below that of
    a sign test in which all groups agree.
    """
    sign, labels, groups = metric_of(metric).sign, one.labels, one.groups
    inputs = [each.metric_input(metric) for each in (one, *others)]
    replicates = max(REPLICATES, 100 * among)  # so that the smallest possible p is below half the corrected level
    worth = sign * resampled(metric, inputs, labels, replicates, groups=groups)
    values = [sign * value(metric, each, labels) for each in inputs]
    observed = independent(len(labels), groups)

    def against(place: int, other: HoldoutPredictions) -> Paired:
        drawn = worth[0] - worth[place]
        low, high = np.quantile(drawn, [0.025, 0.975])
        p = min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + replicates))
        p = max(p, 2.0 ** (1 - observed))
        alone = mcnemar(one.hits(metric), other.hits(metric), groups=groups)
        gain = values[0] - values[place]
        ends = (float(low), float(high)) if observed > 1 else (-np.inf, np.inf)
        return Paired(one.name, other.name, metric.name, gain, *ends, float(p), alone, among, one.several)

    return [against(place, other) for place, other in enumerate(others, start=1)]


def over_seeds(metric: str, scores: Mapping[str, Sequence[float]]) -> list[str]:
    """Return in words, for every two recipes, whether one is better, by Welch's t-test over the scores of their seeds.

    The p-values of all pairs are corrected together (Holm 1979).
    """
    from scipy.stats import ttest_ind

    def p_value(one: Sequence[float], other: Sequence[float]) -> float:
        """Return the p-value; 1 if no scores of a recipe differ, so that nothing tells how much seeds do."""
        varies = np.var(one) + np.var(other) > 0
        return float(ttest_ind(one, other, equal_var=False).pvalue) if varies else 1.0

    pairs = list(itertools.combinations(scores, 2))
    ps = holm([p_value(scores[one], scores[other]) for one, other in pairs])
    return [
        _in_words(metric, one, scores[one], other, scores[other], p) for (one, other), p in zip(pairs, ps, strict=True)
    ]


def _in_words(
    metric: str, name: str, scores: Sequence[float], other_name: str, others: Sequence[float], p: float
) -> str:
    of = metric_by_name(metric)
    one, other = (
        f"{np.mean(part) * of.scale:.2f} ± {np.std(part, ddof=1) * of.scale:.2f} over {len(part)} seeds"
        for part in (scores, others)
    )
    significant = f"{spoken(metric)} {one} against {other}, p = {p:.3g}"
    if not p < ALPHA:
        return f"no significant difference between the recipes {name} and {other_name}: {significant}"
    ahead = of.better(float(np.mean(scores)), float(np.mean(others)))
    better, worse = (name, other_name) if ahead else (other_name, name)
    return f"the recipe {better} is better than {worse}: {significant}"


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests by Holm's step-down method (1979)."""
    order = np.argsort(ps)
    enlarged = np.maximum.accumulate(np.asarray(ps)[order] * np.arange(len(ps), 0, -1)).clip(max=1)
    return [float(enlarged[place]) for place in np.argsort(order)]
