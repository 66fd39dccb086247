"""How far choosing by the holdout flatters the holdout's score: the best of several runs, the best epoch of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError
from featherweight.evaluation import bootstrap, decisions
from featherweight.evaluation.metrics import Score, metric_of
from featherweight.runs import query
from featherweight.runs.run import Run
from featherweight.training.early_stopping import values

MOST_RUNS = 30  # the latest, among which it is asked how far choosing the best one flatters
RESAMPLES = 200


def among_runs(run: Run, labels: NDArray[Any]) -> tuple[float, int]:
    """By how much the score of the best run on this holdout flatters, and how many runs there are; 0 for another one.
    Where decisions are fitted, the runs are compared without.

    On resamples of the images the best run is chosen, and scored on the images that were not drawn (Tsamardinos et al.
    2018).
    """
    others = [other for other in on_the_same_images(run) if other.name != run.name][-MOST_RUNS:]
    competition = run.competition
    if not others:
        return 0.0, 1
    metric, keys = metric_of(competition.metric), competition.metric.arguments
    decide = decisions.unfitted(competition.target, len(competition.classes))  # to fit takes seconds for each run
    decided = [
        each.unseen(each.probs("holdout"), labels)[0] if each.temperature.exists() else each.probs("holdout")
        for each in (run, *others)
    ]
    if metric.judges == "answers":
        decided = [decide(probs) for probs in decided]
    values = [metric.sign * metric.value(one, labels, **keys) for one in decided]
    if values[0] < max(values):
        return 0.0, len(decided)
    drawn = np.concatenate(list(bootstrap.resamples(len(labels), RESAMPLES)))
    drawn = drawn[(drawn == 0).any(1)]  # resamples that leave an image to score
    inside, outside = (
        metric.sign * np.stack([metric.weighted(one, labels, weights, **keys) for one in decided])
        for weights in (drawn, (drawn == 0).astype(np.float64))
    )
    best = inside.argmax(0)[None]
    apart = np.take_along_axis(inside - outside, best, 0) - (inside - outside).mean(0)
    apart = apart[np.isfinite(apart)]  # of a metric that needs a class which few images may lack
    return max(float(apart.mean()), 0.0) if len(apart) else 0.0, len(decided)


def among_epochs(run: Run, holdout: Score) -> tuple[float, int]:
    """By how much choosing the best epoch on the holdout flatters, and among how many; 0 where none was chosen.

    The epochs beside the best one are as good but for what is learned in one epoch, and were not chosen: what they read
    less is flattery, nearly. Where a run ends with its best epoch it is the one before it.
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


def on_the_same_images(run: Run) -> list[Run]:
    """The finished runs here whose folders are in order and that hold out the same images."""
    rows = query.table()
    same = rows[(rows["competition"] == run.competition_name) & (rows["holdout_images"] == len(run.split.holdout))]
    others = []
    for name in dict.fromkeys(same["run"]):
        try:
            other = Run.find(name)
            if other.split.holdout == run.split.holdout and other.raw_probs("holdout") is not None:
                others.append(other)
        except UserError:  # a folder that is gone, or damaged: it says so when it is asked for
            continue
    return others
