"""A run: the folder `runs/<name>/` and what its files say. Each file is read and written by one module.

run.json                what was asked for, where and with which code: `metadata`
recipe.yaml, competition.yaml    the configuration, resolved when the run was started: here
split.json              the ids of train, holdout and test: here
regrouped.json          what keeping related images together has changed: `division`
groups.json             the groups of related images among those that are scored, if there are any: `groups`
labels.json             held-out labels that look wrong, if there are any: `wrong_labels`
history.csv             one row per epoch: `history`
weights.safetensors     the final weights: here
temperature.txt, decision.json   what is fitted to the holdout: `fitted`
PART_probs.npy, PART_ids.sha256  the probabilities of holdout, test and predict, and of which images: `stored_probs`
PART.csv                these as a submission: `evaluate`
result.json             the scores; it is written last, and its presence means that the run is finished: `result`
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from featherweight import atomic, budget, paths
from featherweight.config import Competition, Recipe, load_competition, load_recipe, store
from featherweight.config.merge import Override
from featherweight.console import say
from featherweight.errors import UserError, nearest
from featherweight.evaluation.bootstrap import Groups
from featherweight.models import Classifier, build
from featherweight.models.custom_source import stored_sources
from featherweight.runs import fitted, groups, history, ledger, stored_probs
from featherweight.runs.elsewhere import data_here
from featherweight.runs.metadata import DAMAGED, RESTORE_OR_RESTART, Metadata, Soup, SplitIds, read_record
from featherweight.runs.result import Result
from featherweight.runtime import device as devices
from featherweight.training import checkpoint
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run's folder and its configuration.

    `competition` is as the recipe sees it, with its image size. `is_new`: this command has made the folder, and may
    delete it if the run is refused before it trains.
    """

    folder: Path
    recipe: Recipe
    competition: Competition
    metadata: Metadata
    is_new: bool = field(default=False, compare=False)

    @classmethod
    def find(cls, name: str) -> Run:
        """Return the run of that name, or in that folder. Raises UserError with the nearest name."""
        folder = next((f for f in (paths.runs() / name, Path(name)) if (f / "run.json").is_file()), None)
        if folder is None:
            if name in set(ledger.read()["run"]):
                raise UserError(f"the ledger has a run '{name}', but its folder is not here: {paths.runs() / name}")
            known = sorted(path.parent.name for path in paths.runs().glob("*/run.json"))
            raise UserError(f"there is no run called '{name}'{nearest(name, known) or ';'} see them all: ./run.sh runs")
        metadata = Metadata.read(folder)
        with stored_sources(folder):
            recipe = load_recipe(str(folder / "recipe.yaml"))
        stored = data_here(load_competition(str(folder / "competition.yaml")), metadata.competition)
        # Not `resolve`: a link may have another name than its target.
        return cls(Path(os.path.abspath(folder)), recipe, stored.seen_by(recipe), metadata)  # noqa: PTH100

    def recipe_with(self, changes: Sequence[str | Override]) -> Recipe:
        """Return its recipe with some keys changed; custom networks are loaded from the source stored with the run."""
        with stored_sources(self.folder):
            return load_recipe(str(self.folder / "recipe.yaml"), changes)

    def note_shortened(self, step: int, total: int) -> None:
        """Store in its recipe that from `step` on the run has `total` steps at most."""
        path = self.folder / "recipe.yaml"
        with stored_sources(self.folder):
            before = load_recipe(str(path))
        shortened = [*before.train.shortened, (step, total)]
        store(before.model_copy(update={"train": before.train.model_copy(update={"shortened": shortened})}), path)

    @staticmethod
    def exists(name: str) -> bool:
        """True if there is a run of that name in this workspace."""
        return (paths.runs() / name / "run.json").is_file()

    @property
    def name(self) -> str:
        """The name of the run, its folder and its CSV."""
        return self.folder.name

    @property
    def recipe_name(self) -> str:
        """The name of its recipe's file."""
        return self.metadata.recipe

    @property
    def competition_name(self) -> str:
        """The name of its competition's file."""
        return self.metadata.competition

    @property
    def has_begun(self) -> bool:
        """True if there is a checkpoint or final weights, so that no first weights are needed."""
        return self.weights.exists() or (self.folder / "checkpoint.pt").exists()

    @property
    def weights(self) -> Path:
        """Path of the final weights."""
        return self.folder / "weights.safetensors"

    @property
    def temperature(self) -> Path:
        """Path of the fitted temperature, which exists if the run calibrates."""
        return self.folder / "temperature.txt"

    @property
    def is_divided(self) -> bool:
        """True once its images are divided into parts."""
        return (self.folder / "split.json").is_file()

    @property
    def is_finished(self) -> bool:
        """True once result.json exists."""
        return (self.folder / "result.json").is_file()

    @property
    def is_ensemble(self) -> bool:
        """True if it ships several models."""
        return bool(self.metadata.members)

    @property
    def members(self) -> list[str]:
        """The names of the runs that an ensemble or a soup was made of."""
        soup = Soup.read(self.folder)
        return list(self.metadata.members) if soup is None else soup.members

    @cached_property
    def weighted_models(self) -> list[tuple[Run, float]]:
        """The runs whose models predict, each with its weight: the run itself, or an ensemble's members.

        Raises UserError if another run has a member's name by now: an ensemble holds its members' weights.
        """
        if not self.is_ensemble:
            return [(self, 1.0)]
        runs = [Run.find(name) for name in self.members]
        held = _tensors(self.weights)
        for index, run in enumerate(runs):
            own = {f"{index}.{name}": tensor for name, tensor in _tensors(run.weights).items()}
            if not all(name in held and torch.equal(held[name], tensor) for name, tensor in own.items()) or not own:
                raise UserError(
                    f"{self.name} was made of another run called {run.name} than the one here now: restore that one, "
                    f"or delete {self.folder} and make the ensemble again"
                )
        return list(zip(runs, self.metadata.weights or [1 / len(runs)] * len(runs), strict=True))

    @property
    def device(self) -> str:
        """The device that was asked for when the run was started or, if this machine lacks it, auto."""
        return _device_here(self.metadata.device, self.name)

    def csv(self, part: str = "predict") -> Path:
        """Return the path of a labelled part's CSV, or of the submission."""
        if part == "predict":
            return paths.submissions() / f"{self.name}.csv"
        return self.folder / f"{part}.csv"

    @cached_property
    def split(self) -> SplitIds:
        """The ids of its parts. Raises UserError for a run that has not divided its images yet."""
        path = self.folder / "split.json"
        if not self.is_divided:
            raise UserError(f"{self.name} has not divided its images yet: ./run.sh resume {self.name}")
        return read_record(path, SplitIds, RESTORE_OR_RESTART)

    def groups(self, ids: Sequence[str]) -> Groups | None:
        """Return the group number of each of its scored images, int64 [N]; None if no two of them are related."""
        return groups.of([self.folder], ids)

    def store_split(self, split: SplitIds) -> None:
        """Write the ids."""
        atomic.write_text(self.folder / "split.json", split.to_json())

    def probs(self, part: str, ids: Sequence[str] | None = None, content: str = "") -> NDArray[np.float32]:
        """Return the calibrated probabilities for a part, float32 [N, K]: those of its CSV, which are scored.

        Raises UserError if they are not computed yet or, with `ids` [N] and the `content` of their pack, are of other
        images.
        """
        raw = stored_probs.read(self, part, ids, content)
        if raw is None and stored_probs.path(self, part).exists():
            again = f"delete {self.folder} and make it again" if self.is_ensemble else f"./run.sh resume {self.name}"
            raise UserError(f"{self.name} has predicted other images than those to {part} today: {again}")
        if raw is None:
            raise UserError(f"{self.name} has not predicted {part} yet: ./run.sh resume {self.name}")
        return fitted.calibrated(self, raw)

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch; for a soup or an ensemble one row with the seconds that its members were trained.

        Raises UserError for a run that has not trained an epoch yet.
        """
        return history.read(self)

    @property
    def minutes(self) -> float:
        """Training time in minutes; 0 before the first epoch."""
        return history.minutes(self.folder)

    @property
    def epochs(self) -> int | None:
        """Number of epochs trained; None if it was not trained."""
        return history.epochs(self.folder)

    @property
    def result(self) -> Result:
        """Its scores. Raises UserError for a run that is not finished."""
        return Result.read(self)

    def load_model(self) -> Classifier:
        """Return its model with the final weights. Raises UserError if they do not fit the recipe."""
        model = build(self.recipe.model, self.competition.shape)
        checkpoint.load_weights(self.weights, model)
        return model

    def weigh(self) -> budget.BudgetCheck:
        """Count the parameters again from the final weights, those of an ensemble's members summed.

        Raises OverBudget, and UserError if the weights do not fit the recipe.
        """
        if self.is_ensemble:
            members = [member for member, _ in self.weighted_models]
            models = {member.name: member.load_model() for member in members}
            seen = {member.name: member.competition for member in members}
            weighed = budget.weigh_ensemble(models, self.competition, self.name, seen)
        else:
            weighed = budget.weigh_model(self.load_model(), self.competition, self.recipe_name)
        weighed.refuse_if_over()
        return weighed


def _tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file; none if it does not exist."""
    if not weights.exists():
        return {}
    with explained(weights, f"{DAMAGED}; {RESTORE_OR_RESTART}"):
        return dict(safetensors.torch.load_file(weights))


@cache
def _device_here(asked: str, who: str) -> str:
    """Return the device if this machine has it, else auto; it says so once."""
    if devices.is_available(asked):
        return asked
    say(f"{who} was started with --device {asked}, which this machine lacks: it continues with --device auto")
    return "auto"
