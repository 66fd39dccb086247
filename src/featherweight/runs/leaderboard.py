"""What to expect on the leaderboard: beside the validation interval, those of the public and the private score.

A leaderboard's score differs from the validation score for five reasons, each estimated here: few images were held out;
few stand behind each part of the leaderboard; the run was chosen among several by the score itself; the images to
predict may be of another kind; and scores that were seen already show what all this comes to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.evaluation import bootstrap, intervals, unlabelled
from featherweight.evaluation.decisions import judged
from featherweight.evaluation.metrics import Metric, Score, metric_of, named
from featherweight.runs import query
from featherweight.runs.metadata import read_json
from featherweight.runs.run import Run

# The error of label-free estimates, root mean square, where a shift is complete (an AUC of 1); by the first two seeds
# of `./run.sh bench coverage --cells`. The further apart the images are, the less the estimates are worth.
ERROR = 0.3
REPEATED = 0.25  # of the variance of a gap between scores, what differs between two runs on the same images
MOST_RUNS = 30  # the latest, among which it is asked how far choosing the best one flatters
RESAMPLES = 200
FEWEST = 10  # images held out, of fewer of which a resample often leaves none to score


@dataclass(frozen=True)
class Expected:
    """The public and the private score that are expected, each with its 95 % interval and its number of images, and
    what they follow from: see `details`. Scores as parts of one, or in the metric's own unit.
    """

    metric: str
    public: tuple[float, float, float, int]
    private: tuple[float, float, float, int]
    share_is_stated: bool
    compared: int = 1
    optimism: float = 0.0
    auc: tuple[float, float, float] | None = None
    shifted: bool = False
    estimates: dict[str, float] = field(default_factory=dict)
    learned_from: int = 0
    learned: float = 0.0

    @property
    def of(self) -> Metric:
        """The metric."""
        return named(self.metric)

    def __str__(self) -> str:
        parts = [
            f"{part} {self.of.shown(low)} to {self.of.shown(high)} ({images:,} images)"
            for part, (_, low, high, images) in (("public", self.public), ("private", self.private))
        ]
        return ", ".join(parts) + (", shifted" if self.shifted else "")

    @property
    def details(self) -> list[str]:
        """In words, what it follows from, a line a reason."""
        stated = "as stated" if self.share_is_stated else "not stated, so taken: submission.public in its file"
        share = self.public[3] / max(self.public[3] + self.private[3], 1)
        lines = [f"public part: {share:.0%} of the images ({stated})"]
        if self.compared > 1:
            flattery = f"the best of {self.compared} runs on this validation set flatters by "
            lines.append(flattery + f"{self.of.number(self.optimism)} {self.of.unit}, taken off")
        if self.auc is not None:
            low, high = f"{self.auc[1]:.2f}", f"{self.auc[2]:.2f}"
            shift = "the images to predict differ from those held out" if self.shifted else "no shift is seen"
            lines.append(f"{shift}: a classifier tells them apart with an AUC of {self.auc[0]:.2f} ({low} to {high})")
        if self.estimates:
            each = ", ".join(f"{name} {self.of.shown(value)}" for name, value in self.estimates.items())
            within = f"used, within {error_under(self.auc[0]) * 100:.0f} points" if self.auc else ""
            used = within if self.shifted else "not used: no shift"
            lines.append(f"without labels: {each} ({used})")
        if self.learned_from:
            came = f"{self.of.number(self.learned, '+')} {self.of.unit}"
            scores = "scores were" if self.learned_from > 1 else "score was"
            lines.append(f"{self.learned_from:,} earlier public {scores} {came} from validation: taken into account")
        return lines

    @classmethod
    def read(cls, run: Run) -> Expected | None:
        """As it was kept in a run's folder; None where there is nothing to predict, or the run is older."""
        path = run.folder / "leaderboard.json"
        if not path.is_file():
            return None
        stored = read_json(path)
        for key in ("public", "private", "auc"):
            stored[key] = None if stored[key] is None else tuple(stored[key])
        return cls(**stored)

    def store(self, run: Run) -> None:
        """Keep it in a run's folder."""
        atomic.write_text(run.folder / "leaderboard.json", json.dumps(asdict(self), indent=2) + "\n")


def expect(
    run: Run, holdout: Score, labels: NDArray[Any], features: tuple[NDArray[Any], NDArray[Any]] | None = None
) -> Expected | None:
    """What a run with probabilities of its holdout and its images to predict may expect; None where there are none to
    predict, or where too few are held out.

    `features` are the network's of both, [N, F] and [M, F]; without them the probabilities serve.
    """
    to_predict = run.raw_probs("predict")
    if to_predict is None or not len(to_predict) or holdout.count < FEWEST:
        return None
    probs, _ = run.unseen(run.probs("holdout"), labels)
    test = run.probs("predict")
    if features is None:
        features = np.log(probs.clip(1e-6)), np.log(test.clip(1e-6))
    found = unlabelled.domain(*features)
    estimates: dict[str, float] = {}
    counted = holdout.of.counts and holdout.of.judges == "answers" and labels.ndim == 1
    if counted:
        estimates = unlabelled.estimates(probs, probs.argmax(1) == labels, test, found.weights)
        estimates |= _by_agreement(run, holdout.value, probs, test)
    optimism, compared = _optimism(run, labels)
    share = run.competition.submission.public
    images = math.ceil(len(test) * (query.PUBLIC_SHARE if share is None else share))
    gaps = _gaps(run)
    shift = (found.auc.value, estimates if found.shifted else {})
    parts = _parts(holdout, optimism, shift, (images, len(test) - images), gaps)
    return Expected(
        metric=holdout.metric,
        public=parts[0],
        private=parts[1],
        share_is_stated=share is not None,
        compared=compared,
        optimism=optimism,
        auc=(found.auc.value, found.auc.low, found.auc.high),
        shifted=found.shifted,
        estimates=estimates,
        learned_from=len(gaps),
        learned=float(np.mean(gaps)) if gaps else 0.0,
    )


def error_under(auc: float) -> float:
    """The error of the label-free estimates, root mean square, where images are told apart this well."""
    return ERROR * max(2 * auc - 1, 0.0)


def _parts(
    holdout: Score,
    optimism: float,
    shift: tuple[float, dict[str, float]],
    sizes: tuple[int, int],
    gaps: Sequence[float],
) -> list[tuple[float, float, float, int]]:
    """The expected score of each part of the leaderboard, the ends of its interval, its images.

    `shift` are the AUC of a shift and the estimates under it; none where none is seen. Variances add: of the holdout,
    of the part, and of the estimates. Gaps seen before move the expectation as far as what is common to runs on the
    same images explains them (normal prior, normal likelihood).
    """
    own = ((holdout.high - holdout.low) / (2 * 1.96)) ** 2
    centre = holdout.value - holdout.of.sign * optimism
    common = own
    auc, estimates = shift
    if estimates:
        common += error_under(auc) ** 2
        if not gaps:  # scores that were seen know better
            centre = float(np.mean(list(estimates.values())))
    of_public = own * holdout.count / max(sizes[0], 1)
    gap_variance = common + of_public
    weight = len(gaps) / (len(gaps) + REPEATED) if gaps and gap_variance > 0 else 0.0
    parts = []
    for images, seen in ((sizes[0], 1.0), (sizes[1], common / gap_variance if gap_variance > 0 else 0.0)):
        variance = common + own * holdout.count / max(images, 1)
        moved = centre + (weight * seen * float(np.mean(gaps)) if gaps else 0.0)
        left = variance - weight * seen * (gap_variance if seen == 1.0 else common)
        parts.append((moved, *_ends(holdout, moved, max(left, REPEATED * variance)), images))
    return parts


def _ends(holdout: Score, centre: float, variance: float) -> tuple[float, float]:
    metric = holdout.of
    if metric.lower_is_better:
        factor = math.exp(1.96 * math.sqrt(variance) / centre) if centre > 0 else 1.0
        return centre / factor, centre * factor
    low, high = metric.span
    share = float(np.clip((centre - low) / (high - low), 0, 1))
    ends = intervals.of_variance(share, variance / (high - low) ** 2, holdout.count)
    return low + ends[0] * (high - low), low + ends[1] * (high - low)


def _optimism(run: Run, labels: NDArray[Any]) -> tuple[float, int]:
    """By how much the score of the best run on this holdout flatters, and how many runs there are; 0 for another one,
    and not estimated where decisions are fitted.

    On resamples of the images the best run is chosen, and scored on the images that were not drawn (Tsamardinos et al.
    2018).
    """
    others = [other for other in _on_the_same_images(run) if other.name != run.name][-MOST_RUNS:]
    competition = run.competition
    if not others or competition.target != "one":  # thresholds of sets are fitted for seconds, for each run anew
        return 0.0, 1
    metric, keys = metric_of(competition.metric), competition.metric.arguments
    inputs = [
        judged(competition.target, competition.metric, each.unseen(each.probs("holdout"), labels)[0], labels)
        for each in (run, *others)
    ]
    values = [metric.sign * metric.value(one, labels, **keys) for one in inputs]
    if values[0] < max(values):
        return 0.0, len(inputs)
    drawn = np.concatenate(list(bootstrap.resamples(len(labels), RESAMPLES)))
    drawn = drawn[(drawn == 0).any(1)]  # resamples that leave an image to score
    inside, outside = (
        metric.sign * np.stack([metric.weighted(one, labels, weights, **keys) for one in inputs])
        for weights in (drawn, (drawn == 0).astype(np.float64))
    )
    best = inside.argmax(0)[None]
    apart = np.take_along_axis(inside - outside, best, 0) - (inside - outside).mean(0)
    apart = apart[np.isfinite(apart)]  # of a metric that needs a class which few images may lack
    return max(float(apart.mean()), 0.0) if len(apart) else 0.0, len(inputs)


def _on_the_same_images(run: Run) -> list[Run]:
    """The finished runs here whose folders are in order and that hold out the same images."""
    rows = query.table()
    same = rows[(rows["competition"] == run.competition_name) & (rows["holdout_images"] == len(run.split.holdout))]
    found = []
    for name in dict.fromkeys(same["run"]):
        try:
            other = Run.find(name)
            if other.split.holdout == run.split.holdout and other.raw_probs("holdout") is not None:
                found.append(other)
        except UserError:  # a folder that is gone, or damaged: it says so when it is asked for
            continue
    return found


def _by_agreement(run: Run, accuracy: float, probs: NDArray[Any], test: NDArray[Any]) -> dict[str, float]:
    """What other seeds of the recipe say: they agree on the test by as much less as they are right less often."""
    for other in _on_the_same_images(run):
        theirs = other.raw_probs("predict")
        seed_alone = other.recipe.model_copy(update={"seed": run.recipe.seed}) == run.recipe
        if other.name != run.name and seed_alone and theirs is not None and len(theirs) == len(test):
            held = unlabelled.agreement(probs, other.probs("holdout"))
            gain = unlabelled.agreement(test, theirs) - held
            return {f"agreement with {other.name}": float(np.clip(accuracy + gain, 0, 1))}
    return {}


def _gaps(run: Run) -> list[float]:
    """By how much the public scores of earlier runs of this competition were above their holdout scores."""
    rows = query.table()
    seen = rows[(rows["competition"] == run.competition_name) & rows["public"].notna() & (rows["run"] != run.name)]
    return [float(row["public"] - row["holdout"]) for row in seen.to_dict("records")]
