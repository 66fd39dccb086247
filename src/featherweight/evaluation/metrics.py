"""The metrics a competition may name. One `Metric` is one entry of the table at the end; nothing else knows a metric.

The value is scikit-learn's. The 95 % interval says how much of a score is luck: see `intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation import bootstrap, class_metrics, intervals, jackknife, probability_metrics
from featherweight.evaluation.class_metrics import Answers, Probabilities, WeightedMetric
from featherweight.schema import Choice

Groups = NDArray[np.int64]
SHUFFLES = 4  # of a loss, to see what it is where answers and images have nothing to do with each other


@dataclass(frozen=True, eq=False)
class Metric:
    """What a score is: of what, which way, in what unit, its value and its interval.

    `judges` says what its function takes: answers (classes int64 [N], or sets of them, 0 and 1 [N, K]), probabilities
    float64 [N, K], or rankings int64 [N, k] of the best classes, -1 where there are fewer. `counts`: it is the part of
    the images that are right, each by itself, so its interval is exact and McNemar's test is of it; micro-averages of
    sets count classes instead. `targets`: whether an image has one class or several. `by_class`: decided by the rare
    classes as by the others, as a mean over classes is. `span`: its least and its greatest value, where it is no loss.
    """

    function: Callable[..., WeightedMetric]
    judges: Literal["answers", "probabilities", "ranking"]
    targets: tuple[str, ...] = ("one", "several")
    counts: bool = False
    lower_is_better: bool = False
    unit: str = "points"  # of a difference; "points" are percentage points, anything else is shown as it is
    by_class: bool = False
    span: tuple[float, float] = (0.0, 1.0)

    @property
    def name(self) -> str:
        """As in a competition file."""
        return self.function.__name__

    @property
    def __wrapped__(self) -> Callable[..., WeightedMetric]:
        return self.function  # whose signature holds the metric's keys

    def __call__(self, predicted: Answers, true: Answers, kin: Groups | None = None, **keys: Any) -> Score:
        """The score, with its interval, of probabilities [N, K], or of answers or rankings where it judges those.

        Images of one number in `kin` [N] count as one draw of luck: they are right or wrong together.
        """
        judged = self._input(predicted, true)
        value = self.value(judged, true, **keys)
        together = grouped(kin)
        if together is None:
            low, high = self._interval(value, judged, true, keys)
        else:
            low, high = self._interval_of_groups(value, judged, true, keys, together)
        return Score(value, low, high, len(true), self.name)

    def value(self, predicted: Answers, true: Answers, **keys: Any) -> float:
        """The score alone, without its interval."""
        return float(self.function(self._input(predicted, true), true, **keys)(np.ones((1, len(true))))[0])

    def weighted(self, predicted: Answers, true: Answers, weights: NDArray[np.float64], **keys: Any) -> Probabilities:
        """float64 [R]: the score of images that count as often as each row of `weights` [R, N] says."""
        return self.function(self._input(predicted, true), true, **keys)(weights)

    def resampled(
        self,
        predicted: Sequence[Probabilities],
        true: Answers,
        replicates: int,
        kin: Groups | None = None,
        **keys: Any,
    ) -> Probabilities:
        """float64 [G, replicates]: the metric of each of G classifiers' probabilities [N, K] on resamples of the
        images, whole groups of `kin`, in every resample the same images for all, so that the differences are those of
        a paired bootstrap.
        """
        each = [self.function(self._input(one, true), true, **keys) for one in predicted]
        drawn = bootstrap.resamples(len(true), replicates, grouped(kin))
        pieces = [[of(weights) for of in each] for weights in drawn]
        return np.concatenate(pieces, axis=1)

    def hits(self, predicted: Answers, true: Answers, **keys: Any) -> NDArray[np.bool_] | None:
        """True [N] for the images that are right by a metric that counts them; None of any other metric."""
        form = self.function(self._input(predicted, true), true, **keys)
        return form.values > 0.5 if self.counts and isinstance(form, class_metrics.Mean) else None

    def better(self, one: float, other: float) -> bool:
        """Is `one` the better score?"""
        return self.sign * one > self.sign * other

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return -1 if self.lower_is_better else 1

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown: 100 where it is a part of a whole."""
        return 100 if self.unit == "points" else 1

    @property
    def percent(self) -> str:
        """What follows a shown number in a heading: ` %` where it is a part of a whole."""
        return " %" if self.unit == "points" else ""

    def number(self, value: float, sign: str = "") -> str:
        """A value, or a difference, in figures: `93.65` of a hundred, or `0.2104`; `sign` is + to show a plus."""
        return f"{value * self.scale:{sign}.{2 if self.unit == 'points' else 4}f}"

    def shown(self, value: float) -> str:
        """A value with its sign of percent where it has one: `93.65%`, `0.2104`."""
        return f"{value:.2%}" if self.unit == "points" else f"{value:.4f}"

    @property
    def spoken(self) -> str:
        """Its name in a sentence."""
        return spoken(self.name)

    def _input(self, predicted: Answers, true: Answers) -> Answers:
        """What the function is given, made of more: of probabilities the answers without any fitted decision."""
        certain = predicted.ndim == 2 and predicted.dtype.kind == "f"
        if self.judges == "probabilities":
            if not certain:
                raise ValueError(f"{self.name} judges probabilities, not classes")
            return predicted
        if self.judges == "ranking":
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
        if self.judges == "answers" and true.ndim == 1:  # many images are alike: by cells of the confusion
            base = max(int(judged.max()), 0) + 1
            cells, counts = np.unique(true * base + judged, return_counts=True)
            contributions = jackknife.of_cells(self.function(cells % base, cells // base, **keys), counts)
        else:
            contributions = jackknife.pseudo_values(self.function(judged, true, **keys), count)
        if self.lower_is_better:
            return intervals.skewed(value, contributions, self._imagined(judged, true, keys))
        behind = _behind(true) if self.by_class else float(count)
        return intervals.bounded(value, contributions, behind, self.span)

    def _interval_of_groups(
        self, value: float, judged: Answers, true: Answers, keys: Mapping[str, Any], group: Groups
    ) -> tuple[float, float]:
        contributions = jackknife.of_groups(self.function(judged, true, **keys), group)
        if self.lower_is_better:
            return intervals.skewed(value, contributions, self._imagined(judged, true, keys))
        behind = _behind(true, group) if self.by_class else float(group.max() + 1)
        return intervals.bounded(value, contributions, behind, self.span)

    def _imagined(self, judged: Answers, true: Answers, keys: Mapping[str, Any]) -> float:
        """The score of answers that were given to other images."""
        random = np.random.default_rng(0)
        others = [random.permutation(len(true)) for _ in range(SHUFFLES)]
        return float(np.mean([self.value(judged, true[other], **keys) for other in others]))


@dataclass(frozen=True)
class Score:
    """A score by the metric of that name and the ends of its 95 % interval over `count` images, as parts of one
    (0.9 is 90 %) or in the metric's own unit.
    """

    value: float
    low: float
    high: float
    count: int
    metric: str = "accuracy"

    @property
    def of(self) -> Metric:
        """The metric."""
        return named(self.metric)

    def __str__(self) -> str:
        return f"{self.of.shown(self.value)} {self._interval}"

    @property
    def with_metric(self) -> str:
        """In words, with the name of the metric."""
        return f"{self.of.shown(self.value)} {spoken(self.metric)} {self._interval}"

    @property
    def _interval(self) -> str:
        low, high = map(self.of.shown, (self.low, self.high))
        return f"(95 % interval {low} to {high}, {self.count:,} images)"

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Score:
        """A score as files hold it; those of older runs say only whether it was a loss."""
        loss = stored.get("lower_is_better", False)
        fields = {key: value for key, value in stored.items() if key != "lower_is_better"}
        return cls(**({"metric": "log_loss" if loss else "accuracy"} | fields))


def plain(probs: NDArray[np.floating], several: bool) -> Answers:
    """The answers without any fitted decision: the most probable class [N], or the set of those over a half [N, K]."""
    return probs > 0.5 if several else probs.argmax(1)


def spoken(name: str) -> str:
    """A metric's name in a sentence."""
    return name.replace("_", " ").replace("f1", "F1")


def metric_of(choice: Choice) -> Metric:
    """The metric that a competition's file names."""
    return METRICS[choice.name]


def named(name: str) -> Metric:
    """The metric of that name; one that is not known here, as in a ledger from elsewhere, is shown like an accuracy."""
    return METRICS.get(name, METRICS["accuracy"])


def judge(metric: Choice, predicted: Answers, true: Answers, kin: Groups | None = None) -> Score:
    """`metric` of probabilities [N, K], or of predicted classes [N] where it judges those; `kin` as of `Metric`."""
    return metric_of(metric)(predicted, true, kin, **metric.arguments)


def value(metric: Choice, predicted: Answers, true: Answers) -> float:
    """`judge` without the interval, which would take a learning curve longer than the score itself."""
    return metric_of(metric).value(predicted, true, **metric.arguments)


def resampled(
    metric: Choice,
    predicted: Sequence[Probabilities],
    true: Answers,
    replicates: int,
    kin: Groups | None = None,
) -> NDArray[np.float64]:
    """See `Metric.resampled`."""
    return metric_of(metric).resampled(predicted, true, replicates, kin, **metric.arguments)


def grouped(kin: Groups | None) -> Groups | None:
    """Groups int64 [N] by number, from 0 on; None where every image is alone."""
    if kin is None or not len(kin):
        return None
    names, numbers = np.unique(kin, return_inverse=True)
    return None if len(names) == len(kin) else numbers.astype(np.int64)


def _behind(true: Answers, group: Groups | None = None) -> float:
    """How many images, or groups, a mean over classes is worth where each class weighs the same: the rare decide it."""
    if group is None:
        sizes = true.sum(0) if true.ndim == 2 else np.unique(true, return_counts=True)[1]
        sizes = np.minimum(sizes, len(true) - sizes)
    else:
        member = true.astype(bool) if true.ndim == 2 else true[:, None] == np.unique(true)
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        some = np.logical_or.reduceat(member[order], starts, axis=0).sum(0)
        others = np.logical_or.reduceat(~member[order], starts, axis=0).sum(0)
        sizes = np.minimum(some, others)
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / (1 / sizes).sum()) if len(sizes) else 1.0


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
