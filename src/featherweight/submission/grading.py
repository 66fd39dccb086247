"""Check any submission against a competition, and score it if the answers are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featherweight import paths, submission
from featherweight.config import Competition
from featherweight.data import pack, parts
from featherweight.data.listing import Label
from featherweight.errors import UserError, count_of
from featherweight.evaluation.bootstrap import Groups


def score_csv(path: Path, competition: Competition) -> str:
    """Check any submission and, if the answers are known, score it; return the outcome in words."""
    form = _form(competition)
    known, part_of = known_labels(competition, form)
    if not known:
        submission.check_upload(path, form)
        return f"{path} is a valid submission of {count_of(len(form.ids), 'row')}; the answers are not known here"
    scores = submission.score_parts(path, form, known, part_of, competition, groups=groups(competition, form))
    return "\n".join(f"{f'{part} ' if part else ''}{competition.metric.name} {score}" for part, score in scores.items())


def known_labels(competition: Competition, form: submission.Form) -> tuple[Mapping[str, Label], dict[str, str]]:
    """Return, where they are known, the true classes of the images to predict, and the parts (Public, Private) in which
    these are scored.
    """
    if competition.submission.solution is not None:
        return submission.solution(paths.data() / competition.submission.solution, competition, form)
    return pack.answers(competition.source) or {}, {}


def groups(competition: Competition, form: submission.Form) -> Groups | None:
    """Return the group number of each image to predict, int64 [N] in the form's order: related images have the same."""
    predict = competition.load().predict
    if predict is None:
        return None
    group_of = dict(zip(predict.ids, parts.predict_groups(competition, predict).tolist(), strict=True))
    return np.array([group_of[image] for image in form.images], dtype=np.int64)


def check_csv(path: Path, competition: Competition) -> int:
    """Return the number of rows of a submission. Raises UserError with the first row that Kaggle would refuse."""
    return submission.check_upload(path, _form(competition))


def _form(competition: Competition) -> submission.Form:
    data = competition.load()
    if data.predict is None:
        raise UserError(f"{competition.title} has no images to predict, so nothing is submitted for it")
    return submission.form(competition, data.predict.ids)
