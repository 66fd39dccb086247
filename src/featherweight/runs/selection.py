"""Bias (optimism) of the holdout's score: by selecting the best of several runs, trials of a search or epochs, and by
stratification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic, paths
from featherweight.errors import UserError
from featherweight.evaluation import bootstrap, decisions
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, metric_of
from featherweight.runs import division, fitted, query, stored_probs
from featherweight.runs.metadata import DELETE_TO_CONTINUE, Soup, read_record
from featherweight.runs.run import Run
from featherweight.schema import Choice
from featherweight.training.early_stopping import best_of, values

MOST_RUNS = 30  # only the latest runs enter the estimate of selection bias
RESAMPLES = 200


@dataclass(frozen=True)
class Chosen:
    """The `optimism` of the best of the `compared` trials of a search, in its study's folder: the runs of its recipe
    are of a recipe that their holdout has chosen. `holdout` is the `digest` of the images.
    """

    competition: str
    holdout: str
    optimism: float
    compared: int

    def store(self, study: Path) -> None:
        """Write it into the study's folder."""
        atomic.write_text(study / "chosen.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, study: str) -> Chosen | None:
        """Read it from the folder of the study of that name; None if there is none."""
        path = paths.studies() / study / "chosen.json"
        return read_record(path, cls, DELETE_TO_CONTINUE) if path.is_file() else None


def digest(ids: Sequence[str]) -> str:
    """Return a digest of the ids of images, which tells whether two parts are the same."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def among_runs(run: Run, labels: NDArray[Any]) -> tuple[float, int]:
    """Return the optimism of the best run on this holdout, and the number of models compared; 0 for any other run.

    Fitted decision rules are left out. A greedy soup, and a recipe that a search has found, bring the optimism of their
    own selection.
    """
    others = [other for other in on_the_same_images(run) if other.name != run.name][-MOST_RUNS:]
    competition = run.competition
    inside, tried = max(_inside_soup(run), of_search(run))
    if not others:
        return inside, tried
    metric = metric_of(competition.metric)
    decide = decisions.unfitted(competition.target, len(competition.classes))  # fitting takes seconds per run
    decided = [
        fitted.cross_fitted(each, labels)[0] if each.temperature.exists() else each.probs("holdout")
        for each in (run, *others)
    ]
    if metric.input_kind == "answers":
        decided = [decide(probs) for probs in decided]
    related = run.groups(run.split.holdout)
    return max(of_the_best(decided, labels, competition.metric, groups=related), inside), max(len(decided), tried)


def of_the_best(judged: Sequence[Answers], labels: Answers, choice: Choice, *, groups: Groups | None) -> float:
    """Return the optimism of the first of several classifiers' answers or probabilities, [N] or [N, K], if it is the
    best of them on these images; else 0.

    Bootstrap bias correction (Tsamardinos et al. 2018): on resamples of the images, whole groups of related ones, the
    best is selected and scored on the images that were not drawn. Both scores are taken relative to the mean of all
    classifiers on the same images, which cancels most of the chance in the draws.
    """
    metric, keys = metric_of(choice), choice.arguments
    values = [metric.sign * metric.value(one, labels, **keys) for one in judged]
    if values[0] < max(values):
        return 0.0
    related = bootstrap.numbered(groups)
    drawn = np.concatenate(list(bootstrap.resamples(len(labels), RESAMPLES, related)))
    drawn = drawn[(drawn == 0).any(1)]  # resamples that leave images to score
    inside, outside = (
        metric.sign * np.stack([metric.weighted(one, labels, weights, **keys) for one in judged])
        for weights in (drawn, (drawn == 0).astype(np.float64))
    )
    usable = np.isfinite(inside + outside).all(0)  # NaN where the images lack a class that the metric needs
    if not usable.any():
        return 0.0
    best = inside[:, usable].argmax(0)[None]
    # Not by how much less the best scores outside than inside: that is sqrt(2) times too much among equal classifiers,
    # since images that are drawn more than once leave others outside.
    lead = np.take_along_axis(outside[:, usable], best, 0) - outside[:, usable].mean(0)
    return max(float(values[0] - np.mean(values) - lead.mean()), 0.0)


def _inside_soup(run: Run) -> tuple[float, int]:
    """Return the optimism of a greedy soup, whose members its holdout has chosen, and the number of models compared;
    (0, 1) for any other run.
    """
    soup = Soup.read(run.folder)
    return (0.0, 1) if soup is None else (soup.optimism, soup.compared)


def of_search(run: Run) -> tuple[float, int]:
    """Return the optimism of the search that has chosen a run's recipe on the images that the run holds out, and the
    number of its trials; (0, 1) for any other run. The mean of models has the mean of theirs.

    The optimism is the trial's own. A run of another seed or of more epochs shares only a part of it, so this is an
    upper bound. Of a soup, the members that are here count.
    """
    if (soup := Soup.read(run.folder)) is not None:
        parts = [(Run.find(name), 1 / len(soup.members)) for name in soup.members if Run.exists(name)]
    elif run.is_ensemble:
        parts = run.weighted_models
    else:
        chosen = Chosen.read(run.recipe_name)
        same = chosen and (chosen.competition, chosen.holdout) == (run.competition_name, digest(run.split.holdout))
        return (chosen.optimism, chosen.compared) if chosen and same else (0.0, 1)
    told = [(weight, *of_search(part)) for part, weight in parts]
    return sum(weight * optimism for weight, optimism, _ in told), max([1, *(compared for *_, compared in told)])


def among_epochs(run: Run, holdout: Score) -> tuple[float, int]:
    """Return the optimism of an epoch that was selected on the holdout, and the number of epochs; 0 if none was
    selected.

    The neighbours of the best epoch differ from it by one epoch of training and were not selected: how much lower they
    score is nearly all optimism. If the last epoch is the best, only the one before it is used.
    """
    stopping = run.recipe.early_stopping
    if stopping is None or stopping.restore != "best" or run.is_ensemble or not (run.folder / "history.csv").exists():
        return 0.0, 1
    scored = run.history.dropna(subset=[f"holdout_{stopping.metric}"])
    if "holdout_score" not in scored or len(scored) < 2:
        return 0.0, 1
    falls = holdout.of.sign < 0
    rows: list[dict[str, Any]] = [dict(row) for _, row in scored.iterrows()]
    chosen = list(values(rows, stopping.metric, falls))
    best = best_of(chosen, stopping.margin)
    scores = scored["holdout_score"].to_numpy()
    beside = [scores[place] for place in (best - 1, best + 1) if 0 <= place < len(scores)]
    return max(float(holdout.of.sign * (scores[best] - np.mean(beside))), 0.0), len(chosen)


def of_stratification(run: Run, labels: NDArray[Any]) -> float:
    """Return by how much better a stratified holdout scores because it has the class frequencies of the training
    images: see `stratification.bias`.
    """
    return division.bias(run, run.split.holdout, labels, *fitted.cross_fitted(run, labels))


def on_the_same_images(run: Run) -> list[Run]:
    """Return the finished runs here that hold out the same images of the same classes; damaged folders are skipped."""
    rows = query.table()
    same = rows[(rows["competition"] == run.competition_name) & (rows["holdout_images"] == len(run.split.holdout))]
    others = []
    for name in dict.fromkeys(same["run"]):
        try:
            other = Run.find(name)
            alike = other.competition.classes == run.competition.classes and other.split.holdout == run.split.holdout
            if alike and stored_probs.read(other, "holdout") is not None:
                others.append(other)
        except UserError:  # a folder that is gone or damaged
            continue
    return others
