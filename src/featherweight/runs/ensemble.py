"""An ensemble: the mean of the probabilities of several finished runs, of any models and image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight import atomic, budget
from featherweight.console import say
from featherweight.evaluation.bootstrap import halves
from featherweight.models.weights_file import to_safetensors
from featherweight.runs import fitted, groups, members, stored_probs
from featherweight.runs.comparison import holdout_predictions, true_classes
from featherweight.runs.evaluate import Labelled, conclude, record
from featherweight.runs.metadata import SplitIds
from featherweight.runs.paired_tests import HoldoutPredictions
from featherweight.runs.result import Result
from featherweight.runs.run import Run


@dataclass(frozen=True)
class Held:
    """Held-out images: their ids, probabilities float32 [N, K] and true classes int64 [N] or sets [N, K]."""

    ids: list[str]
    probs: NDArray[np.float32]
    labels: NDArray[Any]


def ensemble(names: Sequence[str], *, fit: bool, name: str | None, command: list[str]) -> tuple[Run, Result]:
    """Make a run whose probabilities are the mean of several runs', of any models. Raises OverBudget if together they
    are over the limit.

    `fit` weighs the members by their likelihood on the holdout, which none of them was trained on; the holdout's score
    is then by 2-fold cross-fitting of the weights.
    """
    runs = members.finished(names)
    answered = holdout_predictions(runs)
    weights = fit_weights(answered) if fit else np.full(len(runs), 1 / len(runs))
    probs = cross_fitted_mixture(answered) if fit else averaged([each.probs for each in answered], weights)
    return _together(runs, weights, Held(runs[0].split.holdout, probs, answered[0].labels), name, command)


def weigh(runs: Sequence[Run], name: str) -> budget.BudgetCheck:
    """Return the count of several runs that ship together."""
    members = {run.name: run.load_model() for run in runs}
    return budget.weigh_ensemble(members, runs[0].competition, name, {run.name: run.competition for run in runs})


def ensemble_of_folds(runs: Sequence[Run], held: Held, name: str, command: list[str]) -> tuple[Run, Result]:
    """Make a run whose predictions are the mean over the runs of all folds. Its holdout is every image, predicted out
    of fold: by the one member that was not trained on it.
    """
    return _together(runs, np.full(len(runs), 1 / len(runs)), held, name, command)


def out_of_fold(runs: Sequence[Run]) -> Held:
    """Return each image of all folds with the probabilities of the run that held it out."""
    ids = [id for run in runs for id in run.split.holdout]
    labels, probs, first = true_classes(runs[0], ids), [], 0
    for run in runs:
        last = first + len(run.split.holdout)
        probs.append(fitted.cross_fitted(run, labels[first:last])[0])  # its temperature too
        first = last
    return Held(ids, np.concatenate(probs), labels)


def _together(
    runs: Sequence[Run],
    weights: NDArray[np.float64],
    held: Held,
    name: str | None,
    command: list[str],
) -> tuple[Run, Result]:
    first, competition = runs[0], runs[0].competition
    weighed = weigh(runs, name or "ensemble")
    weighed.refuse_if_over()
    shares = ", ".join(f"{run.name} {weight:.3f}" for run, weight in zip(runs, weights, strict=True))
    say(f"{weighed.name}: {weighed.counted:,} of {weighed.limit:,} parameters; {shares}")

    named = tuple(run.name for run in runs)
    task = members.task("ensemble", first, command)
    with task.new_folder(name, members=named, weights=tuple(weights.tolist())) as combined:
        test = _shared_test(runs)
        combined.store_split(SplitIds([], held.ids, test, provided=first.split.provided))
        groups.store(combined.folder, groups.names(run.folder for run in runs))
        members.write_history(combined.folder, runs)
        tensors = {f"{index}.{key}": tensor for index, run in enumerate(runs) for key, tensor in _weights(run).items()}
        atomic.write_bytes(combined.weights, to_safetensors(tensors))

        stored_probs.store(combined, "holdout", held.probs, held.ids)
        labelled: dict[str, Labelled] = {"holdout": (held.ids, held.labels)}
        if test:
            stored_probs.store(combined, "test", averaged([run.probs("test", test) for run in runs], weights), test)
            labelled["test"] = (test, true_classes(first, test))
        predict = competition.load().predict
        if predict is not None:
            answered = [run.probs("predict", predict.ids, predict.content) for run in runs]
            stored_probs.store(combined, "predict", averaged(answered, weights), predict.ids, predict.content)
        ids = None if predict is None else predict.ids
        result = conclude(combined, weighed, labelled, ids)
    made = Run.find(combined.name)
    record(made)
    return made, result


def fit_weights(answered: Sequence[HoldoutPredictions], chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the weights of the mixture of the members' probabilities with the highest likelihood, by EM (a convex
    problem).

    `chosen` [N] are the images to fit to; by default all. Without an image the weights are equal.
    """
    rows = slice(None) if chosen is None else chosen
    labels = answered[0].labels
    if labels.ndim == 2:  # every class of every image is an answer of its own
        true = np.stack([np.where(labels, each.probs, 1 - each.probs)[rows].ravel() for each in answered])
    else:
        true = np.stack([each.probs[np.arange(len(labels)), labels][rows] for each in answered])
    true = true.astype(np.float64).clip(1e-12)
    weights = np.full(len(answered), 1 / len(answered))
    if not true.shape[1]:  # the other half is one group
        return weights
    for _ in range(1000):
        shares = weights[:, None] * true
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def cross_fitted_mixture(answered: Sequence[HoldoutPredictions]) -> NDArray[np.float32]:
    """Return the holdout's mixture by 2-fold cross-fitting of the weights; related images share a fold."""
    half = halves(len(answered[0].labels), answered[0].groups)
    mixed = np.empty_like(answered[0].probs)
    for part in (half, ~half):
        mixed[part] = averaged([each.probs[part] for each in answered], fit_weights(answered, ~part))
    return mixed


def averaged(
    probs: Sequence[NDArray[np.float32]], weights: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the weighted sum of several probabilities [N, K], computed in float64."""
    total: NDArray[np.float32] = sum(
        (each.astype(np.float64) * weight for each, weight in zip(probs, weights, strict=True)),
        start=np.zeros(probs[0].shape),
    ).astype(np.float32)
    return total


def _shared_test(runs: Sequence[Run]) -> list[str]:
    """Return the ids of the test part if all runs have the same one, else none."""
    test = runs[0].split.test
    return test if all(run.split.test == test for run in runs) else []


def _weights(run: Run) -> dict[str, Tensor]:
    return dict(safetensors.torch.load_file(run.weights))
