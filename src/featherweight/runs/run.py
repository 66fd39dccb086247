"""A run and its files, `runs/<name>/`: read here and nowhere else.

run.json                what was asked for, where and with which code: `Metadata`
recipe.yaml, competition.yaml    as they were resolved when the run was started
split.json              the ids of train, holdout and test; kin.json what keeping kin on one side has changed
groups.json             which of the scored images are related, where any are
labels.json             which held-out labels look wrong, where any do
history.csv             one row per epoch
weights.safetensors     what ships; temperature.txt what calibrates it; decision.json how it answers
PART_probs.npy, PART.csv         what it says of holdout, test and predict; PART_ids.sha256, of which images
result.json             the scores: it is written last, and its presence says that the run is finished
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from featherweight.config.merge import Setting
from featherweight.console import say
from featherweight.data import safe_arrays
from featherweight.errors import UserError, nearest
from featherweight.evaluation import decisions
from featherweight.evaluation.calibration import temper, tempered_crossed
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.decisions import Decision
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.models.custom_source import stored_sources
from featherweight.runs import ledger
from featherweight.runs.elsewhere import data_here
from featherweight.runs.metadata import DAMAGED, Metadata, SplitIds, read_json, read_record
from featherweight.runtime import device as devices
from featherweight.training import checkpoint
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd

EVERY_EPOCH = {"epoch", "lr", "train_loss", "holdout_loss", "holdout_score"}  # columns of what was trained
NO_WAY_ON = "put it back from a copy, or start a new run"
PARTS = ("holdout", "test", "predict")  # that a run predicts
# Before there was a format number, "test" was the competition's images, and "kept" what is now called test.
FILES_OF_FORMAT_1 = {"test": "kept", "predict": "test"}


@dataclass(frozen=True)
class Result:
    """How a finished run scored: on its holdout, on the test part if it has one, and on the images to predict if their
    answers are known; `minutes` is the time it trained.
    """

    parameters: int
    limit: int
    holdout: Score
    test: Score | None
    predict: Score | None
    minutes: float

    @property
    def unseen(self) -> Score | None:
        """The score on images that nothing was chosen by, where there is one."""
        return self.predict or self.test


@dataclass(frozen=True)
class Run:
    """A run's folder and its configuration; `competition` is as the recipe sees it, with its image size."""

    folder: Path
    recipe: Recipe
    competition: Competition
    metadata: Metadata

    @classmethod
    def find(cls, name: str) -> Run:
        """The run of that name, or in that folder. Raises UserError with the nearest name."""
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
        # Not `resolve`: behind a link lies a folder that may be called otherwise.
        return cls(Path(os.path.abspath(folder)), recipe, stored.seen_by(recipe), metadata)  # noqa: PTH100

    def recipe_with(self, changes: Sequence[str | Setting]) -> Recipe:
        """Its recipe with some keys changed; a network of the user's is the one that was stored with the run."""
        with stored_sources(self.folder):
            return load_recipe(str(self.folder / "recipe.yaml"), [*self.metadata.changes, *changes])

    def note_shortened(self, step: int, total: int) -> None:
        """Note in its recipe that from a step on it has no more than `total` steps."""
        path = self.folder / "recipe.yaml"
        with stored_sources(self.folder):
            before = load_recipe(str(path))
        shortened = [*before.train.shortened, (step, total)]
        store(before.model_copy(update={"train": before.train.model_copy(update={"shortened": shortened})}), path)

    @staticmethod
    def exists(name: str) -> bool:
        """Is there a run of that name here?"""
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
        """Is there a state to go on from, or what ships already? Then the model's first weights are not asked for."""
        return self.weights.exists() or (self.folder / "checkpoint.pt").exists()

    @property
    def weights(self) -> Path:
        """What ships."""
        return self.folder / "weights.safetensors"

    @property
    def temperature(self) -> Path:
        """What the probabilities are tempered by, in a run that calibrates."""
        return self.folder / "temperature.txt"

    @property
    def is_divided(self) -> bool:
        """Has it divided its images into parts?"""
        return (self.folder / "split.json").is_file()

    @property
    def is_finished(self) -> bool:
        """Has it a result?"""
        return (self.folder / "result.json").is_file()

    @property
    def is_ensemble(self) -> bool:
        """Does it ship several models?"""
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
        """The runs that answer, each with its weight: the run itself, or the members that an ensemble was made of.

        Raises UserError where another run has a member's name by now: an ensemble holds its members' weights.
        """
        if not self.is_ensemble:
            return [(self, 1.0)]
        runs = [Run.find(name) for name in self.members]
        held = _tensors(self.weights)
        for index, run in enumerate(runs):
            own = {f"{index}.{name}": tensor for name, tensor in _tensors(run.weights).items()}
            if not all(name in held and torch.equal(held[name], tensor) for name, tensor in own.items()) or not own:
                raise UserError(
                    f"{self.name} was made with another run called {run.name} than is here now: put that one back, or "
                    f"delete {self.folder} and make the ensemble anew"
                )
        return list(zip(runs, self.metadata.weights or [1 / len(runs)] * len(runs), strict=True))

    @property
    def device(self) -> str:
        """The device that was asked for when it was started or, where this machine has none like it, auto."""
        return _device_here(self.metadata.device, self.name)

    def csv(self, part: str = "predict") -> Path:
        """The CSV of a labelled part, or what is uploaded."""
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

    def store_split(self, split: SplitIds) -> None:
        """Keep the ids."""
        atomic.write_text(self.folder / "split.json", split.to_json())

    def raw_probs(self, part: str, ids: Sequence[str] | None = None) -> NDArray[np.float32] | None:
        """The model's own probabilities float32 [N, K] for a part, or None before they are computed; with `ids` [N]
        also where those that are stored are of other images.
        """
        path = self.probs_file(part)
        if not path.exists() or (ids is not None and not self._is_of(part, ids)):
            return None
        try:
            probs = safe_arrays.load(path)
            if probs.dtype != np.float32 or probs.ndim != 2 or probs.shape[1] != self.competition.shape.num_classes:
                raise UserError(f"{path}: not the probabilities of {self.competition.shape.num_classes} classes")
        except UserError as error:
            if self.is_ensemble:  # which is made at once, and only from its members
                again = f"delete {self.folder}, then ./run.sh ensemble {' '.join(self.members)}"
                raise UserError(f"{error}; make it anew: {again}") from None
            say(f"{error}; they are computed again from the weights")
            path.unlink()
            return None
        return None if ids is not None and len(ids) != len(probs) else probs

    def probs(self, part: str, ids: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The probabilities float32 [N, K] for a part, at the run's temperature: those of its CSV, which are scored.

        Raises UserError where they are not computed yet or, with `ids` [N], are of other images.
        """
        raw = self.raw_probs(part, ids)
        if raw is None and self.probs_file(part).exists():
            again = f"delete {self.folder} and make it anew" if self.is_ensemble else f"./run.sh resume {self.name}"
            raise UserError(f"{self.name} has answered other images than those to {part} today: {again}")
        if raw is None:
            raise UserError(f"{self.name} has not predicted {part} yet: ./run.sh resume {self.name}")
        return self.calibrated(raw)

    def _is_of(self, part: str, ids: Sequence[str]) -> bool:
        """Are the stored probabilities of these images, as far as is known? Older runs kept no word of it."""
        note = self._ids_file(part)
        return not note.exists() or note.read_text().strip() == _checksum(ids)

    def calibrated(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [N, K] at the temperature fitted to the holdout, where the recipe asks for one."""
        if not self.temperature.exists():
            return probs
        return temper(probs, self.fitted_temperature, several=self.competition.target == "several")

    @property
    def fitted_temperature(self) -> float:
        """The temperature that calibrates it; 1 where none is fitted."""
        if not self.temperature.exists():
            return 1.0
        with explained(self.temperature, f"{DAMAGED}; delete it, and ./run.sh resume {self.name} fits it again"):
            temperature = float(self.temperature.read_text())
            if not 0 < temperature < math.inf:
                raise ValueError(f"expected a number above 0, got {temperature:g}")
            return temperature

    @property
    def decision(self) -> Decision:
        """How its probabilities become answers: as fitted to its holdout, where the competition takes that."""
        path, competition = self.folder / "decision.json", self.competition
        if path.exists():
            return read_record(path, Decision, f"delete it, and ./run.sh resume {self.name} fits it again")
        return decisions.unfitted(competition.target, len(competition.classes))

    def fit_decision(self, labels: Answers) -> None:
        """Fit the decision to the holdout of true classes [N], or sets [N, K], and keep it; nothing where there is
        nothing to fit.
        """
        target, metric = self.competition.target, self.competition.metric
        if decisions.is_fitted(target, metric):
            decisions.fit(target, metric, self.probs("holdout"), labels).store(self.folder / "decision.json")

    def unseen(self, probs: NDArray[np.float32], labels: Answers) -> tuple[NDArray[np.float32], Answers]:
        """The holdout's probabilities and answers as they are scored: what was fitted to it, the temperature and the
        decision, is for each fifth of it fitted to the others.
        """
        raw = self.raw_probs("holdout")
        if self.temperature.exists() and raw is not None:
            probs = tempered_crossed(raw, labels)
        return probs, decisions.crossed(self.competition.target, self.competition.metric, probs, labels)

    def probs_file(self, part: str) -> Path:
        """Where the probabilities of a part are kept."""
        return self.folder / f"{self._stem(part)}_probs.npy"

    def _ids_file(self, part: str) -> Path:
        return self.folder / f"{self._stem(part)}_ids.sha256"

    def store_probs(self, part: str, probs: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Keep the probabilities [N, K] of a part, and of which images [N] they are. Where there are those of others
        the run is not finished: it is scored anew.
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
        """One row per epoch; of what was made of runs, one with the seconds that they trained together.

        Raises UserError for a run that has not trained an epoch yet.
        """
        import pandas as pd  # half a second, which runs are started without

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
        """How long it trained; 0 before the first epoch."""
        with explained(self.folder / "history.csv", f"{DAMAGED}; {NO_WAY_ON}, or delete it to continue without it"):
            return float(self._last_epoch().get("seconds", 0)) / 60

    @property
    def epochs(self) -> int | None:
        """How many epochs it trained, the last of which `train.steps` may have cut; None for what was not trained."""
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
        metric = {"metric": self.competition.metric.name}  # which older scores do not name
        scores = {part: Score.read(metric | stored[part]) if stored.get(part) else None for part in PARTS}
        if self.metadata.format == 1 and scores["test"] and scores["test"].count != len(self.split.test):
            scores |= {"test": None, "predict": scores["test"]}
        holdout = scores.pop("holdout")
        assert holdout is not None
        return Result(stored["parameters"], stored["limit"], holdout, **scores, minutes=stored["minutes"])

    def store_result(self, result: Result) -> None:
        """Keep the scores, which says that the run is finished."""
        atomic.write_text(self.folder / "result.json", json.dumps(asdict(result), indent=2) + "\n")

    def load_model(self) -> Classifier:
        """The model that it ships. Raises UserError if its weights are not the recipe's."""
        model = build(self.recipe.model, self.competition.shape)
        checkpoint.load_weights(self.weights, model)
        return model

    def weigh(self) -> budget.BudgetCheck:
        """The count made again from the weights that ship, an ensemble's members summed.

        Raises OverBudget, and UserError if they are not the recipe's.
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
        """How the files of a part are called."""
        return FILES_OF_FORMAT_1.get(part, part) if self.metadata.format == 1 else part

    def _last_epoch(self) -> dict[str, str]:
        path = self.folder / "history.csv"
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if len(lines) > 1 else {}


def _checksum(ids: Sequence[str]) -> str:
    """Of which images something is, in their order."""
    return hashlib.sha256("\n".join(ids).encode(errors="surrogateescape")).hexdigest()


def _tensors(weights: Path) -> dict[str, torch.Tensor]:
    """What is in a file of weights; nothing where there is none."""
    if not weights.exists():
        return {}
    with explained(weights, f"{DAMAGED}; {NO_WAY_ON}"):
        return dict(safetensors.torch.load_file(weights))


@cache
def _device_here(asked: str, who: str) -> str:
    """The device asked for elsewhere, or auto; which is said once."""
    if devices.is_available(asked):
        return asked
    say(f"{who} was started with --device {asked}, which this machine lacks: it goes on with --device auto")
    return "auto"
