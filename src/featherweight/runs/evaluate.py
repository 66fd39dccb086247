"""From a run's probabilities to its scores: one way for labelled parts and the submission, for runs and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featherweight import budget, submission
from featherweight.budget import BudgetCheck
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.runs import expected_score, fitted, ledger
from featherweight.runs.expected_score import Expected
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runs.wrong_labels import WrongLabels
from featherweight.submission import grading

Labelled = tuple[Sequence[str], Answers | None]  # the ids of images, and their classes if known


def evaluate(run: Run, part: str, ids: Sequence[str], labels: Answers | None = None) -> Score | None:
    """Write a part's CSV from the stored probabilities, check it, and return its score if the labels are known.

    A labelled part, with classes `labels` int64 [N] or sets of them [N, K], is written and scored like the submission,
    whose labels, if they are known, are read only here. `ids` [N] are those of the stored probabilities. On the holdout
    the temperature and the decision rule are cross-fitted.
    """
    competition, path = run.competition, run.csv(part)
    form = submission.holdout_form(competition, ids) if part != "predict" else submission.form(competition, ids)
    probs = run.probs(part, ids)
    if part == "holdout" and labels is not None:
        probs, answers = fitted.cross_fitted(run, probs, labels)
    else:
        answers = fitted.decision(run)(probs)
    submission.write(path, form, ids, probs, answers)
    submission.check(path, form)
    if labels is None:
        known, _ = grading.known_labels(competition, form)
        groups = grading.groups(competition, form) if known else None
    else:
        known = dict(zip(ids, names_of(labels, competition.classes), strict=True))
        groups = run.groups(form.images)
    return submission.score(path, form, known, competition, groups=groups) if known else None


def names_of(labels: Answers, classes: Sequence[str]) -> list[str] | list[tuple[str, ...]]:
    """Return classes int64 [N] by name, or sets [N, K] as tuples of names."""
    if labels.ndim == 1:
        return [classes[label] for label in labels]
    return [tuple(classes[int(k)] for k in np.flatnonzero(row)) for row in labels]


def conclude(
    run: Run,
    weighed: BudgetCheck,
    parts: Mapping[str, Labelled],
    features: DomainFeatures | None = None,
    answered_alike: bool = True,
) -> Result:
    """Evaluate the parts that a run has (the holdout always), and store the scores in its folder; `record` comes next.

    `features` tell whether the images to predict are shifted; without them the probabilities do, unless they are not
    `answered_alike`: one model answers the holdout and the mean of several the images to predict.
    """
    labels = parts["holdout"][1]
    assert labels is not None
    fitted.fit_decision(run, labels)
    scores = {part: evaluate(run, part, *images) for part, images in parts.items()}
    assert scores["holdout"] is not None
    result = Result(
        parameters=weighed.counted,
        limit=weighed.limit,
        holdout=scores["holdout"],
        test=scores.get("test"),
        predict=scores.get("predict"),
        minutes=run.minutes,
    )
    expected = Expected.read(run)  # a finished run keeps its expectation, whatever has been trained since
    if expected is None:
        expected = expected_score.expect(run, result.holdout, labels, features, answered_alike)
        if expected is not None:
            expected.store(run)
    if labels.ndim == 1 and (wrong := WrongLabels.look(run, parts["holdout"][0], run.probs("holdout"), labels)):
        wrong.store(run)
    result.store(run)
    return result


def record(run: Run) -> None:
    """Add a finished run's row to the ledger, unless it is there."""
    result, expected = run.result, Expected.read(run)
    macs = sum(budget.weigh(each.recipe, each.competition, each.name).macs for each, _ in run.answering)
    scores = {"holdout": result.holdout, "test": result.test, "predict": result.predict}
    columns: dict[str, object] = {}
    for part, score in scores.items():
        columns |= {
            part: round(score.value, 6) if score else "",
            f"{part}_low": round(score.low, 6) if score else "",
            f"{part}_high": round(score.high, 6) if score else "",
            f"{part}_images": score.count if score else "",
        }
    for part in ("public", "private") if expected else ():
        _, low, high, _ = getattr(expected, part)
        columns |= {f"{part}_low": round(low, 6), f"{part}_high": round(high, 6)}
    csv = run.csv()
    ledger.record(
        {
            "date": run.metadata.started,
            "run": run.name,
            "recipe": run.recipe_name,
            "competition": run.competition_name,
            "seed": run.recipe.seed,
            "parameters": result.parameters,
            "limit": result.limit,
            "macs": macs,
            "epochs": run.epochs or run.recipe.train.epochs,
            "metric": run.competition.metric.name,
            **columns,
            "predict_images": csv.read_bytes().count(b"\n") - 1 if csv.exists() else "",
            "minutes": round(result.minutes, 2),
            "device": run.metadata.device,
            "commit": run.metadata.commit,
            "csv_sha256": ledger.sha256(csv) if csv.exists() else "",
            "weights_sha256": ledger.sha256(run.weights),
            "command": run.metadata.command,
            "settings": ledger.settings(run.recipe.model_dump(mode="json")),
        }
    )
