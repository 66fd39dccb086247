"""From a run's probabilities to its scores: one way for labelled parts and the submission, for runs and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight import budget, submission
from featherweight.budget import BudgetCheck
from featherweight.data.listing import Label
from featherweight.evaluation import stratification
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.runs import division, expected_score, fitted, ledger
from featherweight.runs.expected_score import Expected
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runs.wrong_labels import WrongLabels
from featherweight.submission import grading

Labelled = tuple[Sequence[str], Answers]  # the ids of images [N], and their classes int64 [N] or sets of them [N, K]


def evaluate(run: Run, part: str, ids: Sequence[str], labels: Answers) -> Score:
    """Write a labelled part's CSV from the stored probabilities, as the submission is written, and return its score.

    `ids` [N] are those of the stored probabilities, `labels` their classes int64 [N] or sets of them [N, K]. On the
    holdout the temperature and the decision rule are cross-fitted.
    """
    if part == "holdout":
        probs, answers = fitted.cross_fitted(run, labels)
    else:
        probs = run.probs(part, ids)
        answers = fitted.decision(run)(probs)
    return scored(run, run.csv(part), ids, labels, probs, answers)


def scored(
    run: Run, path: Path, ids: Sequence[str], labels: Answers, probs: NDArray[np.float32], answers: Answers
) -> Score:
    """Write probabilities [N, K] and answers of labelled images `ids` [N] to `path`, as a submission is written, and
    return the score of that file.
    """
    competition = run.competition
    form = submission.holdout_form(competition, ids)
    submission.write(path, form, ids, probs, answers)
    known: dict[str, Label] = dict(zip(ids, names_of(labels, competition.classes), strict=True))
    score = submission.score(path, form, known, competition, groups=run.groups(ids))
    return stratification.widened(score, division.bias(run, ids, labels, probs, answers))


def write_submission(run: Run, ids: Sequence[str]) -> Score | None:
    """Write the submission from the stored probabilities of the images `ids` [N], check it, and return its score if the
    true classes are known; they are read only here.
    """
    competition, path = run.competition, run.csv()
    form, probs = submission.form(competition, ids), run.probs("predict", ids)
    submission.write(path, form, ids, probs, fitted.decision(run)(probs))
    submission.check_upload(path, form)
    known, _ = grading.known_labels(competition, form)
    return submission.score(path, form, known, competition, groups=grading.groups(competition, form)) if known else None


def names_of(labels: Answers, classes: Sequence[str]) -> list[str] | list[tuple[str, ...]]:
    """Return classes int64 [N] by name, or sets [N, K] as tuples of names."""
    if labels.ndim == 1:
        return [classes[label] for label in labels]
    return [tuple(classes[int(k)] for k in np.flatnonzero(row)) for row in labels]


def conclude(
    run: Run,
    weighed: BudgetCheck,
    labelled: Mapping[str, Labelled],
    predict: Sequence[str] | None,
    features: DomainFeatures | None = None,
    leaked: NDArray[np.bool_] | None = None,
) -> Result:
    """Evaluate a run's labelled parts (the holdout always) and its images to predict, which are given by their ids, and
    store the scores in its folder; `record` comes next.

    `features` tell whether the images to predict are shifted; without them the probabilities do. `leaked` [N] are the
    held-out images with related ones in training, if they are more than a few: the expected score is of the others.
    """
    ids, labels = labelled["holdout"]
    fitted.fit_decision(run, labels)
    scores = {part: evaluate(run, part, *images) for part, images in labelled.items()}
    result = Result(
        parameters=weighed.counted,
        limit=weighed.limit,
        holdout=scores["holdout"],
        test=scores.get("test"),
        predict=None if predict is None else write_submission(run, predict),
        minutes=run.minutes,
    )
    expected = Expected.read(run)  # a finished run keeps its expectation, whatever has been trained since
    if expected is None:
        start = result.holdout if leaked is None else division.score_without(run, ids, labels, leaked)
        usable = None if leaked is None else ~leaked
        if start is not None:
            expected = expected_score.expect(run, start, labels, features, usable)
        if expected is not None:
            expected.store(run)
    if labels.ndim == 1 and (wrong := WrongLabels.look(run, ids, run.probs("holdout"), labels)):
        wrong.store(run)
    result.store(run)
    return result


def record(run: Run) -> None:
    """Add a finished run's row to the ledger, unless it is there."""
    result, expected = run.result, Expected.read(run)
    macs = sum(budget.weigh(each.recipe, each.competition, each.name).macs for each, _ in run.weighted_models)
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
