"""The one scorer. It reads the file that the writer wrote and the checker accepted, so what is scored is uploaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.config import Competition
from featherweight.data import csv_file
from featherweight.data.listing import Label
from featherweight.errors import UserError, nearest
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, score_of
from featherweight.submission.checker import check, probabilities, unknown
from featherweight.submission.csv_format import Form


def score(
    path: Path, form: Form, answers: Mapping[str, Label], competition: Competition, *, groups: Groups | None
) -> Score:
    """Check the CSV at `path` and score it by the competition's metric against the true classes by image id.

    Images with the same number in `groups`, int64 [N] in the form's order, are related: see `Metric.__call__`.
    """
    return score_parts(path, form, answers, {}, competition, groups=groups)[""]


def score_parts(
    path: Path,
    form: Form,
    answers: Mapping[str, Label],
    parts: Mapping[str, str],
    competition: Competition,
    *,
    groups: Groups | None,
) -> dict[str, Score]:
    """Return the score of all images under "", then that of each part (Public, Private); `parts` are by image id.

    Images without an answer are not scored: competitions ignore some.
    """
    cells = check(path, form)
    index = {name: place for place, name in enumerate(competition.classes)}
    known = np.array([image in answers for image in form.images])
    spelled = _spellings(answers, competition)
    true = encoded([spelled.get(image, ()) for image in form.images], index, form.several)

    def score_among(some: NDArray[np.bool_]) -> Score:
        return score_of(competition.metric, cells[some], true[some], groups=None if groups is None else groups[some])

    scores = {"": score_among(known)}
    part_of = np.array([parts.get(image, "") for image in form.images])
    for part in sorted(set(parts.values()), key=lambda name: (name != "Public", name)):
        chosen = (part_of == part) & known
        scores[part] = score_among(chosen)
    return scores


def _spellings(answers: Mapping[str, Label], competition: Competition) -> dict[str, Label]:
    """Return the answers with the classes as the competition spells them: "3" and "3.0" are the same class, and so are
    "cat" and " cat".

    Raises UserError for an answer that is not a class, since no submission can be right about it.
    """
    known = {spelling(name): name for name in competition.classes} | {name: name for name in competition.classes}
    chosen: dict[str, Label] = {}
    for image, label in answers.items():
        names = [
            known.get(name) or known.get(spelling(name)) for name in ((label,) if isinstance(label, str) else label)
        ]
        if None in names:
            strange = label if isinstance(label, str) else label[names.index(None)]
            raise UserError(
                f"{competition.title}: the answer of the id '{image}' is '{strange}', which is not one of the "
                f"{len(competition.classes)} classes{nearest(strange, competition.classes)}\n"
                f"add it to the competition file's classes, or take its row out of the answers"
            )
        chosen[image] = str(names[0]) if isinstance(label, str) else tuple(map(str, names))
    return chosen


def spelling(name: str) -> str:
    """Return what all spellings of a class share: the value of a number, or the name without blanks around it."""
    number = csv_file.number_of(name)
    return name.strip() if number is None else repr(number)


def encoded(labels: Sequence[Label], index: Mapping[str, int], several: bool) -> Answers:
    """Return classes given by name as indices int64 [N] (-1 for none) or, with `several`, as sets uint8 [N, K]."""
    if not several:
        return np.array([index[label] if isinstance(label, str) else -1 for label in labels], dtype=np.int64)
    sets = np.zeros((len(labels), len(index)), dtype=np.uint8)
    for row, names in zip(sets, labels, strict=True):
        row[[index[name] for name in names]] = 1
    return sets


def solution(path: Path, competition: Competition, form: Form) -> tuple[dict[str, Label], dict[str, str]]:
    """Return the true classes and the parts (Public, Private) by image id, from a past competition's solution file.

    The file has the submission's columns and may have `Usage`; rows whose usage is Ignored are left out. Raises
    UserError with the row that does not fit.
    """
    table = csv_file.read(path)
    heads = [name.lower() for name in table.header]
    usages = [row[heads.index("usage")] for row in table.rows] if "usage" in heads else [""] * len(table.rows)
    spelled = dict(zip(form.classes, competition.classes, strict=True))
    wheres = [f"{path}: row {number}" for number in table.numbers]
    labels: list[str] | list[tuple[str, ...]]
    if form.one_column_per_class and set(form.classes) <= set(table.header):
        columns = [table.header.index(name) for name in form.classes]
        order = list(range(len(columns)))
        hot = [
            probabilities([row[c] for c in columns], order, where, row[0], empty=form.several)
            for where, row in zip(wheres, table.rows, strict=True)
        ]
        if form.several:
            labels = [tuple(form.classes[k] for k in order if row[k] > 0.5) for row in hot]
        else:
            labels = [form.classes[int(np.argmax(row))] for row in hot]
    else:
        labels = table.column(competition.submission.label)
        if form.several:
            labels = [tuple(form.parts(label)) for label in labels]
        elif form.positive is not None and not set(labels) & set(spelled):
            # In the column of probabilities the answers are 1 and 0.
            names = {"1": form.classes[form.positive], "0": form.classes[1 - form.positive]}
            labels = [names.get(label.strip().removesuffix(".0"), label) for label in labels]
    image_of = dict(zip(form.ids, form.images, strict=True))
    answers: dict[str, Label] = {}
    parts: dict[str, str] = {}
    for number, row, label, usage in zip(table.numbers, table.rows, labels, usages, strict=True):
        if row[0] not in image_of:
            raise UserError(f"{path}: row {number}: the id '{row[0]}' is not one of the images to predict")
        if usage.lower() == "ignored":
            continue
        each = (label,) if isinstance(label, str) else label
        if strange := [name for name in each if name not in spelled]:
            raise UserError(f"{path}: row {number}: {unknown(strange[0], row[0], form.classes)}")
        names_there = tuple(spelled[name] for name in each)
        answers[image_of[row[0]]] = names_there[0] if isinstance(label, str) else names_there
        if usage:
            parts[image_of[row[0]]] = usage.capitalize()
    if not answers:
        raise UserError(f"{path}: there are no answers")
    return answers, parts
