"""A run and its files, `runs/<name>/`: read here and nowhere else.

run.json                what was asked for, where and with which code: `Facts`
recipe.yaml, competition.yaml    as they were resolved when the run was started
split.json              the ids of train, holdout and test
history.csv             one row per epoch
weights.safetensors     what ships; temperature.txt what calibrates it
PART_probs.npy, PART.csv         what it says of holdout, test and predict
result.json             the scores: it is written last, and its presence says that the run is finished
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from featherweight import atomic, budget, paths
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.errors import UserError, nearest
from featherweight.evaluation.calibration import temper
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.runs import ledger
from featherweight.training import checkpoint

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("holdout", "test", "predict")  # that a run predicts
FORMAT = 2  # of a run's folder
# Before there was a format number, "test" was the competition's images, and "kept" what is now called test.
FILES_OF_FORMAT_1 = {"test": "kept", "predict": "test"}


@dataclass(frozen=True)
class Facts:
    """What `run.json` says: what was asked for, where it works, and with which code.

    `members` and `weights` are of an ensemble; in a search's trial only the names are known.
    """

    recipe: str
    competition: str
    started: str = ""
    command: str = ""
    commit: str = ""
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Store them in a run's folder."""
        said = {key: value for key, value in asdict(self).items() if value or key not in ("members", "weights")}
        atomic.write_text(folder / "run.json", json.dumps(said, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Those of a run's folder. Raises UserError for a file that is damaged, or of a later version."""
        path = folder / "run.json"
        said = {"format": 1, **_read_json(path)}
        if said["format"] not in (1, FORMAT):
            raise UserError(f"{path}: the run was made by a later version of featherweight (format {said['format']})")
        known = {one.name: said[one.name] for one in fields(cls) if one.name in said}
        try:
            facts: Facts = TypeAdapter(cls).validate_python(known)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise UserError(f"{path}: the file is damaged ({where}: {fault['msg']})") from None
        return facts


@dataclass(frozen=True)
class SplitIds:
    """The ids of the images trained on, held out, and kept for the end."""

    train: list[str]
    holdout: list[str]
    test: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """As it is stored; a part that is empty because none was asked for is left out."""
        said = {"train": self.train, "holdout": self.holdout, **({"test": self.test} if self.test else {})}
        return json.dumps(said) + "\n"


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
    facts: Facts

    @classmethod
    def find(cls, name: str) -> Run:
        """The run of that name, or in that folder. Raises UserError with the nearest name."""
        folder = next((f for f in (paths.runs() / name, Path(name)) if (f / "run.json").is_file()), None)
        if folder is None:
            if name in set(ledger.read()["run"]):
                raise UserError(f"the ledger has a run '{name}', but its folder is not here: {paths.runs() / name}")
            known = sorted(path.parent.name for path in paths.runs().glob("*/run.json"))
            raise UserError(f"there is no run called '{name}'{nearest(name, known) or ';'} see them all: ./run.sh runs")
        recipe = load_recipe(str(folder / "recipe.yaml"))
        competition = load_competition(str(folder / "competition.yaml")).seen_by(recipe)
        return cls(folder.resolve(), recipe, competition, Facts.read(folder))

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
        return self.facts.recipe

    @property
    def competition_name(self) -> str:
        """The name of its competition's file."""
        return self.facts.competition

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
        return bool(self.facts.members)

    @property
    def members(self) -> list[str]:
        """The names of the runs that an ensemble or a soup was made of."""
        soup = self.folder / "soup.json"
        members: list[str] = _read_json(soup)["members"] if soup.exists() else list(self.facts.members)
        return members

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
        said = _read_json(path)
        return SplitIds(said["train"], said["holdout"], said.get("test", []))

    def store_split(self, split: SplitIds) -> None:
        """Keep the ids. Raises UserError if they are not those that the run was started with."""
        path = self.folder / "split.json"
        if not path.exists():
            atomic.write_text(path, split.to_json())
        elif path.read_text() != split.to_json():
            raise UserError(f"the images are not those that {self.name} was started with ({path}); start a new run")

    def raw_probs(self, part: str) -> NDArray[np.float32] | None:
        """The model's own probabilities float32 [N, K] for a part, or None before they are computed."""
        path = self.probs_file(part)
        probs: NDArray[np.float32] | None = np.load(path) if path.exists() else None
        return probs

    def probs(self, part: str) -> NDArray[np.float32]:
        """The probabilities float32 [N, K] for a part, at the run's temperature: those of its CSV, which are scored.

        Raises UserError where they are not computed yet.
        """
        raw = self.raw_probs(part)
        if raw is None:
            raise UserError(f"{self.name} has not predicted {part} yet: ./run.sh resume {self.name}")
        return self.calibrated(raw)

    def calibrated(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [N, K] at the temperature fitted to the holdout, where the recipe asks for one."""
        return temper(probs, float(self.temperature.read_text())) if self.temperature.exists() else probs

    def probs_file(self, part: str) -> Path:
        """Where the probabilities of a part are kept."""
        return self.folder / f"{self._stem(part)}_probs.npy"

    def store_probs(self, part: str, probs: NDArray[np.float32]) -> None:
        """Keep the probabilities of a part."""
        buffer = io.BytesIO()
        np.save(buffer, probs)
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
        return pd.read_csv(path)

    @property
    def minutes(self) -> float:
        """How long it trained; 0 before the first epoch."""
        return float(self._last_epoch().get("seconds", 0)) / 60

    @property
    def epochs(self) -> int | None:
        """How many epochs it trained, the last of which `train.steps` may have cut; None for what was not trained."""
        row = self._last_epoch()
        return int(row["epoch"]) if "epoch" in row else None

    @property
    def result(self) -> Result:
        """Its scores. Raises UserError for a run that is not finished."""
        if not self.is_finished:
            raise UserError(f"{self.name} is not finished: ./run.sh resume {self.name}")
        said = _read_json(self.folder / "result.json")
        metric = {"metric": self.competition.metric.name}  # which older scores do not name
        scores = {part: Score.read(metric | said[part]) if said.get(part) else None for part in PARTS}
        if self.facts.format == 1 and scores["test"] and scores["test"].count != len(self.split.test):
            scores |= {"test": None, "predict": scores["test"]}
        holdout = scores.pop("holdout")
        assert holdout is not None
        return Result(said["parameters"], said["limit"], holdout, **scores, minutes=said["minutes"])

    def store_result(self, result: Result) -> None:
        """Keep the scores, which says that the run is finished."""
        atomic.write_text(self.folder / "result.json", json.dumps(asdict(result), indent=2) + "\n")

    def load_model(self) -> Classifier:
        """The model that it ships. Raises UserError if its weights are not the recipe's."""
        model = build(self.recipe.model, self.competition.shape)
        checkpoint.load_weights(self.weights, model)
        return model

    def weigh(self) -> budget.WeighIn:
        """The count made again from the weights that ship, an ensemble's members summed.

        Raises OverBudget, and UserError if they are not the recipe's.
        """
        if self.is_ensemble:
            members = {name: Run.find(name).load_model() for name in self.members}
            weighed = budget.weigh_ensemble(members, self.competition, self.name)
        else:
            weighed = budget.weigh_model(self.load_model(), self.competition, self.recipe_name)
        weighed.refuse_if_over()
        return weighed

    def _stem(self, part: str) -> str:
        """How the files of a part are called."""
        return FILES_OF_FORMAT_1.get(part, part) if self.facts.format == 1 else part

    def _last_epoch(self) -> dict[str, str]:
        path = self.folder / "history.csv"
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if len(lines) > 1 else {}


def _read_json(path: Path) -> Any:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the file is damaged ({error})") from None
    if not isinstance(said, dict):
        raise UserError(f"{path}: the file is damaged (expected an object)")
    return said
