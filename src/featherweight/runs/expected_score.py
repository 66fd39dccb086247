"""The scores to expect on the leaderboard: intervals of the public and the private score beside that of the validation
score.

A leaderboard's score differs from the validation score for these reasons, each estimated here: few images were held
out; each part of the leaderboard has few images; the run, its epoch or its recipe was selected by the score itself
(optimism); the holdout is stratified with few images per class; all folds together answer better than the one that was
scored; the images to predict may be shifted; and earlier leaderboard scores already show the sum of all this.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.errors import UserError, count_of
from featherweight.evaluation import leaderboard, stratification
from featherweight.evaluation.metrics import Metric, Score, metric_by_name
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.runs import query, selection, stored_probs, without_labels
from featherweight.runs.members import are_folds
from featherweight.runs.metadata import DELETE_TO_CONTINUE, read_record
from featherweight.runs.run import Run
from featherweight.runs.without_labels import Shift, error_under

# Root mean square error of the estimated gain of a mean of folds, relative to it (`./run.sh bench coverage --folds 2`).
GAIN_ERROR, LOSS_GAIN_ERROR = 0.9, 0.2
SAID = 0.05  # of the range: a smaller bias is not worth a word in the summary
SHOWN = 0.005  # of a bias in the metric's shown unit: less is 0.00
FEWEST_HELD_OUT = 10  # images held out; resamples of fewer often leave none to score


@dataclass(frozen=True)
class Expected:
    """The expected public and private score, each with its 95 % interval and its number of images, and what they follow
    from: see `details`. Scores are fractions of one, or in the metric's own unit. `start` is the score, with its
    interval and number, of the held-out images without related ones in training, where others have some.
    """

    metric: str
    public: tuple[float, float, float, int]
    private: tuple[float, float, float, int]
    share_is_stated: bool
    compared: int = 1
    optimism: float = 0.0
    epochs: int = 1
    by_epoch: float = 0.0
    by_stratification: float = 0.0
    auc: tuple[float, float, float] | None = None
    shifted: bool = False
    estimates: dict[str, float] = field(default_factory=dict)
    error: float | None = None
    folds: int = 1
    fold_gain: float = 0.0
    start: Score | None = None
    learned_from: int = 0
    learned: float = 0.0

    @property
    def of(self) -> Metric:
        """The metric."""
        return metric_by_name(self.metric)

    def __str__(self) -> str:
        parts = [
            f"{part} {self.of.shown(low)} to {self.of.shown(high)} ({count_of(images, 'image')})"
            for part, (_, low, high, images) in (("public", self.public), ("private", self.private))
        ]
        _, low, high, _ = self.private
        if self.bias > SAID * (high - low):
            parts.append(f"{self.of.number(self.bias)} {self.of.unit} of bias subtracted")
        return ", ".join(parts) + ("; images differ" if self.shifted else "")

    @property
    def details(self) -> list[str]:
        """The reasons in words, one line for each."""
        stated = "as stated" if self.share_is_stated else "assumed; state it as submission.public in its file"
        share = self.public[3] / max(self.public[3] + self.private[3], 1)
        lines = [f"public part: {share:.0%} of the images ({stated})"]
        if self.start is not None:
            lines.append(f"only held-out images without related ones in training count: {self.start}")
        if self.folds > 1:
            gain = f"{self.of.number(self.of.sign * self.fold_gain, '+')} {self.of.unit}"
            lines.append(f"the mean of {self.folds} folds against one of them: {gain} (added)")
        few = abs(self.by_stratification) * self.of.scale >= SHOWN
        for said, why, bias in (
            (self.compared > 1, f"selecting the best of {self.compared} models on this validation set", self.optimism),
            (self.epochs > 1, f"selecting the best of {self.epochs} epochs", self.by_epoch),
            (few, "few images per class: a holdout with their training frequencies", self.by_stratification),
        ):
            if said:
                lines.append(f"{why} biases the score by {self.of.number(bias)} {self.of.unit} (subtracted)")
        if self.auc is not None:
            shift = "the images to predict differ from those held out" if self.shifted else "no shift is seen"
            auc = "{:.2f} ({:.2f} to {:.2f})".format(*self.auc)
            lines.append(f"{shift}: a classifier tells them apart with an AUC of {auc}")
        if self.estimates:
            each = ", ".join(f"{name} {self.of.shown(value)}" for name, value in self.estimates.items())
            within = f"within {self.of.number(self.shift_error)} {self.of.unit}"
            used = f"used, {within}" if self.shifted else "not used: no shift"
            lines.append(f"without labels: {each} ({used})")
        if self.learned_from:
            came = f"{self.of.number(self.learned, '+')} {self.of.unit}"
            scores = "scores were" if self.learned_from > 1 else "score was"
            lines.append(f"{self.learned_from:,} earlier public {scores} {came} from validation (used)")
        return lines

    @property
    def shift_error(self) -> float:
        """The root mean square error of the estimates under this shift; of older runs it follows from the AUC."""
        return self.error if self.error is not None else error_under(self.auc[0] if self.auc else 0.5)

    @property
    def bias(self) -> float:
        """By how much too good the holdout's score is expected to be."""
        return self.optimism + self.by_epoch + self.by_stratification

    @property
    def correction(self) -> float:
        """By how much better than the holdout's score the truth is expected to be, apart from shift and luck."""
        return self.fold_gain - self.bias

    @classmethod
    def read(cls, run: Run) -> Expected | None:
        """Read it from a run's folder; None if there is nothing to predict, or the run is older."""
        path = run.folder / "leaderboard.json"
        return read_record(path, cls, DELETE_TO_CONTINUE) if path.is_file() else None

    def store(self, run: Run) -> None:
        """Write it into a run's folder."""
        atomic.write_text(run.folder / "leaderboard.json", json.dumps(asdict(self), indent=2) + "\n")


def expect(
    run: Run,
    holdout: Score,
    labels: NDArray[Any],
    features: DomainFeatures | None = None,
    usable: NDArray[np.bool_] | None = None,
) -> Expected | None:
    """Return the scores to expect of a run that has predicted its holdout and the images to predict; None if there are
    none to predict, or fewer than FEWEST_HELD_OUT are held out.

    Without `features` the probabilities show a shift, except of a mean of folds, which is more certain than one of them
    on any images. `usable` [N] are the held-out images that `holdout` is the score of, if not all.
    """
    to_predict = stored_probs.read(run, "predict")
    if to_predict is None or not len(to_predict) or holdout.count < FEWEST_HELD_OUT:
        return None
    share = run.competition.submission.public
    images = math.ceil(len(to_predict) * (query.PUBLIC_SHARE if share is None else share))
    seen = Expected(
        metric=holdout.metric,
        public=(0.0, 0.0, 0.0, images),
        private=(0.0, 0.0, 0.0, len(to_predict) - images),
        share_is_stated=share is not None,
        start=None if usable is None else holdout,
    )
    if are_folds([member for member, _ in run.weighted_models]):
        seen = _of_folds(run, labels, seen)
    elif not any(
        one.recipe.pseudo for one, _ in run.weighted_models
    ):  # else some of the images to predict were trained on
        seen = replace(seen, **vars(without_labels.shift_of(run, holdout, labels, features, usable)))
    return _adjusted_by_other_runs(run, holdout, labels, seen)


def _of_folds(run: Run, labels: NDArray[Any], seen: Expected) -> Expected:
    """Return what the folds of an ensemble have seen: their mean shift and estimates, and what their mean gains."""
    told = [expected for member, _ in run.weighted_models if (expected := Expected.read(member))]
    seen = replace(seen, folds=len(run.weighted_models), fold_gain=without_labels.fold_gain(run, labels))
    aucs = [each.auc for each in told if each.auc]
    if len(aucs) < len(run.weighted_models):
        return seen
    auc, low, high = (float(np.mean(ends)) for ends in zip(*aucs, strict=True))
    shift = Shift(
        (auc, low, high),
        2 * sum(each.shifted for each in told) > len(told),
        {
            name: float(np.mean([each.estimates[name] for each in told]))
            for name in told[0].estimates
            if all(name in each.estimates for each in told)
        },
        float(np.mean([each.shift_error for each in told])),
    )
    return replace(seen, **vars(shift))


def updated(run: Run) -> Expected | None:
    """Return what is expected of a finished run today, with all that was trained and submitted since it ended."""
    stored = Expected.read(run)
    if stored is None:
        return None
    packs = run.competition.load().labelled
    label_of = {id: label for pack in packs for id, label in zip(pack.ids, pack.labels, strict=True)}
    if not set(run.split.holdout) <= set(label_of):  # today's images are others: the stored expectation holds
        return stored
    labels = np.array([label_of[id] for id in run.split.holdout])
    return _adjusted_by_other_runs(run, stored.start or run.result.holdout, labels, stored)


def _adjusted_by_other_runs(run: Run, holdout: Score, labels: NDArray[Any], seen: Expected) -> Expected:
    """Return what is expected from what the run's own images show (`seen`) and from today's runs and submissions."""
    optimism, compared = selection.among_runs(run, labels)
    by_epoch, epochs = selection.among_epochs(run, holdout)
    gaps = _gaps(run)
    seen = replace(
        seen,
        compared=compared,
        optimism=optimism,
        epochs=epochs,
        by_epoch=by_epoch,
        by_stratification=selection.of_stratification(run, labels),
        learned_from=len(gaps),
        learned=float(np.mean(gaps)) if gaps else 0.0,
    )
    gain_error = seen.fold_gain * (LOSS_GAIN_ERROR if seen.of.lower_is_better else GAIN_ERROR)
    doubt = math.hypot(seen.shift_error if seen.shifted else 0.0, gain_error)
    shift, sizes = (doubt, seen.estimates if seen.shifted else {}), (seen.public[3], seen.private[3])
    # The interval of sampling alone: what lengthens the printed one is a bias, which is corrected here.
    start = stratification.by_sampling(holdout)
    public, private = leaderboard.parts_of(start, seen.correction, shift, sizes, gaps)
    return replace(seen, public=public, private=private)


def _gaps(run: Run) -> list[float]:
    """Return by how much the public scores of earlier runs of this competition and metric exceeded their holdout
    scores, the latter with the corrections that each run makes for itself.
    """
    rows = query.table()
    alike = (rows["competition"] == run.competition_name) & (rows["metric"] == run.competition.metric.name)
    seen = rows[alike & rows["public"].notna() & (rows["run"] != run.name)]
    sign = metric_by_name(run.competition.metric.name).sign
    return [
        float(row["public"] - (row["holdout"] + sign * _correction_of(row["run"])))
        for row in seen.drop_duplicates("csv_sha256", keep="last").to_dict("records")
    ]


def _correction_of(name: str) -> float:
    """Return what a run, if it is still here, has added to its holdout score before any shift or luck."""
    if not Run.exists(name):
        return 0.0
    try:
        run = Run.find(name)
        expected = Expected.read(run)
        start = expected.start.value - run.result.holdout.value if expected and expected.start else 0.0
    except UserError:  # damaged, or of another version: it says so when it is asked for
        return 0.0
    return expected.correction + expected.of.sign * start if expected else 0.0
