"""What a report shows, computed from a finished run: plain numbers and arrays, nothing drawn yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featherweight import budget
from featherweight.data.pack import Data, LabelledPack
from featherweight.data.parts import provided_holdout
from featherweight.errors import UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.label_noise import label_noise
from featherweight.inspection import checks
from featherweight.inspection.checks import Finding
from featherweight.report.gradcam import gradcam
from featherweight.runs import division, fitted, predictions
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runtime import device as devices

MISTAKES = 24  # most confident mistakes shown
LOOKED_INTO = 8  # of those with Grad-CAM
SUSPECTS = 24
GROUPS = 20  # clusters that 100 classes and more are merged into


@dataclass(frozen=True)
class Picture:
    """A holdout image uint8 [H, W, C], its true and predicted class, and a Grad-CAM heat map, if there is one."""

    id: str
    image: NDArray[np.uint8]
    true: str
    predicted: str
    confidence: float
    heat: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything about one run.

    `probs` float32 [N, K] and the classes `predicted` and `true` int64 [N] are the holdout's, with views, as they are
    scored: cross-fitted. A soup or a probe, which was not trained, has no history. `teachers` describes each teacher by
    name. `came_divided`: the data has a validation part of its own.
    """

    run: Run
    result: Result
    weighed: budget.BudgetCheck
    history: pd.DataFrame | None
    teachers: dict[str, str]
    classes: list[str]
    probs: NDArray[np.float32]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]
    plain_accuracy: float
    mistakes: list[Picture]
    suspects: list[Picture]
    counts: dict[str, NDArray[np.int64]]
    tested: int
    findings: list[Finding]
    near: bool
    came_divided: bool

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix of the holdout, int64 [K, K]: rows are true classes, columns predicted ones."""
        size = len(self.classes)
        return np.bincount(self.true * size + self.predicted, minlength=size * size).reshape(size, size)


def gather(run: Run) -> Evidence:
    """Compute what a report shows. Raises UserError for an ensemble, and for a run that is not finished."""
    if run.is_ensemble:
        members = ", ".join(run.members)
        raise UserError(
            f"{run.name} is an ensemble, which has no training and no single model to report on; write the reports of "
            f"its members: {members}"
        )
    result = run.result
    competition = run.competition
    data = competition.load()
    train, holdout, test = division.split(run, data)
    device = devices.make_runtime(run.device, run.recipe.train.precision, run.metadata.threads)
    model = run.load_model()
    probs, predicted = fitted.cross_fitted(run, holdout.labels)
    plain = probs
    if predictions.views(run.recipe, competition):
        plain = predict_probs(
            [model],
            holdout.images,
            runtime=device,
            **predictions.inference_options(run.recipe, competition, plain=True),
        )
    wrong = np.flatnonzero(predicted != holdout.labels)
    worst = wrong[np.argsort(-probs[wrong].max(1), kind="stable")][:MISTAKES]
    looked = worst[:LOOKED_INTO]
    heats = gradcam(model, holdout.images[looked], predicted[looked], device) if len(looked) else None
    classes = competition.classes
    size = len(classes)
    whole = checks.join(train, holdout if test is None else checks.join(holdout, test))
    near = len(whole) + (len(data.predict) if data.predict else 0) <= checks.MOST_COMPARED
    findings, _ = checks.copies(Data(whole, data.predict), classes, np.arange(len(whole)) >= len(train), near)
    return Evidence(
        run=run,
        result=result,
        weighed=budget.weigh(run.recipe, competition, run.recipe_name),
        history=run.history if run.recipe.train.epochs and not run.members else None,
        teachers=_teachers(run),
        classes=classes,
        probs=probs,
        predicted=predicted,
        true=holdout.labels,
        plain_accuracy=float((plain.argmax(1) == holdout.labels).mean()),
        mistakes=_pictures(holdout, worst, probs, predicted, classes, [] if heats is None else list(heats)),
        suspects=_suspects(holdout, probs, classes),
        counts={
            "train": np.bincount(train.labels, minlength=size),
            "holdout": np.bincount(holdout.labels, minlength=size),
        },
        tested=len(data.predict) if data.predict else 0,
        findings=findings,
        near=near,
        came_divided=provided_holdout(run.recipe.split, data) is not None,
    )


def by_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of each class, the lowest F1 first; 0 for divisions by zero."""
    right, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = np.nan_to_num(right / predicted), np.nan_to_num(right / support)
        f1 = np.nan_to_num(2 * right / (predicted + support))
    rows = [
        {"name": name, "precision": precision[k], "recall": recall[k], "f1": f1[k], "support": int(support[k])}
        for k, name in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row["f1"], row["name"]))


def most_confused(confusion: NDArray[np.int64], classes: Sequence[str], count: int = 12) -> list[tuple[str, str, int]]:
    """Return (true class, predicted class, images) of the most frequent mistakes."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [(int(place) // len(classes), int(place) % len(classes)) for place in order]
    return [
        (classes[true], classes[predicted], int(wrong[true, predicted]))
        for true, predicted in pairs
        if wrong[true, predicted]
    ]


def clustered_classes(
    confusion: NDArray[np.int64], classes: Sequence[str]
) -> tuple[NDArray[np.int64], list[list[str]]]:
    """Return a confusion matrix of 100 classes and more merged into GROUPS clusters of confused classes, and their
    names; fewer classes stay as they are.

    Average linkage on 1 - the share of two classes' images that are predicted as one another.
    """
    if len(classes) < 100:
        return confusion, [[name] for name in classes]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    support = np.maximum(confusion.sum(1, keepdims=True), 1)
    shares = confusion / support
    distance = 1 - np.minimum((shares + shares.T) / 2, 1)
    np.fill_diagonal(distance, 0)
    group = fcluster(linkage(squareform(distance, checks=False), "average"), GROUPS, "maxclust") - 1
    member = np.eye(group.max() + 1, dtype=np.int64)[group]
    names = [[name for name, where in zip(classes, group, strict=True) if where == g] for g in range(group.max() + 1)]
    order = sorted(range(len(names)), key=lambda g: -len(names[g]))
    return (member.T @ confusion @ member)[np.ix_(order, order)], [names[g] for g in order]


def calibration(probs: NDArray[np.float32], true: NDArray[np.int64], bins: int = 15) -> tuple[pd.DataFrame, float]:
    """Return accuracy against confidence in equal bins, and the expected calibration error (arXiv:1706.04599)."""
    confidence = probs.max(1).astype(np.float64)
    right = probs.argmax(1) == true
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    held = np.maximum(counts, 1)
    table = pd.DataFrame(
        {
            "middle": (np.arange(bins) + 0.5) / bins,
            "confidence": np.bincount(place, confidence, bins) / held,
            "accuracy": np.bincount(place, right, bins) / held,
            "count": counts,
        }
    )
    error = float((counts / len(true) * (table["accuracy"] - table["confidence"]).abs()).sum())
    return table, error


def _teachers(run: Run) -> dict[str, str]:
    """Return a description of each teacher of a run, by name."""
    descriptions: dict[str, str] = {}
    for name in run.recipe.distill.teachers if run.recipe.distill else []:
        if name.endswith(".npz"):
            descriptions[name] = "saved probabilities"
        elif Run.exists(name):
            teacher = Run.find(name)
            descriptions[name] = f"{budget.weigh(teacher.recipe, teacher.competition, name).parameters:,} parameters"
        else:
            descriptions[name] = "a run that is no longer there"
    return descriptions


def _pictures(
    holdout: LabelledPack,
    places: NDArray[np.int64],
    probs: NDArray[np.float32],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    heats: Sequence[Any],
) -> list[Picture]:
    return [
        Picture(
            holdout.ids[place],
            np.array(holdout.images[place]),
            classes[holdout.labels[place]],
            classes[int(predicted[place])],
            float(probs[place, predicted[place]]),
            heats[number] if number < len(heats) else None,
        )
        for number, place in enumerate(places)
    ]


def _suspects(holdout: LabelledPack, probs: NDArray[np.float32], classes: Sequence[str]) -> list[Picture]:
    """Return holdout images whose labels look wrong, the most probable first."""
    noise = label_noise(probs, holdout.labels)
    return _pictures(holdout, noise.suspects[:SUSPECTS], probs, probs.argmax(1), classes, []) if noise.is_seen else []
