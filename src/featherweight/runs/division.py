"""A run's parts: divided when it starts, and from then on as they are stored; and what keeping related images together
changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.console import say
from featherweight.data.image_groups import ImageGroups, disputes
from featherweight.data.pack import Data, LabelledPack
from featherweight.data.parts import Packs, divide_knowing, labelled_groups, provided_holdout
from featherweight.errors import UserError, count_of
from featherweight.evaluation import stratification
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, metric_of
from featherweight.runs import fitted, groups
from featherweight.runs.metadata import DELETE_TO_CONTINUE, SplitIds, read_record
from featherweight.runs.run import Run

FILE = "regrouped.json"
WARNED_SHARE = 0.01  # share of the held-out images with related ones in training that is warned of
FEWEST_UNRELATED = 10  # images that a score is computed for


@dataclass(frozen=True)
class RegroupedImages:
    """What keeping related images on one side of the split has changed.

    Attributes:
        moved: images that are on another side than without it.
        leaked, held_out: without it `leaked` of `held_out` images would have related ones in training.
        agree: share of those related images in training that have the same class.
        by: what relates the images, in words.
        are_declared: the competition states the groups.
        learned: share of the training images that the run answers rightly, if known.
    """

    moved: int
    leaked: int
    held_out: int
    agree: float
    by: str
    are_declared: bool = False
    learned: float | None = None

    def __str__(self) -> str:
        stay = f"related images stay on one side ({self.by}): {self.moved:,} moved"
        return stay if self.are_declared else f"{stay}; off with split.grouped=false"

    def would_read(self, score: Score) -> float | None:
        """Return an upper bound of the holdout score if related images were separated; None unless the score is a share
        of images.

        The separated images would be answered as well as their relatives in training at best, the others as well as
        now.
        """
        share = self.leaked / max(self.held_out, 1)
        counted = score.of.counts and score.of.input_kind == "answers"
        right = min(self.agree, 1.0 if self.learned is None else self.learned)
        return share * max(right, score.value) + (1 - share) * score.value if counted else None

    def summary(self, score: Score) -> str:
        """Return it in words, for the summary of a run of that holdout score."""
        share, read = self.leaked / max(self.held_out, 1), self.would_read(score)
        lost = f"{count_of(self.moved, 'image')} moved to one side of the split; else {share:.1%} of the holdout leaks"
        return lost if read is None else f"{lost}, and the score reads up to {score.of.shown(read)}"

    def store(self, run: Run) -> None:
        """Write it into a run's folder."""
        atomic.write_text(run.folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, run: Run) -> RegroupedImages | None:
        """Read it from a run's folder; None if no image has moved."""
        path = run.folder / FILE
        return read_record(path, cls, DELETE_TO_CONTINUE) if path.is_file() else None


def split(run: Run, data: Data) -> Packs:
    """Return the run's parts: those of `divide`, stored as ids or, once they are stored, as they were divided at its
    start.

    Raises UserError if the images are not those of the start.
    """
    if run.is_divided:
        return _as_stored(run, data)
    wanted, competition = run.recipe.split, run.competition
    found = labelled_groups(competition, data)
    if not wanted.grouped:
        return _stored(run, divide_knowing(wanted, competition, data, None), data, found)
    packs = divide_knowing(wanted, competition, data, found)
    # Without the declared groups too: they are obeyed even if related images are not looked for.
    undeclared = competition.model_copy(update={"group": None, "groups": None})
    alone = replace(data, train=replace(data.train, groups=None))
    effect = _moved(packs, divide_knowing(wanted, undeclared, alone, None), data, found)
    if effect is not None:
        effect.store(run)
    return _stored(run, packs, data, found)


def labelled(run: Run) -> int | None:
    """Return the number of labelled images that a run's, or its members', parts were divided from class by class; None
    if a validation part came with the data.
    """
    provided = run.split.provided
    if provided is None:  # earlier versions did not store it
        provided = provided_holdout(run.recipe.split, run.competition.load()) is not None
    if provided:
        return None
    parts = [run.split, *(Run.find(name).split for name in run.metadata.members if Run.exists(name))]
    return len({id for part in parts for ids in (part.train, part.holdout, part.test) for id in ids})


def bias(run: Run, ids: Sequence[str], labels: Answers, probs: NDArray[np.float32], answers: Answers) -> float:
    """Return by how much better a labelled part of a run, the images `ids` [N], scores because it is stratified: see
    `stratification.bias`. `probs` [N, K] and `answers` are what it is scored by.
    """
    metric = run.competition.metric
    given = answers if metric_of(metric).input_kind == "answers" else probs.astype(np.float64)
    return stratification.bias(metric, given, labels, groups=run.groups(ids), labelled=labelled(run))


def faults(run: Run, data: Data, packs: Packs) -> tuple[list[str], NDArray[np.bool_]]:
    """Return in words what related images spoil, and True [N] for the held-out images that have related ones in
    training.
    """
    found, wanted = labelled_groups(run.competition, data), run.recipe.split
    came_divided = provided_holdout(wanted, data) is not None
    train, holdout, _ = packs
    place = {id: place for place, id in enumerate(_ids(data))}
    held = np.array([place[id] for id in holdout.ids])
    related = found.related_to(np.array([place[id] for id in train.ids]))[held]
    lines = []
    if run.competition.groups is not None and found.ungrouped:
        ungrouped = count_of(found.ungrouped, "image")
        lines.append(f"groups: of {len(data.train):,} labelled images {ungrouped} in none")
    if related.mean() >= WARNED_SHARE:
        cure = "part of a large group: see inspect" if wanted.grouped else "because of split.grouped=false"
        lines.append(
            f"the score will be too good: {related.mean():.1%} of the held-out images have related ones that are "
            f"trained on ({'; '.join(found.by)}): {'the data came divided so' if came_divided else cure}"
        )
    if found.apart and wanted.grouped and not came_divided:
        lines.append(
            f"{found.apart:,} labelled images look alike, too many to keep on one side of the split, so the score of "
            f"these is too good: see ./run.sh inspect {run.competition_name}"
        )
    return lines + disputes(found, data.labelled, run.competition.classes), related


def without_related(run: Run, holdout: LabelledPack, related: NDArray[np.bool_]) -> str:
    """Return in words the holdout's score without the images that have related ones in training."""
    left = f"{int(related.sum()):,} of {len(related):,} held-out images have related ones that are trained on"
    score = score_without(run, holdout.ids, holdout.labels, related)
    if score is None:
        return f"{left}, so the score on new images is unknown: declare groups"
    return f"{left}; without them the score is {score.with_metric}"


def score_without(run: Run, ids: Sequence[str], labels: Answers, related: NDArray[np.bool_]) -> Score | None:
    """Return the score of the held-out images that are not `related` [N]; None for fewer than FEWEST_UNRELATED."""
    if (~related).sum() < FEWEST_UNRELATED:
        return None
    probs, answers = fitted.cross_fitted(run, labels)
    answered = answers if metric_of(run.competition.metric).input_kind == "answers" else probs.astype(np.float64)
    group = run.groups(ids)
    left_groups = None if group is None else group[~related]
    metric, whole = run.competition.metric, labelled(run)
    left = None if whole is None else round(whole * (~related).mean())
    return stratification.score_of_part(metric, answered[~related], labels[~related], groups=left_groups, labelled=left)


def _stored(run: Run, packs: Packs, data: Data, found: ImageGroups) -> Packs:
    train, holdout, test = packs
    ids = _ids(data)
    scored = {*holdout.ids, *(test.ids if test else [])}
    groups.store(
        run.folder, {id: ids[first] for id, first in zip(ids, _first_of_each(found), strict=True) if id in scored}
    )
    provided = provided_holdout(run.recipe.split, data) is not None
    run.store_split(SplitIds(train.ids, holdout.ids, test.ids if test else [], data.train.content, provided))
    return packs


def _as_stored(run: Run, data: Data) -> Packs:
    """Return the parts that a run was started with, whatever would be divided today."""
    wanted, stored = run.recipe.split, run.split
    came_divided = provided_holdout(wanted, data)
    place = {id: place for place, id in enumerate(data.train.ids)}

    def taken(ids: Sequence[str]) -> LabelledPack:
        return data.train.take(np.array([place[id] for id in ids], dtype=np.int64))

    of_train = stored.train + stored.test + ([] if came_divided is not None else stored.holdout)
    same = set(of_train) <= set(place) and (wanted.subset is not None or len(of_train) == len(place))
    if not same or (came_divided is not None and came_divided.ids != stored.holdout):
        path = run.folder / "split.json"
        raise UserError(f"the images are not those that {run.name} was started with ({path}); start a new run")
    if stored.content and data.train.content not in ("", stored.content):
        replaced = "some training images were replaced by others of the same names since"
        if not run.is_finished:
            raise UserError(f"{replaced} {run.name} was started; start a new run")
        say(f"  {replaced} {run.name} was trained")
    return taken(stored.train), came_divided or taken(stored.holdout), taken(stored.test) if stored.test else None


def _first_of_each(found: ImageGroups) -> list[int]:
    """Return the index of the first image of each one's group."""
    _, first, group = np.unique(found.group, return_index=True, return_inverse=True)
    return [int(place) for place in first[group]]


def _ids(data: Data) -> list[str]:
    return [id for pack in data.labelled for id in pack.ids]


def _moved(packs: Packs, ungrouped: Packs, data: Data, found: ImageGroups) -> RegroupedImages | None:
    """Return what has changed against a split that separates related images; None if nothing has."""
    place = {id: place for place, id in enumerate(_ids(data))}
    side, before = (np.full(len(place), -1) for _ in range(2))
    for marks, divided in ((side, packs), (before, ungrouped)):
        for part, pack in enumerate(divided):
            marks[[place[id] for id in pack.ids] if pack is not None else []] = part
    moved = int((side != before).sum())
    if not moved:
        return None
    trained, held = np.flatnonzero(before == 0), np.flatnonzero(before == 1)
    lost = held[found.related_to(trained)[held]]
    agree = _agreement(lost, trained, found, _labels(data))
    return RegroupedImages(moved, len(lost), len(held), agree, "; ".join(found.by), found.are_declared)


def _labels(data: Data) -> NDArray[Any]:
    return np.concatenate([pack.labels for pack in data.labelled])


def _agreement(lost: NDArray[np.int64], trained: NDArray[np.int64], found: ImageGroups, labels: NDArray[Any]) -> float:
    """Return the mean share of an image's relatives in training that have its class."""
    if not len(lost) or labels.ndim > 1:
        return 1.0
    classes = int(labels.max()) + 1
    pair = found.group * classes + labels
    alike = np.bincount(pair[trained], minlength=int(pair.max()) + 1)[pair[lost]]
    relatives = np.bincount(found.group[trained], minlength=int(found.group.max()) + 1)[found.group[lost]]
    return float((alike / relatives).mean())
