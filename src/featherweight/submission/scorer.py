"""The one scorer. It reads what the writer wrote and the checker let pass, so what is scored is what is uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featherweight.config import Competition
from featherweight.data import csv_file
from featherweight.errors import UserError
from featherweight.evaluation.metrics import Score, judge
from featherweight.submission.checker import check, probabilities, unknown
from featherweight.submission.layout import Form


def score(path: Path, form: Form, answers: Mapping[str, str], competition: Competition) -> Score:
    """Check the CSV at `path` and score it by the competition's metric against the true classes by image id."""
    return score_parts(path, form, answers, {}, competition)[""]


def score_parts(
    path: Path, form: Form, answers: Mapping[str, str], parts: Mapping[str, str], competition: Competition
) -> dict[str, Score]:
    """The score of the whole under "", then that of each part (Public, Private), given by image id.

    Images without an answer are left out: competitions ignore some.
    """
    given = check(path, form)
    index = {name: place for place, name in enumerate(competition.classes)}
    true = np.array([index[answers[image]] if image in answers else -1 for image in form.images], dtype=np.int64)
    scores = {"": judge(competition.metric, given[true >= 0], true[true >= 0])}
    part_of = np.array([parts.get(image, "") for image in form.images])
    for part in sorted(set(parts.values()), key=lambda name: (name != "Public", name)):
        chosen = (part_of == part) & (true >= 0)
        scores[part] = judge(competition.metric, given[chosen], true[chosen])
    return scores


def solution(path: Path, competition: Competition, form: Form) -> tuple[dict[str, str], dict[str, str]]:
    """The true classes and the parts (Public, Private) by image id, from a solution file of a competition that is over.

    The file has the submission's columns, and perhaps `Usage`; rows whose usage is Ignored are left out. Raises
    UserError with the row of what does not fit.
    """
    table = csv_file.read(path)
    heads = [name.lower() for name in table.header]
    usages = [row[heads.index("usage")] for row in table.rows] if "usage" in heads else [""] * len(table.rows)
    spelled = dict(zip(form.classes, competition.classes, strict=True))
    if form.probabilities and set(form.classes) <= set(table.header):
        columns = [table.header.index(name) for name in form.classes]
        order = list(range(len(columns)))
        wheres = [f"{path}: row {number}" for number in table.numbers]
        hot = [
            probabilities([row[c] for c in columns], order, where, row[0])
            for where, row in zip(wheres, table.rows, strict=True)
        ]
        labels = [form.classes[int(np.argmax(row))] for row in hot]
    else:
        labels = table.column(competition.submission.label)
        if form.positive is not None and not set(labels) & set(spelled):
            # In the column of probabilities the answers are 1 and 0.
            names = {"1": form.classes[form.positive], "0": form.classes[1 - form.positive]}
            labels = [names.get(label.strip().removesuffix(".0"), label) for label in labels]
    image_of = dict(zip(form.ids, form.images, strict=True))
    answers: dict[str, str] = {}
    parts: dict[str, str] = {}
    for number, row, label, usage in zip(table.numbers, table.rows, labels, usages, strict=True):
        if row[0] not in image_of:
            raise UserError(f"{path}: row {number}: the id '{row[0]}' is not in the test set")
        if usage.lower() == "ignored":
            continue
        if label not in spelled:
            raise UserError(f"{path}: row {number}: {unknown(label, row[0], form.classes)}")
        answers[image_of[row[0]]] = spelled[label]
        if usage:
            parts[image_of[row[0]]] = usage.capitalize()
    if not answers:
        raise UserError(f"{path}: there are no answers")
    return answers, parts
