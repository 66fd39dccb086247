"""Bias (optimism) of the holdout's score: by selecting the best of several runs or epochs, and by stratification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError
from featherweight.evaluation import bootstrap, decisions
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, metric_of
from featherweight.evaluation.stratification import population_weights
from featherweight.runs import fitted, query, stored_probs
from featherweight.runs.metadata import DELETE_TO_CONTINUE, read_json
from featherweight.runs.run import Run
from featherweight.schema import Choice
from featherweight.training.early_stopping import values
from featherweight.untrusted_files import explained

MOST_RUNS = 30  # only the latest runs enter the estimate of selection bias
RESAMPLES = 200


def among_runs(run: Run, labels: NDArray[Any]) -> tuple[float, int]:
    """Return the optimism of the best run on this holdout, and the number of runs compared; 0 for any other run.

    Fitted decision rules are left out. A greedy soup brings the optimism of its own selection (`soup.json`).
    """
    others = [other for other in on_the_same_images(run) if other.name != run.name][-MOST_RUNS:]
    competition = run.competition
    inside, tried = _inside_soup(run)
    if not others:
        return inside, tried
    metric = metric_of(competition.metric)
    decide = decisions.unfitted(competition.target, len(competition.classes))  # fitting takes seconds per run
    decided = [
        fitted.cross_fitted(each, each.probs("holdout"), labels)[0]
        if each.temperature.exists()
        else each.probs("holdout")
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
    best is selected and scored on the images that were not drawn.
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
    best = inside.argmax(0)[None]
    apart = np.take_along_axis(inside - outside, best, 0) - (inside - outside).mean(0)
    apart = apart[np.isfinite(apart)]  # NaN where the images lack a class that the metric needs
    return max(float(apart.mean()), 0.0) if len(apart) else 0.0


def _inside_soup(run: Run) -> tuple[float, int]:
    """Return the optimism of a greedy soup, whose members its holdout has chosen, and the number of models compared;
    (0, 1) for any other run.
    """
    soup = run.folder / "soup.json"
    if not soup.exists():
        return 0.0, 1
    with explained(soup, DELETE_TO_CONTINUE):
        about = read_json(soup)
        return float(about.get("optimism", 0.0)), int(about.get("compared", 1))


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
    best = int(np.argmin(chosen))
    scores = scored["holdout_score"].to_numpy()
    beside = [scores[place] for place in (best - 1, best + 1) if 0 <= place < len(scores)]
    return max(float(holdout.of.sign * (scores[best] - np.mean(beside))), 0.0), len(chosen)


def of_stratification(run: Run, labels: NDArray[Any]) -> float:
    """Return by how much better a stratified holdout scores because it has the class frequencies of the training
    images: see `stratification`. 0 for sets of classes, and for a validation part that came with the data.
    """
    if labels.ndim > 1 or (run.competition.load().valid is not None and run.recipe.split.folds is None):
        return 0.0
    labelled = {id for member, _ in run.weighted_models for id in member.split.train}.union(run.split.holdout)
    images = bootstrap.independent(len(labels), run.groups(run.split.holdout)) * len(labelled) / len(labels)
    metric, keys = metric_of(run.competition.metric), run.competition.metric.arguments
    probs, answers = fitted.cross_fitted(run, run.probs("holdout"), labels)
    judged = answers if metric.input_kind == "answers" else probs.astype(np.float64)
    weights = np.stack([np.ones(len(labels)), population_weights(labels, images)])
    as_held, as_drawn = metric.weighted(judged, labels, weights, **keys)
    return float(metric.sign * (as_held - as_drawn))


def on_the_same_images(run: Run) -> list[Run]:
    """Return the finished runs here that hold out the same images; damaged folders are skipped."""
    rows = query.table()
    same = rows[(rows["competition"] == run.competition_name) & (rows["holdout_images"] == len(run.split.holdout))]
    others = []
    for name in dict.fromkeys(same["run"]):
        try:
            other = Run.find(name)
            if other.split.holdout == run.split.holdout and stored_probs.read(other, "holdout") is not None:
                others.append(other)
        except UserError:  # a folder that is gone or damaged
            continue
    return others
