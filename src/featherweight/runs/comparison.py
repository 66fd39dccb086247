"""Is one run better than another? Paired tests on the same held-out images, and over seeds where there are several.

A single run against another says how these very weights differ on these kinds of images. That one *recipe* is better
than another only several seeds of both can say, since two seeds of one recipe differ as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featherweight import paths, plotting
from featherweight.console import say
from featherweight.data.csv_file import examples
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS, Metric, judge, metric_of, named, plain, resampled, spoken, value
from featherweight.runs import ledger, query
from featherweight.runs.run import Run
from featherweight.schema import Choice, OneOf

REPLICATES = 1000  # of the bootstrap at least; of many comparisons, so many that each can still be told
SURE = 0.05  # a p-value below it counts as told
SHOWN = ("accuracy", "macro_f1", "log_loss")  # by every comparison, beside the competition's own metric


@dataclass(frozen=True)
class Answers:
    """What a run answered on its holdout: probabilities float32 [N, K], at its temperature, and true classes [N] or
    sets [N, K]; `decided`, if it is not the plain answer.
    """

    name: str
    probs: NDArray[np.float32]
    labels: NDArray[Any]
    decided: NDArray[Any] | None = None

    @property
    def several(self) -> bool:
        """Has an image a set of classes?"""
        return self.labels.ndim == 2

    @property
    def right(self) -> NDArray[np.bool_]:
        """[N]: is the class, or the whole set, right?"""
        answers = plain(self.probs, self.several) if self.decided is None else self.decided
        right: NDArray[np.bool_] = answers == self.labels
        return np.all(right, axis=1) if self.several else right

    def given(self, metric: Choice) -> NDArray[Any]:
        """What a metric judges of it: what was decided, or the probabilities float64."""
        if metric_of(metric).judges == "answers" and self.decided is not None:
            return self.decided
        return self.probs.astype(np.float64)


@dataclass(frozen=True)
class Paired:
    """How much better `one` is than `other` by a metric on the same images (a lower loss is better), with the 95 %
    interval and the p-value of a paired bootstrap, and the p-value of McNemar's exact test of their accuracies.

    McNemar's test judges accuracies alone: it decides on these, together with the interval, and stands beside a verdict
    by any other metric, which the bootstrap decides.
    """

    one: str
    other: str
    metric: str
    gain: float
    low: float
    high: float
    p: float
    mcnemar: float
    among: int = 1  # comparisons made at once, the p-value being held against the limit divided by them (Bonferroni)
    several: bool = False  # has an image a set of classes?

    @property
    def of(self) -> Metric:
        """The metric."""
        return named(self.metric)

    @property
    def counts(self) -> bool:
        """Is it of the part of the images that are right, which McNemar's test judges?"""
        return self.of.counts and not self.several

    @property
    def told(self) -> bool:
        """Is there a difference?"""
        p = self.mcnemar if self.counts else self.p
        return p < SURE / self.among and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        scale = self.of.scale
        span = f"{abs(self.gain) * scale:.2f} {self.of.unit} of {spoken(self.metric)}"
        interval = f"95 % interval {self.low * scale:+.2f} to {self.high * scale:+.2f}"
        if self.counts:
            tests = f"({interval}, McNemar p = {self.mcnemar:.3g})"
        else:
            apart = "differ" if self.mcnemar < SURE / self.among else "can't be told apart"
            tests = f"({interval}, paired bootstrap p = {self.p:.3g}); their accuracies {apart}"
            tests += f" (McNemar p = {self.mcnemar:.3g})"
        if not self.told:
            return f"it can't be told which of {self.one} and {self.other} is better: {span} apart {tests}"
        better, worse = (self.one, self.other) if self.gain > 0 else (self.other, self.one)
        return f"{better} is better than {worse} on these images: by {span} {tests}"


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value that two classifiers are as often right, from the images only one of them gets."""
    from scipy.stats import binomtest

    alone, without = int((one & ~other).sum()), int((other & ~one).sum())
    return float(binomtest(alone, alone + without).pvalue) if alone + without else 1.0


def paired(one: Answers, other: Answers, metric: Choice, among: int = 1) -> Paired:
    """Compare two runs image by image, one of `among` comparisons. The bootstrap draws the same images for both."""
    sign = metric_of(metric).sign
    given = [each.given(metric) for each in (one, other)]
    replicates = max(REPLICATES, 100 * among)  # the least p is then under half of what is wanted of it
    first, second = resampled(metric, given, one.labels, replicates)
    drawn = sign * (first - second)
    low, high = np.quantile(drawn, [0.025, 0.975])
    p = min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + replicates))
    gain = sign * (value(metric, given[0], one.labels) - value(metric, given[1], one.labels))
    alone = mcnemar(one.right, other.right)
    return Paired(one.name, other.name, metric.name, gain, float(low), float(high), float(p), alone, among, one.several)


def over_seeds(metric: str, scores: Mapping[str, Sequence[float]]) -> list[str]:
    """In words, for every two recipes whether one is better, by Welch's t-test over the scores of their seeds.

    The p-values of all pairs are corrected together (Holm 1979).
    """
    from scipy.stats import ttest_ind

    pairs = list(itertools.combinations(scores, 2))
    ps = holm([float(ttest_ind(scores[one], scores[other], equal_var=False).pvalue) for one, other in pairs])
    return [
        _in_words(metric, one, scores[one], other, scores[other], p) for (one, other), p in zip(pairs, ps, strict=True)
    ]


def _in_words(
    metric: str, name: str, scores: Sequence[float], other_name: str, others: Sequence[float], p: float
) -> str:
    of = named(metric)
    one, other = (
        f"{np.mean(part) * of.scale:.2f} ± {np.std(part, ddof=1) * of.scale:.2f} over {len(part)} seeds"
        for part in (scores, others)
    )
    told = f"{spoken(metric)} {one} against {other}, p = {p:.3g}"
    if not p < SURE:
        return f"it can't be told which of the recipes {name} and {other_name} is better: {told}"
    ahead = of.better(float(np.mean(scores)), float(np.mean(others)))
    better, worse = (name, other_name) if ahead else (other_name, name)
    return f"the recipe {better} is better than {worse}: {told}"


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of several tests, enlarged so that a false find among all of them is as rare as by one test."""
    order = np.argsort(ps)
    enlarged = np.maximum.accumulate(np.asarray(ps)[order] * np.arange(len(ps), 0, -1)).clip(max=1)
    return [float(enlarged[place]) for place in np.argsort(order)]


def answers(runs: Sequence[Run]) -> list[Answers]:
    """What finished runs of one competition answered on their holdout, which must be the same images.

    The probabilities are those that were scored: tempered, where its recipe calibrates.
    """
    first = runs[0]
    held: dict[str, list[str]] = {}
    for run in runs:
        if not run.probs_file("holdout").exists():
            raise UserError(f"{run.name} has not predicted its holdout yet: ./run.sh resume {run.name}")
        if not run.competition.same_task(first.competition):
            raise UserError(f"{run.name} and {first.name} are of different competitions; their scores say nothing")
        held[run.name] = run.split.holdout
        if held[run.name] != held[first.name]:
            raise UserError(f"{run.name} and {first.name} hold out different images; give both the same split section")
    labels = true_classes(first, held[first.name])
    return [_answered(run, labels) for run in runs]


def _answered(run: Run, labels: NDArray[Any]) -> Answers:
    """As its holdout is scored, by nothing that has seen the labels it is scored by."""
    probs, decided = run.unseen(run.probs("holdout"), labels)
    return Answers(run.name, probs, labels, decided)


def true_classes(run: Run, ids: Sequence[str]) -> NDArray[Any]:
    """The classes int64 [N], or sets [N, K], of labelled images of a run's competition.

    Raises UserError if some are gone.
    """
    data = run.competition.load()
    classes: dict[str, int | list[int]] = {}
    for part in (data.train, data.valid):
        if part is not None and part.labels is not None:
            classes.update(zip(part.ids, part.labels.tolist(), strict=True))
    gone = [id for id in ids if id not in classes]
    if gone:
        raise UserError(f"{len(gone):,} images that {run.name} held out are no longer there: {examples(gone)}")
    return np.array([classes[id] for id in ids], dtype=np.int64 if run.competition.target != "several" else np.uint8)


def chosen(names: Sequence[str], competition: str | None, conditions: Sequence[str]) -> list[str]:
    """The runs named, or those of the ledger that are chosen by competition and conditions and have their folders here.

    Raises UserError for both ways at once, and for fewer than two runs.
    """
    found, why = list(dict.fromkeys(names)), "compare wants at least two runs"
    if competition is not None or conditions:
        if names:
            raise UserError("compare takes the names of runs, or --competition and --where to choose them; not both")
        in_ledger = query.chosen(competition, conditions)["run"].drop_duplicates().tolist()
        found = [name for name in in_ledger if Run.exists(name)]
        gone = [name for name in in_ledger if name not in found]
        if gone:
            say(f"left out, for their folders are not in {paths.runs()}: {examples(gone)}")
        why += f", and {len(found)} of the ledger's {'is' if len(found) == 1 else 'are'} chosen"
    if len(found) < 2:
        raise UserError(f"{why}: ./run.sh compare RUN RUN, or ./run.sh compare --where recipe=NAME")
    return found


def compare(names: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A row a run, best first by the competition's metric, and in words how the best compares with each other one; the
    curves of those that were trained go to `path`. `reported` names the run whose report says more.

    The best was found by looking at all of them, so that it counts as chosen among every pair of them (Bonferroni).
    """
    runs = [Run.find(name) for name in names]
    given = answers(runs)
    metric = runs[0].competition.metric
    rows = pd.DataFrame(
        [
            {
                "run": run.name,
                "recipe": label,
                "seed": run.recipe.seed,
                "reported": run.members[0] if run.is_ensemble else run.name,
                **_scores(metric, each),
            }
            for run, label, each in zip(runs, _labels(runs), given, strict=True)
        ]
    )
    worth = -metric_of(metric).sign * rows[metric.name]
    order = worth.argsort(kind="stable")
    best, *rest = [given[place] for place in order]
    pairs = len(runs) * (len(runs) - 1) // 2
    words = [str(paired(best, other, metric, pairs)) for other in rest]
    trained = [run for run in runs if not run.members]
    if trained:
        draw({run.name: run.history for run in trained}, path, metric.name)
    drawn = f"wrote {paths.shown(path)}" if trained else "no curves: none of these was trained, they are made of runs"
    return rows.iloc[order].reset_index(drop=True), [*words, *_recipes(rows, metric.name), drawn]


def _scores(metric: Choice, given: Answers) -> dict[str, float]:
    """By each metric's name the score, and the ends of its 95 % interval as `_low` and `_high`."""
    named = {name: OneOf(METRICS).validate(name) for name in SHOWN} | {metric.name: metric}
    scores = {name: judge(choice, given.given(choice), given.labels) for name, choice in named.items()}
    ends = {f"{name}_{end}": getattr(score, end) for name, score in scores.items() for end in ("low", "high")}
    return {name: score.value for name, score in scores.items()} | ends


def _labels(runs: Sequence[Run]) -> list[str]:
    """The recipe of each run, told apart where one name stands for several settings; seeds make no difference."""
    settings = [(run.recipe_name, ledger.settings(run.recipe.model_dump(mode="json"))) for run in runs]
    variants = {name: list(dict.fromkeys(of for other, of in settings if other == name)) for name, _ in settings}
    first = {key: run.name for key, run in reversed(list(zip(settings, runs, strict=True)))}
    return [key[0] if len(variants[key[0]]) == 1 else f"{key[0]} as in {first[key]}" for key in settings]


def _recipes(rows: pd.DataFrame, metric: str) -> list[str]:
    seeds = {str(name): part[metric].tolist() for name, part in rows.groupby("recipe", sort=False)}
    several = {name: scores for name, scores in seeds.items() if len(scores) > 1}
    if len(several) > 1:
        return over_seeds(metric, several)
    return ["which recipe is better takes several seeds of each: ./run.sh RECIPE --seed 1"] if len(seeds) > 1 else []


def draw(histories: Mapping[str, pd.DataFrame], path: Path, metric: str) -> None:
    """Loss, accuracy, F1 and the competition's metric by epoch, for train (dashed) and holdout."""
    figures = plotting.panels(spoken(metric))
    picture, axes = plotting.figure(1, len(figures), width=5)
    for number, (name, history) in enumerate(histories.items()):
        colour = f"C{number % 10}"
        for place, column in zip(axes[0], figures.values(), strict=True):
            label = name if column == "loss" else None
            styles: dict[str, Any] = {"holdout": {"label": label}, "train": {"ls": "--", "lw": 1, "alpha": 0.7}}
            for part, style in styles.items():
                if f"{part}_{column}" in history:  # versions before kept less of the training images
                    known = history.dropna(subset=[f"{part}_{column}"])
                    place.plot(known["epoch"], known[f"{part}_{column}"], color=colour, **style)
    for place, title in zip(axes[0], figures, strict=True):
        place.set_title(title)
        place.set_xlabel("epoch")
        place.grid(alpha=0.3)
    axes[0, 0].legend(fontsize="small", title="holdout; dashed: train")
    plotting.save(picture, path, dpi=90)
