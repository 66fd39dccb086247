"""The labelled parts of a data set: train, holdout (the validation set), and test, which is scored once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featherweight import paths
from featherweight.data import csv_file, file_matching, image_groups, numbered_names
from featherweight.data.csv_file import examples
from featherweight.data.image_groups import ImageGroups
from featherweight.data.pack import Data, LabelledPack, Pack, decode_alike, load
from featherweight.data.split import divide as divide_ids
from featherweight.data.split import folds, groups_of, rarest, sample
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.config import Competition, Split


FITTING = 0.5  # a table of groups must have this part of its rows for these images, or rows for most images

Packs = tuple[LabelledPack, LabelledPack, LabelledPack | None]


def divide(wanted: Split, competition: Competition, data: Data) -> Packs:
    """Return the images of train, holdout and, if the recipe has one, test; related images stay together.

    A validation part provided with the data is held out as it is, unless the recipe uses folds.
    """
    return divide_knowing(wanted, competition, data, labelled_groups(competition, data) if wanted.grouped else None)


def provided_holdout(wanted: Split, data: Data) -> LabelledPack | None:
    """Return the validation part that came with the data, if it is what is held out: unless the recipe uses folds."""
    return data.valid if wanted.folds is None else None


def divide_knowing(wanted: Split, competition: Competition, data: Data, known: ImageGroups | None) -> Packs:
    """As `divide`, with the groups of related images given; None ignores them."""
    train = data.train
    together = None if known is None else known.group[: len(train)]
    if wanted.subset is not None and wanted.subset < len(train):
        places = sample(train.ids, _labels(train), wanted.subset, wanted.seed)
        train, together = train.take(places), None if together is None else together[places]
    if (valid := provided_holdout(wanted, data)) is not None:
        if wanted.test is not None:
            raise UserError("split.test: a validation part came with the data, and is held out; leave split.test out")
        return train, valid, None
    labels, groups, seed = _labels(train), declared(competition, train), wanted.seed + 1
    if groups is not None and together is not None:
        first: dict[int, str] = {}  # copies join groups that were declared apart; others keep their names
        groups = [first.setdefault(int(group), name) for group, name in zip(together, groups, strict=True)]
    if together is not None and (groups is not None or np.bincount(together).max() == 1):
        together = None
    test = None
    if wanted.folds is not None:
        if wanted.test is not None:
            first_cut = divide_ids(train.ids, labels, holdout=wanted.test, seed=seed, groups=groups, related=together)
            test, train, left = train.take(first_cut.holdout), train.take(first_cut.train), first_cut.train
            labels, groups = _labels(train), None if groups is None else [groups[index] for index in left]
            together = None if together is None else together[left]
        fold = folds(train.ids, labels, wanted.folds, seed, groups, together)
        if (filled := len(np.unique(fold))) < wanted.folds:
            raise UserError(
                f"split.folds: related images stay together, and {len(fold):,} images fill {filled} of {wanted.folds} "
                f"folds; take fewer, or split.grouped=false"
            )
        return train.take(np.flatnonzero(fold != wanted.fold)), train.take(np.flatnonzero(fold == wanted.fold)), test
    parts = divide_ids(
        train.ids, labels, holdout=wanted.holdout, test=wanted.test or 0, seed=seed, groups=groups, related=together
    )
    test = train.take(parts.test) if len(parts.test) else None
    return train.take(parts.train), train.take(parts.holdout), test


def labelled_groups(competition: Competition, data: Data) -> ImageGroups:
    """Return the groups among the labelled images: training images, then the provided validation part.

    They are searched for at the competition's image size, so that runs at any size hold out the same images. Images
    that are too many for a search are not decoded at that size.
    """
    groups = declared(competition, data.train)
    if not image_groups.are_searched(sum(map(len, data.labelled)), competition.declared_image):
        return image_groups.by_names(data.labelled, groups)
    if not decode_alike(competition.image, competition.declared_image):
        as_declared = load(competition.source, competition.declared_image, competition.classes, predict=False)
        if as_declared.train.ids == data.train.ids:  # otherwise, which images can be read depends on the size
            data = as_declared
    return image_groups.find(data.train, data.valid, groups)


def predict_groups(competition: Competition, predict: Pack) -> NDArray[np.int64]:
    """Return the group number of each image to predict, int64 [N]: related images have the same one."""
    named = None if competition.group is None else numbered_names.keys(predict.ids, competition.group)
    return image_groups.find(predict, declared=named).group


def declared(competition: Competition, train: Pack) -> list[str] | None:
    """Return the groups [N] that the competition or its source states."""
    return group_names(competition, train.ids, train.groups)


def group_names(competition: Competition, ids: Sequence[str], known: list[str] | None) -> list[str] | None:
    """Return the group of each image: by the competition's pattern, its CSV, or the source."""
    if competition.group is not None:
        return groups_of(ids, competition.group)
    if competition.groups is not None:
        return _by_table(ids, paths.data() / competition.groups)
    return known


def _by_table(ids: Sequence[str], path: Path) -> list[str]:
    """Return the groups from a CSV with the columns id and group; ids may name files in any known way.

    Images that are missing in the CSV are alone. Raises UserError if it names none of these images.
    """
    table = csv_file.read(path)
    group_of = dict(zip(table.column("id"), table.column("group"), strict=True))
    if set(ids).isdisjoint(group_of):
        places, _ = file_matching.match(list(group_of), [("", id) for id in ids])
        group_of = {ids[place]: group_of[name] for name, place in places.items()}
    missing = [id for id in ids if id not in group_of]
    known = len(ids) - len(missing)
    if not known or (len(missing) > known and known < FITTING * len(table.rows)):
        raise UserError(
            f"{path}: {len(missing):,} of the {len(ids):,} training images have no group, as {examples(missing)}; its "
            f"ids are as {examples(list(table.column('id')))}\ncomplete the column id, or leave groups: out of the "
            "competition file: related images are then looked for"
        )
    return [group_of.get(id, id) for id in ids]


def _labels(pack: LabelledPack) -> list[str]:
    stands_for = rarest(pack.labels) if pack.labels.ndim == 2 else pack.labels
    return [str(label) for label in stands_for]
