"""A run and its files, `runs/<name>/`; no other module parses them.

run.json                what was asked for, where and with which code: `Metadata`
recipe.yaml, competition.yaml    the configuration, resolved when the run was started
split.json              the ids of train, holdout and test; kin.json what keeping related images together has changed
groups.json             the groups of related images among those that are scored, if there are any
labels.json             held-out labels that look wrong, if there are any
history.csv             one row per epoch
weights.safetensors     the final weights; temperature.txt the fitted temperature; decision.json the decision rule
PART_probs.npy, PART.csv         predictions of holdout, test and predict; PART_ids.sha256, of which images
result.json             the scores; it is written last, and its presence means that the run is finished
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from featherweight import atomic, budget, paths
from featherweight.config import Competition, Recipe, load_competition, load_recipe, store
from featherweight.config.merge import Override
from featherweight.console import say
from featherweight.data import safe_arrays
from featherweight.errors import UserError, nearest
from featherweight.evaluation import decisions
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.calibration import temper, temper_cross_fitted
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.decisions import DecisionRule
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.models.custom_source import stored_sources
from featherweight.runs import groups, ledger
from featherweight.runs.elsewhere import data_here
from featherweight.runs.metadata import DAMAGED, PARTS, Metadata, SplitIds, read_json, read_record
from featherweight.runtime import device as devices
from featherweight.training import checkpoint
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd

EVERY_EPOCH = {"epoch", "lr", "train_loss", "holdout_loss", "holdout_score"}  # columns of every trained run
NO_WAY_ON = "restore it from a copy, or start a new run"
# Before there was a format number, "test" were the competition's images, and "kept" today's test part.
FILES_OF_FORMAT_1 = {"test": "kept", "predict": "test"}


@dataclass(frozen=True)
class Result:
    """The scores of a finished run on its holdout, on the test part if it has one, and on the images to predict if
    their labels are known; `minutes` is the training time.
    """

    parameters: int
    limit: int
    holdout: Score
    test: Score | None
    predict: Score | None
    minutes: float

    @property
    def unbiased(self) -> Score | None:
        """The score on images by which nothing was chosen, if there is one."""
        return self.predict or self.test


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
            recipe = load_recipe(str(folder / "recipe.yaml"), metadata.changes)
        stored = data_here(load_competition(str(folder / "competition.yaml")), metadata.competition)
        # Not `resolve`: a link may have another name than its target.
        return cls(Path(os.path.abspath(folder)), recipe, stored.seen_by(recipe), metadata)  # noqa: PTH100

    def recipe_with(self, changes: Sequence[str | Override]) -> Recipe:
        """Return its recipe with some keys changed; custom networks are loaded from the source stored with the run."""
        with stored_sources(self.folder):
            return load_recipe(str(self.folder / "recipe.yaml"), [*self.metadata.changes, *changes])

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
        soup = self.folder / "soup.json"
        if not soup.exists():
            return list(self.metadata.members)
        with explained(soup, f"{DAMAGED}; {NO_WAY_ON}"):
            return TypeAdapter(list[str]).validate_python(read_json(soup)["members"])

    @cached_property
    def answering(self) -> list[tuple[Run, float]]:
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
        return self.folder / f"{self._stem(part)}.csv"

    @cached_property
    def split(self) -> SplitIds:
        """The ids of its parts. Raises UserError for a run that has not divided its images yet."""
        path = self.folder / "split.json"
        if not self.is_divided:
            raise UserError(f"{self.name} has not divided its images yet: ./run.sh resume {self.name}")
        with explained(path, f"{DAMAGED}; {NO_WAY_ON}"):
            return SplitIds(**TypeAdapter(dict[str, list[str]]).validate_python(read_json(path)))

    def groups(self, ids: Sequence[str]) -> Groups | None:
        """Return the group number of each of its scored images, int64 [N]; None if no two of them are related."""
        return groups.of([self.folder], ids)

    def store_split(self, split: SplitIds) -> None:
        """Write the ids."""
        atomic.write_text(self.folder / "split.json", split.to_json())

    def raw_probs(self, part: str, ids: Sequence[str] | None = None) -> NDArray[np.float32] | None:
        """Return the model's own probabilities for a part, float32 [N, K].

        None before they are computed and, with `ids` [N], if the stored ones are of other images. Raises UserError if
        the file is damaged.
        """
        path = self.probs_file(part)
        if not path.exists() or (ids is not None and not self._is_of(part, ids)):
            return None
        try:
            probs = safe_arrays.load(path)
            if probs.dtype != np.float32 or probs.ndim != 2 or probs.shape[1] != self.competition.shape.num_classes:
                raise UserError(f"{path}: not the probabilities of {self.competition.shape.num_classes} classes")
        except UserError as error:
            again = f"compute them again: ./run.sh resume {self.name}"
            if self.is_ensemble:  # made in one step, from its members alone
                again = f"make it again: delete {self.folder}, then ./run.sh ensemble {' '.join(self.members)}"
            raise UserError(f"{error}\n{again}") from None
        return None if ids is not None and len(ids) != len(probs) else probs

    def probs(self, part: str, ids: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return the calibrated probabilities for a part, float32 [N, K]: those of its CSV, which are scored.

        Raises UserError if they are not computed yet or, with `ids` [N], are of other images.
        """
        raw = self.raw_probs(part, ids)
        if raw is None and self.probs_file(part).exists():
            again = f"delete {self.folder} and make it again" if self.is_ensemble else f"./run.sh resume {self.name}"
            raise UserError(f"{self.name} has predicted other images than those to {part} today: {again}")
        if raw is None:
            raise UserError(f"{self.name} has not predicted {part} yet: ./run.sh resume {self.name}")
        return self.calibrated(raw)

    def _is_of(self, part: str, ids: Sequence[str]) -> bool:
        """True if the stored probabilities are of these images, as far as is known: older runs have not stored it."""
        note = self._ids_file(part)
        return not note.exists() or note.read_text().strip() == _checksum(ids)

    def answers_as(self, other: Run, part: str) -> bool:
        """True if the stored probabilities of both runs are of the same images of a part, in the same order.

        Of older runs, which have not stored which images these are, only the numbers are compared.
        """
        own, others = self.raw_probs(part), other.raw_probs(part)
        if own is None or others is None or len(own) != len(others):
            return False
        notes = [run._ids_file(part) for run in (self, other)]
        return not all(note.exists() for note in notes) or notes[0].read_text() == notes[1].read_text()

    def calibrated(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities [N, K] at the temperature that is fitted to the holdout, if there is one."""
        if not self.temperature.exists():
            return probs
        return temper(probs, self.fitted_temperature, several=self.competition.target == "several")

    @property
    def fitted_temperature(self) -> float:
        """The fitted temperature; 1 if there is none."""
        if not self.temperature.exists():
            return 1.0
        with explained(self.temperature, f"{DAMAGED}; delete it, and ./run.sh resume {self.name} fits it again"):
            temperature = float(self.temperature.read_text())
            if not 0 < temperature < math.inf:
                raise ValueError(f"expected a number above 0, got {temperature:g}")
            return temperature

    @property
    def decision(self) -> DecisionRule:
        """The decision rule: fitted to its holdout if the competition takes that, else the unfitted one."""
        path, competition = self.folder / "decision.json", self.competition
        if path.exists():
            return read_record(path, DecisionRule, f"delete it, and ./run.sh resume {self.name} fits it again")
        return decisions.unfitted(competition.target, len(competition.classes))

    def fit_decision(self, labels: Answers) -> None:
        """Fit the decision rule to the holdout's true classes [N], or sets [N, K], and store it, if there is one to
        fit.
        """
        target, metric = self.competition.target, self.competition.metric
        if decisions.is_fitted(target, metric):
            related = self.groups(self.split.holdout)
            fitted = decisions.fit(target, metric, self.probs("holdout"), labels, groups=related)
            fitted.store(self.folder / "decision.json")

    def cross_fitted(self, probs: NDArray[np.float32], labels: Answers) -> tuple[NDArray[np.float32], Answers]:
        """Return the holdout's probabilities [N, K] and answers as they are scored.

        What is fitted to the holdout, the temperature and the decision, is cross-fitted in 5 folds, and related images
        share a fold.
        """
        raw, related = self.raw_probs("holdout"), self.groups(self.split.holdout)
        if self.temperature.exists() and raw is not None:
            probs = temper_cross_fitted(raw, labels, groups=related)
        target, metric = self.competition.target, self.competition.metric
        return probs, decisions.cross_fitted(target, metric, probs, labels, groups=related)

    def probs_file(self, part: str) -> Path:
        """Return the path of a part's probabilities."""
        return self.folder / f"{self._stem(part)}_probs.npy"

    def _ids_file(self, part: str) -> Path:
        return self.folder / f"{self._stem(part)}_ids.sha256"

    def store_probs(self, part: str, probs: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Store the probabilities [N, K] of a part, and of which images [N] they are.

        If they replace those of other images, the result is deleted, so that the run is scored again.
        """
        if self.probs_file(part).exists():
            for name in ("result.json", "leaderboard.json", self.probs_file(part).name):
                (self.folder / name).unlink(missing_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, probs)
        atomic.write_text(self._ids_file(part), f"{_checksum(ids)}\n")
        atomic.write_bytes(self.probs_file(part), buffer.getvalue())

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch; for a soup or an ensemble one row with the seconds that its members were trained.

        Raises UserError for a run that has not trained an epoch yet.
        """
        import pandas as pd  # half a second to import

        path = self.folder / "history.csv"
        if not path.exists():
            raise UserError(f"{self.name} has not trained an epoch yet: ./run.sh resume {self.name}")
        with explained(path, f"{DAMAGED}; {NO_WAY_ON}, or delete it to continue without the curves"):
            table = pd.read_csv(path).astype(float)
            if "seconds" not in table or not (self.members or set(table) >= EVERY_EPOCH):
                raise ValueError("columns of every epoch are missing")
            return table.astype({"epoch": int}) if "epoch" in table else table

    @property
    def minutes(self) -> float:
        """Training time in minutes; 0 before the first epoch."""
        with explained(self.folder / "history.csv", f"{DAMAGED}; {NO_WAY_ON}, or delete it to continue without it"):
            return float(self._last_epoch().get("seconds", 0)) / 60

    @property
    def epochs(self) -> int | None:
        """Number of epochs trained, the last of which `train.steps` may have cut short; None if it was not trained."""
        with explained(self.folder / "history.csv", f"{DAMAGED}; {NO_WAY_ON}, or delete it to continue without it"):
            row = self._last_epoch()
            return int(row["epoch"]) if "epoch" in row else None

    @property
    def result(self) -> Result:
        """Its scores. Raises UserError for a run that is not finished."""
        if not self.is_finished:
            raise UserError(f"{self.name} is not finished: ./run.sh resume {self.name}")
        path = self.folder / "result.json"
        with explained(path, f"{DAMAGED}; delete it, and ./run.sh resume {self.name} scores it again"):
            return self._result(read_json(path))

    def _result(self, stored: dict[str, Any]) -> Result:
        metric = {"metric": self.competition.metric.name}  # older scores do not name it
        scores = {part: Score.read(metric | stored[part]) if stored.get(part) else None for part in PARTS}
        if self.metadata.format == 1 and scores["test"] and scores["test"].count != len(self.split.test):
            scores |= {"test": None, "predict": scores["test"]}
        holdout = scores.pop("holdout")
        assert holdout is not None
        return Result(stored["parameters"], stored["limit"], holdout, **scores, minutes=stored["minutes"])

    def store_result(self, result: Result) -> None:
        """Write the scores, after which the run is finished."""
        atomic.write_text(self.folder / "result.json", json.dumps(asdict(result), indent=2) + "\n")

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
            members = [member for member, _ in self.answering]
            models = {member.name: member.load_model() for member in members}
            seen = {member.name: member.competition for member in members}
            weighed = budget.weigh_ensemble(models, self.competition, self.name, seen)
        else:
            weighed = budget.weigh_model(self.load_model(), self.competition, self.recipe_name)
        weighed.refuse_if_over()
        return weighed

    def _stem(self, part: str) -> str:
        """Return the stem of a part's file names."""
        return FILES_OF_FORMAT_1.get(part, part) if self.metadata.format == 1 else part

    def _last_epoch(self) -> dict[str, str]:
        path = self.folder / "history.csv"
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if len(lines) > 1 else {}


def _checksum(ids: Sequence[str]) -> str:
    """Return a checksum of ids and their order."""
    return hashlib.sha256("\n".join(ids).encode(errors="surrogateescape")).hexdigest()


def _tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file; none if it does not exist."""
    if not weights.exists():
        return {}
    with explained(weights, f"{DAMAGED}; {NO_WAY_ON}"):
        return dict(safetensors.torch.load_file(weights))


@cache
def _device_here(asked: str, who: str) -> str:
    """Return the device if this machine has it, else auto; it says so once."""
    if devices.is_available(asked):
        return asked
    say(f"{who} was started with --device {asked}, which this machine lacks: it continues with --device auto")
    return "auto"
