"""The form of a submission: its columns, its ids in order, the spelling of its classes. Ids are text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featherweight import paths
from featherweight.config import Competition
from featherweight.data import csv_file, file_matching
from featherweight.data.file_matching import bare, without_folder
from featherweight.errors import UserError

COLUMNS = ("probabilities", "one_hot")  # kinds of submission with one column per class


@dataclass(frozen=True)
class Form:
    """The form of a submission: its columns, its ids in order, and the spelling of its classes.

    `images` are the ids of the same images in the data, where file endings may differ. `takes` is the key of the
    competition's file. The `columns` are an id and a label (a class, a set of classes or the `k` best, with `separator`
    between them, or the probability of the class at index `positive` of two), or an id and one column per class in any
    order, with probabilities or with 1 and 0. With `several`, an image has a set of classes; `empty` is written for one
    without classes, and may be the name of a class (No Finding). `delimiter` separates the columns.
    """

    columns: tuple[str, ...]
    ids: list[str]
    classes: list[str]
    images: Sequence[str] = ()
    takes: str = "labels"
    several: bool = False
    positive: int | None = None
    k: int | None = None
    separator: str = " "
    empty: str = ""
    delimiter: str = ","

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", list(self.images or self.ids))

    @property
    def one_column_per_class(self) -> bool:
        """True if the id is followed by one column per class."""
        return self.takes in COLUMNS

    def parts(self, value: str) -> list[str]:
        """Return the classes that a value of the label column lists."""
        if value.strip() == self.empty and value.strip() not in self.classes:
            return []
        mark = self.separator.strip()
        return [name.strip() for name in value.split(mark)] if mark and value.strip() else value.split()


def form(competition: Competition, ids: Sequence[str]) -> Form:
    """Return the form for the images `ids`: columns, order and ids come from the sample file if there is one."""
    wanted = competition.submission
    if wanted.sample is None:
        return holdout_form(competition, ids)
    path = paths.data() / wanted.sample
    sample = csv_file.read_sample(path)
    listed = [row[0] for row in sample.rows]
    if len(set(listed)) < len(listed):
        twice = next(id for id, times in Counter(listed).items() if times > 1)
        raise UserError(f"{path}: the id '{twice}' appears twice")
    classes = spelled_classes(competition)
    if wanted.takes in COLUMNS:
        missing = sorted(set(classes) ^ set(sample.header[1:]))
        if missing:
            raise UserError(
                f"{path}: row 1: the columns after the id are not the competition's classes; "
                f"for example '{missing[0]}' is in only one"
            )
    elif len(sample.header) != 2:
        raise UserError(
            f"{path}: row 1: expected two columns, an id and a label, got {len(sample.header)}; "
            f"for one column per class, set submission.takes: probabilities (or one_hot)"
        )
    images = match(listed, ids, path)
    whole = holdout_form(competition, listed)
    return replace(whole, columns=tuple(sample.header), images=images, delimiter=sample.delimiter)


def holdout_form(competition: Competition, ids: Sequence[str]) -> Form:
    """Return the form of a submission for the holdout: the same columns with its own ids."""
    wanted, classes = competition.submission, spelled_classes(competition)
    columns = (wanted.id, *classes) if wanted.takes in COLUMNS else (wanted.id, wanted.label)
    positive = None
    if wanted.takes == "probability":
        positive = 1 if wanted.positive is None else competition.classes.index(wanted.positive)
    several = competition.target == "several"
    return Form(
        columns,
        list(ids),
        classes,
        takes=wanted.takes,
        several=several,
        positive=positive,
        k=wanted.k,
        separator=wanted.separator,
        empty=wanted.empty or "",
    )


def spelled_classes(competition: Competition) -> list[str]:
    """Return the classes in index order as the submission spells them: by name, or by index."""
    wanted, classes = competition.submission, competition.classes
    if wanted.codes:
        return [str(place) for place in range(len(classes))]
    return [wanted.spelling.get(name, name) for name in classes]


def separator(competition: Competition) -> str:
    """Return the text between the classes of a set in a list of predictions: the submission's or, if a class contains
    that, another.
    """
    own, words = competition.submission.separator, "\n".join(competition.classes)
    return next((mark for mark in (own, ";", "|") if (mark.strip() or " ") not in words), own)


def match(listed: Sequence[str], images: Sequence[str], path: Path) -> list[str]:
    """Return the image of each listed id: equal text, equal except for folders or ending, or as label tables name
    files.

    Raises UserError if an id has no image, an image no id, or one matches several.
    """
    known = set(images)
    if known == set(listed):
        return list(listed)
    for simplify in (bare, without_folder, lambda id: bare(without_folder(id))):
        by_short = {simplify(image): image for image in images}
        if len(by_short) == len(images) == len({simplify(id) for id in listed}):
            images_listed = [by_short.get(simplify(id)) for id in listed]
            if all(images_listed):
                return [image for image in images_listed if image]
    places, _ = file_matching.match(listed, [("", image) for image in images])
    if len(places) == len(listed) == len(images) == len(set(places.values())):
        return [images[places[id]] for id in listed]
    only_listed = sorted(set(listed) - known)
    only_images = sorted(known - set(listed))
    examples = [f"'{only_listed[0]}' has no image"] if only_listed else []
    examples += [f"'{only_images[0]}' has no row"] if only_images else []
    raise UserError(
        f"{path}: the {len(listed):,} ids are not those of the {len(images):,} images to predict; for example "
        f"{' and '.join(examples)}"
    )
