"""The metrics a competition may name. Each `Metric` is one entry of the table at the end; no other module knows a
metric.

Values are the same as scikit-learn's. For the 95 % intervals see `intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import count_of
from featherweight.evaluation import bootstrap, class_metrics, intervals, jackknife, probability_metrics
from featherweight.evaluation.bootstrap import Groups, numbered
from featherweight.evaluation.class_metrics import Answers, Probabilities, WeightedMetric
from featherweight.schema import Choice

SHUFFLES = 4  # permutations that estimate a loss of answers unrelated to the images


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric: its function, what that takes, in which direction it counts, and how its interval is computed.

    Attributes:
        function: takes predictions and true classes, and returns a function of the images' weights (`class_metrics`).
        input_kind: what `function` takes: "answers" (classes int64 [N], or sets, 0 and 1 [N, K]), "probabilities"
            (float64 [N, K]), or a "ranking" (int64 [N, k], the best classes first, -1 where there are fewer).
        targets: whether an image may have one class, several, or either.
        counts: True for the share of images that are right: its interval is exact and McNemar's test applies. (Of sets,
            micro-averages count classes instead.)
        lower_is_better: True for a loss.
        unit: of a difference; "points" are percentage points, any other is shown as it is.
        by_class: True if rare classes weigh as much as frequent ones, as in a mean over classes.
        span: the lowest and the highest value, if it is not a loss.
    """

    function: Callable[..., WeightedMetric]
    input_kind: Literal["answers", "probabilities", "ranking"]
    targets: tuple[str, ...] = ("one", "several")
    counts: bool = False
    lower_is_better: bool = False
    unit: str = "points"
    by_class: bool = False
    span: tuple[float, float] = (0.0, 1.0)

    @property
    def name(self) -> str:
        """The name in a competition file."""
        return self.function.__name__

    @property
    def __wrapped__(self) -> Callable[..., WeightedMetric]:
        return self.function  # its signature holds the metric's keys

    def __call__(self, predicted: Answers, true: Answers, *, groups: Groups | None, **keys: Any) -> Score:
        """Return the score with its 95 % interval.

        `predicted` are probabilities float [N, K] or, as the metric requires, classes int64 [N], sets of classes [N, K]
        or rankings int64 [N, k]. Images with the same number in `groups`, int64 [N], are related and count as one
        cluster, because they are right or wrong together; None if no images are related.
        """
        judged = self._input(predicted, true)
        value = self.value(judged, true, **keys)
        clusters = numbered(groups)
        if clusters is None:
            low, high = self._interval(value, judged, true, keys)
        else:
            low, high = self._interval_of_groups(value, judged, true, keys, clusters)
        return Score(value, low, high, len(true), self.name)

    def value(self, predicted: Answers, true: Answers, **keys: Any) -> float:
        """Return the score alone, without its interval."""
        return float(self.function(self._input(predicted, true), true, **keys)(np.ones((1, len(true))))[0])

    def weighted(self, predicted: Answers, true: Answers, weights: NDArray[np.float64], **keys: Any) -> Probabilities:
        """Return the scores float64 [R] of the images counted as often as each row of `weights` [R, N] says."""
        return self.function(self._input(predicted, true), true, **keys)(weights)

    def resampled(
        self,
        predicted: Sequence[Probabilities],
        true: Answers,
        replicates: int,
        *,
        groups: Groups | None,
        **keys: Any,
    ) -> Probabilities:
        """Return the metric of G classifiers on bootstrap resamples of the images, float64 [G, replicates].

        `predicted` are the probabilities [N, K] of each classifier. Every resample draws the same images for all of
        them (paired bootstrap); with `groups` int64 [N] it draws whole groups of related images.
        """
        each = [self.function(self._input(one, true), true, **keys) for one in predicted]
        drawn = bootstrap.resamples(len(true), replicates, numbered(groups))
        pieces = [[of(weights) for of in each] for weights in drawn]
        return np.concatenate(pieces, axis=1)

    def hits(self, predicted: Answers, true: Answers, **keys: Any) -> NDArray[np.bool_] | None:
        """Return True [N] for the images that are right, for a metric that counts them; None for any other metric."""
        form = self.function(self._input(predicted, true), true, **keys)
        return form.values > 0.5 if self.counts and isinstance(form, class_metrics.Mean) else None

    def better(self, one: float, other: float) -> bool:
        """True if `one` is the better score."""
        return self.sign * one > self.sign * other

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1."""
        return -1 if self.lower_is_better else 1

    @property
    def scale(self) -> int:
        """The factor by which a value is multiplied to be shown: 100 for shares."""
        return 100 if self.unit == "points" else 1

    @property
    def percent(self) -> str:
        """The suffix of a heading over shown numbers: ` %` for shares, else empty."""
        return " %" if self.unit == "points" else ""

    def number(self, value: float, sign: str = "") -> str:
        """Return a value or a difference as digits: `93.65` for a share (in percent), `0.2104` for others. With `sign`
        "+" a plus sign is shown.
        """
        return f"{value * self.scale:{sign}.{2 if self.unit == 'points' else 4}f}"

    def shown(self, value: float) -> str:
        """Return a value as text, with a percent sign for shares: `93.65%`, `0.2104`."""
        return f"{value:.2%}" if self.unit == "points" else f"{value:.4f}"

    @property
    def spoken(self) -> str:
        """The name as it is written in a sentence."""
        return spoken(self.name)

    @property
    def heading(self) -> str:
        """The name with the unit in which scores are shown, as the heading of a column."""
        return self.spoken + self.percent

    def _input(self, predicted: Answers, true: Answers) -> Answers:
        """Return what the function takes, made from predictions of any kind; answers by the unfitted decision rule."""
        certain = predicted.ndim == 2 and predicted.dtype.kind == "f"
        if self.input_kind == "probabilities":
            if not certain:
                raise ValueError(f"{self.name} takes probabilities, not classes")
            return predicted
        if self.input_kind == "ranking":
            if certain:
                return probability_metrics.ranking(predicted)
            return predicted if predicted.ndim == 2 else predicted[:, None]
        if certain:
            return plain(predicted, several=true.ndim == 2)
        return predicted[:, 0] if predicted.ndim > true.ndim else predicted

    def _interval(self, value: float, judged: Answers, true: Answers, keys: Mapping[str, Any]) -> tuple[float, float]:
        count = len(true)
        if self.counts and (true.ndim == 1 or self.function is class_metrics.accuracy):
            return intervals.proportion(round(value * count), count)
        if self.input_kind == "answers" and true.ndim == 1:  # images in one cell of the confusion matrix are alike
            base = max(int(judged.max()), 0) + 1
            cells, counts = np.unique(true * base + judged, return_counts=True)
            contributions = jackknife.of_cells(self.function(cells % base, cells // base, **keys), counts)
        else:
            contributions = jackknife.pseudo_values(self.function(judged, true, **keys), count)
        if self.lower_is_better:
            return intervals.hall_t_interval(value, contributions, self.by_chance(judged, true, keys))
        behind = class_metrics.effective_images(true) if self.by_class else float(count)
        return intervals.score_interval(value, contributions, behind, self.span)

    def _interval_of_groups(
        self, value: float, judged: Answers, true: Answers, keys: Mapping[str, Any], group: Groups
    ) -> tuple[float, float]:
        contributions = jackknife.of_groups(self.function(judged, true, **keys), group)
        if self.lower_is_better:
            return intervals.hall_t_interval(value, contributions, self.by_chance(judged, true, keys))
        behind = class_metrics.effective_images(true, group) if self.by_class else float(group.max() + 1)
        return intervals.score_interval(value, contributions, behind, self.span)

    def by_chance(self, judged: Answers, true: Answers, keys: Mapping[str, Any]) -> float:
        """Return the mean score of answers that are assigned to other images at random."""
        random = np.random.default_rng(0)
        others = [random.permutation(len(true)) for _ in range(SHUFFLES)]
        return float(np.mean([self.value(judged, true[other], **keys) for other in others]))


@dataclass(frozen=True)
class Score:
    """A score, the ends of its 95 % interval, and the number of images, by the metric of that name.

    Values are fractions of one (0.9 is 90 %) or in the metric's own unit. `plain` are the ends of the interval of
    sampling alone, if that of the score reaches further because the score is biased; otherwise None.
    """

    value: float
    low: float
    high: float
    count: int
    metric: str = "accuracy"
    plain: tuple[float, float] | None = None

    @property
    def of(self) -> Metric:
        """The metric."""
        return metric_by_name(self.metric)

    def __str__(self) -> str:
        return f"{self.of.shown(self.value)} {self._interval}"

    @property
    def with_metric(self) -> str:
        """The score in words, with the name of the metric."""
        return f"{self.of.shown(self.value)} {spoken(self.metric)} {self._interval}"

    @property
    def _interval(self) -> str:
        low, high = map(self.of.shown, (self.low, self.high))
        return f"(95 % interval {low} to {high}, {count_of(self.count, 'image')})"

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Score:
        """Return a score from its stored form, in which a pair is a list."""
        return cls(**{**stored, "plain": stored.get("plain") and tuple(stored["plain"])})


def plain(probs: NDArray[np.floating], several: bool) -> Answers:
    """Return the answers by the unfitted decision rule: the most probable class [N], or the set of classes over 0.5 [N,
    K].
    """
    return probs > 0.5 if several else probs.argmax(1)


def spoken(name: str) -> str:
    """Return a metric's name as it is written in a sentence."""
    return name.replace("_", " ").replace("f1", "F1").replace("auc", "AUC")


def metric_of(choice: Choice) -> Metric:
    """Return the metric that a competition's file names."""
    return METRICS[choice.name]


def metric_by_name(name: str) -> Metric:
    """Return the metric of that name; for an unknown one, as in a ledger from elsewhere, the accuracy."""
    return METRICS.get(name, METRICS["accuracy"])


def score_of(metric: Choice, predicted: Answers, true: Answers, *, groups: Groups | None) -> Score:
    """Return the score of a competition's metric with its 95 % interval; see `Metric.__call__`."""
    return metric_of(metric)(predicted, true, groups=groups, **metric.arguments)


def value(metric: Choice, predicted: Answers, true: Answers) -> float:
    """Return the score of a competition's metric without the interval, which takes longer than a learning curve may."""
    return metric_of(metric).value(predicted, true, **metric.arguments)


def resampled(
    metric: Choice,
    predicted: Sequence[Probabilities],
    true: Answers,
    replicates: int,
    *,
    groups: Groups | None,
) -> NDArray[np.float64]:
    """Return a competition's metric on bootstrap resamples; see `Metric.resampled`."""
    return metric_of(metric).resampled(predicted, true, replicates, groups=groups, **metric.arguments)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(class_metrics.accuracy, "answers", counts=True),
        Metric(class_metrics.macro_f1, "answers", by_class=True),
        Metric(class_metrics.micro_f1, "answers", counts=True),
        Metric(class_metrics.weighted_f1, "answers"),
        Metric(class_metrics.macro_fbeta, "answers", by_class=True),
        Metric(class_metrics.micro_fbeta, "answers", counts=True),
        Metric(class_metrics.samples_f1, "answers", ("several",)),
        Metric(class_metrics.samples_fbeta, "answers", ("several",)),
        Metric(class_metrics.balanced_accuracy, "answers", ("one",), by_class=True),
        Metric(class_metrics.quadratic_kappa, "answers", ("one",), by_class=True, span=(-1.0, 1.0)),
        Metric(class_metrics.matthews, "answers", ("one",), by_class=True, span=(-1.0, 1.0)),
        Metric(probability_metrics.log_loss, "probabilities", lower_is_better=True, unit="nats"),
        Metric(probability_metrics.weighted_log_loss, "probabilities", lower_is_better=True, unit="nats"),
        Metric(probability_metrics.brier, "probabilities", lower_is_better=True, unit="units"),
        Metric(probability_metrics.auc, "probabilities", by_class=True),
        Metric(probability_metrics.mean_average_precision, "probabilities", by_class=True),
        Metric(probability_metrics.top_k, "ranking", ("one",), counts=True),
        Metric(probability_metrics.map_at_k, "ranking"),
    )
}
