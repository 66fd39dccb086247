"""The submission CSV: one writer, one checker, one scorer, for the holdout as for the test set.

The scorer reads what the writer wrote and the checker let pass, so what is scored is what is uploaded. Ids are text.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic, paths
from featherweight.config import Competition
from featherweight.data import csv_file
from featherweight.errors import UserError, nearest
from featherweight.evaluation.bootstrap import normalized
from featherweight.evaluation.metrics import Score, judge


@dataclass(frozen=True)
class Form:
    """What a submission must look like: its columns, the ids in order, and the classes as they are spelled there.

    `images` are the ids of the same images in the data, which may have a file ending more or less. `columns` are an id
    and a label or, where the competition takes probabilities, an id and a column a class, in any order of the classes;
    or an id and the probability of the class at the place `positive` of two.
    """

    columns: tuple[str, ...]
    ids: list[str]
    classes: list[str]
    images: Sequence[str] = ()
    probabilities: bool = False
    positive: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", list(self.images or self.ids))


def form(competition: Competition, ids: Sequence[str]) -> Form:
    """The form for the images `ids`: from the sample file where there is one, which settles columns, order and ids."""
    wanted = competition.submission
    if wanted.sample is None:
        return holdout_form(competition, ids)
    path = paths.data() / wanted.sample
    sample = csv_file.read(path, ",")
    listed = [row[0] for row in sample.rows]
    if len(set(listed)) < len(listed):
        twice = next(id for id, times in Counter(listed).items() if times > 1)
        raise UserError(f"{path}: the id '{twice}' stands there twice")
    classes = spelled_classes(competition)
    if wanted.takes == "probabilities":
        missing = sorted(set(classes) ^ set(sample.header[1:]))
        if missing:
            raise UserError(
                f"{path}: row 1: the columns after the id are not the competition's classes; "
                f"for example '{missing[0]}' is in only one"
            )
    elif len(sample.header) != 2:
        raise UserError(
            f"{path}: row 1: expected two columns, an id and a label, got {len(sample.header)}; "
            f"for a column a class, say submission.takes: probabilities"
        )
    images = match(listed, ids, path)
    return replace(holdout_form(competition, listed), columns=tuple(sample.header), images=images)


def holdout_form(competition: Competition, ids: Sequence[str]) -> Form:
    """The form of a submission for the holdout: the same columns, its own ids."""
    wanted, classes = competition.submission, spelled_classes(competition)
    probabilities = wanted.takes == "probabilities"
    columns = (wanted.id, *classes) if probabilities else (wanted.id, wanted.label)
    positive = None
    if wanted.takes == "probability":
        positive = 1 if wanted.positive is None else competition.classes.index(wanted.positive)
    return Form(columns, list(ids), classes, probabilities=probabilities, positive=positive)


def spelled_classes(competition: Competition) -> list[str]:
    """The classes in index order as the submission has them: their names, or their places in the list."""
    wanted, classes = competition.submission, competition.classes
    if wanted.codes:
        return [str(place) for place in range(len(classes))]
    return [wanted.spelling.get(name, name) for name in classes]


def match(listed: Sequence[str], images: Sequence[str], path: Path) -> list[str]:
    """The image of each listed id: the same text, or the same but for folders or the file ending.

    Raises UserError where an id has no image, an image no id, or one could be several.
    """
    known = set(images)
    if known == set(listed):
        return list(listed)
    for simplify in (_without_ending, _without_folder, lambda id: _without_ending(_without_folder(id))):
        by_short = {simplify(image): image for image in images}
        if len(by_short) == len(images) == len({simplify(id) for id in listed}):
            found = [by_short.get(simplify(id)) for id in listed]
            if all(found):
                return [image for image in found if image]
    only_listed = sorted(set(listed) - known)
    only_images = sorted(known - set(listed))
    said = [f"'{only_listed[0]}' has no image"] if only_listed else []
    said += [f"'{only_images[0]}' has no row"] if only_images else []
    raise UserError(
        f"{path}: the {len(listed):,} ids are not those of the {len(images):,} test images; for example "
        f"{' and '.join(said)}"
    )


def write(path: Path, form: Form, ids: Sequence[str], probs: NDArray[np.floating]) -> None:
    """Write the most probable class of each id, all its probabilities or the positive class's, in the form's order.

    `probs` is float [N, K], its rows as `ids` (of images), its columns in class order.
    """
    row_of = {id: row for row, id in enumerate(ids)}
    rows = [row_of[image] for image in form.images]
    text = io.StringIO()
    # The csv module takes a bare carriage return for the reader's business, and the reader for a new row.
    returns = any("\r" in field for field in (*form.columns, *form.ids, *form.classes))
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerow(form.columns)
    if form.probabilities:
        order = [form.classes.index(name) for name in form.columns[1:]]
        given = normalized(probs)[rows][:, order]
        writer.writerows([id, *(f"{p:.8g}" for p in row)] for id, row in zip(form.ids, given.tolist(), strict=True))
    elif form.positive is not None:
        certain = normalized(probs)[rows, form.positive].tolist()
        writer.writerows((id, f"{p:.8g}") for id, p in zip(form.ids, certain, strict=True))
    else:
        best = probs.argmax(1)
        writer.writerows((id, form.classes[best[row]]) for id, row in zip(form.ids, rows, strict=True))
    atomic.write_text(path, text.getvalue())


def check(path: Path, form: Form) -> NDArray[np.int64] | NDArray[np.float64]:
    """What a submission says of the form's ids, in their order: classes int64 [N], or probabilities float64 [N, K].

    Raises UserError with the row of the first thing that would be refused.
    """
    header, rows, numbers = _read(path)
    if tuple(header) != form.columns:
        raise UserError(f"{path}: row 1: the header is '{','.join(header)}', expected '{','.join(form.columns)}'")
    known = {id: place for place, id in enumerate(form.ids)}
    index = {name: place for place, name in enumerate(form.classes)}
    order = [index[name] for name in form.columns[1:]] if form.probabilities else []
    rows_of: dict[str, int] = {}
    given: list[int | list[float]] = []
    out_of_order = ""
    for number, row in zip(numbers, rows, strict=True):
        where = f"{path}: row {number}"
        if len(row) != len(form.columns):
            raise UserError(f"{where}: expected {len(form.columns)} fields, got {len(row)}")
        id, *values = row
        if id in rows_of:
            raise UserError(f"{where}: the id '{id}' stands in row {rows_of[id]} already")
        if id not in known:
            raise UserError(f"{where}: the id '{id}' is not in the test set{nearest(id, form.ids)}")
        if form.probabilities:
            given.append(_probabilities(values, order, where, id))
        elif form.positive is not None:
            given.append(_pair(values[0], form.positive, where, id))
        elif values[0] in index:
            given.append(index[values[0]])
        else:
            raise UserError(f"{where}: {_unknown(values[0], id, form.classes)}")
        if not out_of_order and known[id] != len(rows_of):
            expected = form.ids[len(rows_of)] if len(rows_of) < len(form.ids) else "the end"
            out_of_order = f"{where}: the id '{id}' stands where '{expected}' belongs"
        rows_of[id] = number
    missing = [id for id in form.ids if id not in rows_of]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(form.ids)} ids are missing, the first is '{missing[0]}'")
    if out_of_order:
        raise UserError(out_of_order)
    if form.probabilities or form.positive is not None:
        return np.array(given, dtype=np.float64).reshape(len(form.ids), len(form.classes))
    return np.array(given, dtype=np.int64)


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
            _probabilities([row[c] for c in columns], order, where, row[0])
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
            raise UserError(f"{path}: row {number}: {_unknown(label, row[0], form.classes)}")
        answers[image_of[row[0]]] = spelled[label]
        if usage:
            parts[image_of[row[0]]] = usage.capitalize()
    if not answers:
        raise UserError(f"{path}: there are no answers")
    return answers, parts


def _probabilities(values: Sequence[str], order: Sequence[int], where: str, id: str) -> list[float]:
    row = [0.0] * len(order)
    for place, value in zip(order, values, strict=True):
        row[place] = _probability(value, where, id)
    if not any(row):
        raise UserError(f"{where}: every probability of the id '{id}' is 0")
    return row


def _pair(value: str, positive: int, where: str, id: str) -> list[float]:
    """The probabilities of both classes, given the positive one's."""
    certain = _probability(value, where, id)
    return [certain if place == positive else 1 - certain for place in (0, 1)]


def _probability(value: str, where: str, id: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UserError(f"{where}: '{value}' is not a probability (the id '{id}')") from None
    if not 0 <= number <= 1:
        raise UserError(f"{where}: {value} is not a probability (the id '{id}')")
    return number


def _unknown(label: str, id: str, classes: Sequence[str]) -> str:
    if label.strip().lower() in ("", "nan"):
        return f"the id '{id}' has no class"
    return f"there is no class '{label}'{nearest(label, classes)}"


def _without_ending(id: str) -> str:
    stem, dot, ending = id.rpartition(".")
    return stem if dot and stem and "/" not in ending else id


def _without_folder(id: str) -> str:
    return id.rpartition("/")[2]


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """As written: a submission's rows may be faulty, and then the fault is told by the id it stands beside."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from None
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows[0], rows[1:], list(range(2, len(rows) + 1))
