"""The labelled parts of a data set: train, holdout (the validation set), and test, which is scored once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featherweight import paths
from featherweight.data import csv_file
from featherweight.data.pack import Data, Pack
from featherweight.data.split import divide as divide_ids
from featherweight.data.split import folds, groups_of, holdout_ranks, rarest
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.config import Competition, Split


def divide(wanted: Split, competition: Competition, data: Data) -> tuple[Pack, Pack, Pack | None]:
    """The images of train, of holdout, and of test if the recipe wants one.

    A validation part that came with the data is held out as it is, unless the recipe asks for folds.
    """
    train = data.train
    assert train.labels is not None
    if wanted.subset is not None and wanted.subset < len(train):
        used = holdout_ranks(train.ids, _labels(train), wanted.subset / len(train), wanted.seed)
        train = train.take(np.flatnonzero(used & (np.cumsum(used) <= wanted.subset)))
        if len(train) < 2:
            raise UserError(f"split.subset: {wanted.subset} leaves {len(train)} images to train on and to score")
    if data.valid is not None and wanted.folds is None:
        if wanted.test is not None:
            raise UserError("split.test: a validation part came with the data, and is held out; leave split.test out")
        return train, data.valid, None
    labels, groups, seed = _labels(train), _groups(competition, train), wanted.seed + 1
    test = None
    if wanted.folds is not None:
        if wanted.test is not None:
            first = divide_ids(train.ids, labels, holdout=wanted.test, seed=seed, groups=groups)
            test, train = train.take(first.holdout), train.take(first.train)
            labels, groups = _labels(train), None if groups is None else [groups[index] for index in first.train]
        fold = folds(train.ids, labels, wanted.folds, seed, groups)
        return train.take(np.flatnonzero(fold != wanted.fold)), train.take(np.flatnonzero(fold == wanted.fold)), test
    parts = divide_ids(train.ids, labels, holdout=wanted.holdout, test=wanted.test or 0, seed=seed, groups=groups)
    test = train.take(parts.test) if len(parts.test) else None
    return train.take(parts.train), train.take(parts.holdout), test


def _groups(competition: Competition, train: Pack) -> list[str] | None:
    return group_names(competition, train.ids, train.groups)


def group_names(competition: Competition, ids: Sequence[str], known: list[str] | None) -> list[str] | None:
    """Which images must stay together: by the competition's pattern, its CSV, or what the source knows."""
    if competition.group is not None:
        return groups_of(ids, competition.group)
    if competition.groups is not None:
        table = csv_file.read(paths.data() / competition.groups)
        group_of = dict(zip(table.column("id"), table.column("group"), strict=True))
        return [group_of.get(id, id) for id in ids]
    return known


def _labels(pack: Pack) -> list[str]:
    assert pack.labels is not None
    stands_for = rarest(pack.labels) if pack.labels.ndim == 2 else pack.labels
    return [str(label) for label in stands_for]
