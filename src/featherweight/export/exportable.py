"""What is exported: a finished run's model, or an ensemble's models, and what it answers without test-time views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.console import Progress
from featherweight.data.pack import Data, LabelledPack, Pack
from featherweight.errors import UserError
from featherweight.evaluation.calibration import temper_cross_fitted
from featherweight.evaluation.inference import predict_probs
from featherweight.models import Classifier
from featherweight.runs import fitted
from featherweight.runs.ensemble import cross_fitted_mixture
from featherweight.runs.paired_tests import HoldoutPredictions
from featherweight.runs.predictions import views
from featherweight.runs.run import Run
from featherweight.runtime import device as devices


@dataclass(frozen=True)
class Member:
    """A model with its temperature and its weight in the mean; `prefix` is that of its tensors' names, `views` are the
    test-time views that are exported with it.
    """

    run: Run
    model: Classifier
    temperature: float
    weight: float
    prefix: str
    views: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ExportSource:
    """A finished run and the models that it ships: one, or those of an ensemble."""

    run: Run
    members: list[Member]

    @classmethod
    def of(cls, run: Run, *, with_views: bool = False) -> ExportSource:
        """Return the source for a run. Raises UserError if it is unfinished, or its weights do not fit its recipe."""
        if not run.is_finished:
            raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
        if not run.is_ensemble:
            seen = _views(run, with_views)
            return cls(run, [Member(run, run.load_model().eval(), fitted.temperature(run), 1.0, "", seen)])
        members = [
            Member(
                each, each.load_model().eval(), fitted.temperature(each), weight, f"{index}.", _views(each, with_views)
            )
            for index, (each, weight) in enumerate(run.weighted_models)
        ]
        return cls(run, members)

    @property
    def views(self) -> list[str]:
        """The test-time views of the run's own predictions."""
        return sorted({view.name for member in self.members for view in _views(member.run, True)})

    @property
    def has_views(self) -> bool:
        """True if the views are exported too."""
        return any(member.views for member in self.members)

    def shown(self, data: Sequence[Data], ids: Sequence[str]) -> list[LabelledPack]:
        """Return the labelled pictures `ids`, for each member at its own size; `data` is from `load`."""
        return [_chosen(each, ids, self.run) for each in data]

    def load(self) -> list[Data]:
        """Return the competition's pictures, once per member."""
        return [member.run.competition.load() for member in self.members]

    def probs(self, packs: Sequence[Pack], what: str) -> NDArray[np.float32]:
        """Return the members' mean probabilities, float32 [N, K], calibrated, computed in float32 on the CPU with the
        exported views.
        """
        total = np.zeros((len(packs[0]), len(self.run.competition.classes)))
        for member, pack in zip(self.members, packs, strict=True):
            total += fitted.calibrated(member.run, self._asked(member, pack, what)).astype(np.float64) * member.weight
        return total.astype(np.float32)

    def held_out(self, packs: Sequence[LabelledPack], what: str) -> NDArray[np.float32]:
        """As `probs`, for held-out images that are to be scored: each is predicted by the members that were not trained
        on it, with temperatures and weights that are fitted to other images.
        """
        answered: list[HoldoutPredictions] = []
        unseen = np.stack([self._unseen(member, packs[0].ids) for member in self.members])
        for member, pack, rows in zip(self.members, packs, unseen, strict=True):
            places = np.flatnonzero(rows)
            probs, own = self._asked(member, pack.take(places), what), pack.labels[places]
            if member.run.temperature.exists():
                groups = self.run.groups([pack.ids[place] for place in places])
                probs = temper_cross_fitted(probs, own, groups=groups)
            spread = np.zeros((len(pack), probs.shape[1]), np.float32)
            spread[places] = probs
            answered.append(HoldoutPredictions(member.run.name, spread, pack.labels, groups=self.run.groups(pack.ids)))
        weights = np.array([member.weight for member in self.members])
        if unseen.all() and np.ptp(weights) > 0:
            return cross_fitted_mixture(answered)
        shares = unseen * weights[:, None]
        total = sum(each.probs * share[:, None] for each, share in zip(answered, shares, strict=True))
        mixed: NDArray[np.float32] = (total / shares.sum(0)[:, None]).astype(np.float32)
        return mixed

    def all_hold_out(self, ids: Sequence[str]) -> bool:
        """True if no member was trained on any of these images. In an ensemble of folds, each member was trained on the
        holdouts of the others.
        """
        return all(self._unseen(member, ids).all() for member in self.members)

    def _unseen(self, member: Member, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return True [N] for the images that a member was not trained on."""
        known = set(member.run.split.train)
        return np.array([id not in known for id in ids])

    def _asked(self, member: Member, pack: Pack, what: str) -> NDArray[np.float32]:
        with Progress(f"predict {what}", len(pack), "images") as bar:
            return predict_probs(
                [member.model],
                pack.images,
                runtime=devices.make_runtime("cpu", "fp32"),
                views=member.views,
                batch_size=member.run.recipe.predict.batch_size,
                several=self.run.competition.target == "several",
                advance=bar.advance,
            )


def _views(run: Run, wanted: bool) -> tuple[Any, ...]:
    return tuple(views(run.recipe, run.competition)) if wanted else ()


def _chosen(data: Data, ids: Sequence[str], run: Run) -> LabelledPack:
    for part in data.labelled:
        index = {id: place for place, id in enumerate(part.ids)}
        if all(id in index for id in ids):
            return part.take(np.array([index[id] for id in ids], dtype=np.int64))
    raise UserError(f"the images are not those that {run.name} was trained on ({run.folder / 'split.json'})")


def some(ids: Sequence[str], count: int) -> list[str]:
    """Return at most `count` of the ids, evenly spaced."""
    places = np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int))
    return [ids[place] for place in places]
