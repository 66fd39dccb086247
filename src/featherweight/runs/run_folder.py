"""A run's folder, `runs/<name>/`: made whole, found again, and what became of it kept."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from featherweight import __version__, atomic, budget, paths
from featherweight.config import Competition, Recipe, load_competition, load_recipe, store
from featherweight.errors import UserError, nearest
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.models.input_sizes import refuse_other_sizes
from featherweight.runs import ledger
from featherweight.runtime import device as devices
from featherweight.runtime import launcher, processes
from featherweight.runtime.processes import ALONE, Processes
from featherweight.training import checkpoint


@dataclass(frozen=True)
class Task:
    """What a run is to do: a recipe for a competition, by their names and as they were read, and where to work.

    `command` is what the user said, word by word. `device`, `threads` and `procs` are as the command line has them.
    """

    recipe_name: str
    recipe: Recipe
    competition_name: str
    competition: Competition
    command: list[str]
    device: str = "auto"
    threads: int | None = None
    procs: int | None = None


@dataclass(frozen=True)
class Run:
    """A run's folder and what was said when it was started."""

    folder: Path
    recipe_name: str
    competition_name: str
    recipe: Recipe
    competition: Competition
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run, its folder and its CSV."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """What ships."""
        return self.folder / "weights.safetensors"

    @property
    def temperature(self) -> Path:
        """What the probabilities are tempered by, in a run that calibrates."""
        return self.folder / "temperature.txt"

    @property
    def members(self) -> list[str]:
        """The names of the runs that an ensemble or a soup was made of."""
        soup = self.folder / "soup.json"
        told = json.loads(soup.read_text()) if soup.exists() else self.facts
        members: list[str] = told.get("members", [])
        return members

    @property
    def is_ensemble(self) -> bool:
        """Does it ship several models?"""
        return "members" in self.facts

    @property
    def csv(self) -> Path:
        """What is uploaded."""
        return paths.submissions() / f"{self.name}.csv"


@dataclass(frozen=True)
class Result:
    """What a finished run has to show."""

    parameters: int
    limit: int
    holdout: Score
    test: Score | None
    minutes: float


def start(task: Task, name: str | None = None) -> Run:
    """Weigh the model, then make the run's folder, whole, with everything needed to go on after a kill.

    It will be of `task.procs` processes; if these have been started by torchrun, all of them call this.
    """
    everyone = processes.join()
    if task.procs is not None and launcher.inside():
        started = f"torchrun has started {everyone.count} processes already"
        raise UserError(f"--procs {task.procs}: {started}; leave --procs out")
    several = everyone if task.procs is None else processes.planned(task.procs)

    def make() -> str:
        with making(task, name, several) as made:
            return made.name

    return find(everyone.once(make))


@contextmanager
def making(task: Task, name: str | None, several: Processes = ALONE, more: Mapping[str, Any] = {}) -> Iterator[Run]:
    """A run whose folder is out of sight while one puts into it what it is to hold; at the end it appears, whole.

    `several` are the processes it will be of; `more` are further facts of it. A fault or a kill before the end leaves
    no run.
    """
    recipe, competition, threads = task.recipe, task.competition, task.threads
    budget.weigh(recipe, competition, task.recipe_name).refuse_if_over()
    refuse_what_does_not_fit(recipe, competition)
    if recipe.train.compile and several.count > 1:
        raise UserError("train.compile: a batch that several processes share goes through the model as it is written")
    if threads is not None and 1 <= threads < several.count:
        raise UserError(f"--threads {threads}: expected one or more for each of the {several.count} processes")
    # Refuses what this machine does not have.
    devices.start(task.device, recipe.train.precision, threads, several)
    facts = {
        "recipe": task.recipe_name,
        "competition": task.competition_name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(task.command),
        "commit": commit(),
        "device": task.device,
        "threads": threads or max(torch.get_num_threads() * launcher.count(), several.count),
        "processes": several.count,
        "versions": {"featherweight": __version__, "torch": torch.__version__, "python": platform.python_version()},
        **more,
    }
    names = _names(name, f"{task.recipe_name}-{task.competition_name}-s{recipe.seed}")
    with atomic.folder(paths.runs(), names) as folder:
        store(recipe, folder / "recipe.yaml")
        store(competition, folder / "competition.yaml")
        atomic.write_text(folder / "run.json", json.dumps(facts, indent=2) + "\n")
        yield Run(folder, task.recipe_name, task.competition_name, recipe, competition, facts)


def refuse_what_does_not_fit(recipe: Recipe, competition: Competition) -> None:
    """Raise UserError if the recipe shows its model images of a size that the model does not take."""
    growing = recipe.growth.scales if recipe.growth else []
    viewed = [factor for view in recipe.predict.views if view.name == "scales" for factor in view.arguments["factors"]]
    for where, scales in (("growth.scales", growing), ("predict.views: scales", viewed)):
        refuse_other_sizes(where, scales, recipe.model, len(competition.classes), competition.image)


def find(name: str) -> Run:
    """The run of that name (or in that folder). Raises UserError with the nearest name."""
    folder = next((f for f in (paths.runs() / name, Path(name)) if (f / "run.json").is_file()), None)
    if folder is None:
        if name in set(ledger.read()["run"]):
            raise UserError(f"the ledger has a run '{name}', but its folder is not here: {paths.runs() / name}")
        known = sorted(path.parent.name for path in paths.runs().glob("*/run.json"))
        raise UserError(f"there is no run called '{name}'{nearest(name, known) or ';'} see them all: ./run.sh runs")
    facts = json.loads((folder / "run.json").read_text())
    recipe = load_recipe(str(folder / "recipe.yaml"))
    competition = load_competition(str(folder / "competition.yaml"))
    return Run(folder.resolve(), facts["recipe"], facts["competition"], recipe, competition, facts)


def weigh_weights(run: Run) -> budget.WeighIn:
    """The count made again from the weights that ship, an ensemble's members summed.

    Raises OverBudget, and UserError if they are not the recipe's.
    """
    if members := run.facts.get("members"):
        weighed = budget.weigh_ensemble({name: shipped(find(name)) for name in members}, run.competition, run.name)
    else:
        weighed = budget.weigh_model(shipped(run), run.competition, run.recipe_name)
    weighed.refuse_if_over()
    return weighed


def shipped(run: Run) -> Classifier:
    """The model that a finished run ships. Raises UserError if its weights are not the recipe's."""
    competition = run.competition
    model = build(run.recipe.model, len(competition.classes), competition.image.channels, competition.image.size)
    checkpoint.load_weights(run.weights, model)
    return model


def result_of(run: Run) -> Result:
    """What a run's other processes have recorded."""
    kept = json.loads((run.folder / "result.json").read_text())
    holdout, test = (Score.read(kept[part]) if kept[part] else None for part in ("holdout", "test"))
    return Result(**{**kept, "holdout": holdout, "test": test})


def record(run: Run, result: Result, macs: int) -> None:
    """Keep what came out, in the run's folder and in the ledger."""
    atomic.write_text(run.folder / "result.json", json.dumps(asdict(result), indent=2) + "\n")
    test = result.test
    ledger.record(
        {
            "date": run.facts["started"],
            "run": run.name,
            "recipe": run.recipe_name,
            "competition": run.competition_name,
            "seed": run.recipe.seed,
            "parameters": result.parameters,
            "limit": result.limit,
            "macs": macs,
            "epochs": epochs(run) or run.recipe.train.epochs,
            "metric": run.competition.metric.name,
            "holdout": round(result.holdout.value, 6),
            "holdout_low": round(result.holdout.low, 6),
            "holdout_high": round(result.holdout.high, 6),
            "holdout_images": result.holdout.count,
            "test": round(test.value, 6) if test else "",
            "test_low": round(test.low, 6) if test else "",
            "test_high": round(test.high, 6) if test else "",
            "test_images": run.csv.read_bytes().count(b"\n") - 1 if run.csv.exists() else "",
            "minutes": round(result.minutes, 2),
            "device": run.facts["device"],
            "commit": run.facts["commit"],
            "csv_sha256": ledger.sha256(run.csv) if run.csv.exists() else "",
            "weights_sha256": ledger.sha256(run.weights),
            "command": run.facts["command"],
            "settings": ledger.settings(run.recipe.model_dump(mode="json")),
        }
    )


def minutes(run: Run) -> float:
    """How long a run trained."""
    return float(_last_row(run)["seconds"]) / 60


def epochs(run: Run) -> int | None:
    """How many epochs a run trained, the last of which `train.steps` may have cut; None for what was not trained."""
    row = _last_row(run)
    return int(row["epoch"]) if "epoch" in row else None


def _last_row(run: Run) -> dict[str, str]:
    lines = (run.folder / "history.csv").read_text().splitlines()
    return dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))


def _names(name: str | None, default: str) -> Iterator[str]:
    """The names a run may take: the one given, or the default and then that with a number."""
    if name is not None and (Path(name).name != name or name in ("", ".", "..")):
        raise UserError(f"--name {name}: expected a plain name, with no folder in it")
    yield name or default
    if name is None:
        yield from (f"{default}-{number}" for number in range(2, sys.maxsize))
    raise UserError(f"there is a run called '{name}' already: ./run.sh resume {name}, or take another --name")


def commit() -> str:
    """The commit of the code that runs, with a + when it has been changed since; empty outside a checkout."""
    git = ["git", "-C", str(paths.CHECKOUT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "src", "configs"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if dirty.stdout.strip() else "")
