"""What soups, ensembles and students share: the finished runs that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight import atomic, paths
from featherweight.config import Recipe
from featherweight.data.pack import Data
from featherweight.errors import UserError
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run


def finished(names: Sequence[str]) -> list[Run]:
    """Return the finished runs of those names or folders.

    Raises UserError for fewer than two, for ensembles, and for folders outside this workspace, since what is made of
    runs finds them again by name.
    """
    runs = [Run.find(name) for name in names]
    if len({run.name for run in runs}) < max(2, len(names)):
        raise UserError("name at least two runs, each once: ./run.sh runs shows them")
    for run in runs:
        if run.folder.parent.resolve() != paths.runs().resolve():
            raise UserError(f"{run.folder} is not among your runs in {paths.runs()}: copy it there first")
        if not run.is_finished:
            raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
        if run.is_ensemble:
            raise UserError(f"{run.name} is an ensemble already; name its members: {', '.join(run.members)}")
    return runs


def are_folds(runs: Sequence[Run]) -> bool:
    """True if they are several folds of one division, so that each image is held out by one of them at most."""
    first = runs[0]
    divisions = {run.recipe.split.model_copy(update={"fold": 0}).model_dump_json() for run in runs}
    folds = {run.recipe.split.fold for run in runs}
    return first.recipe.split.folds is not None and len(divisions) == 1 and len(folds) == len(runs) > 1


def recipe_of_folds(runs: Sequence[Run], data: Data) -> Recipe:
    """Return the recipe of what is made of several folds: it holds out images that none of them was trained on.

    Raises UserError if they are not folds of one division, or if no such images are left.
    """
    first = runs[0]
    for run in runs:
        if not run.competition.same_task(first.competition):
            raise UserError(f"{run.name} and {first.name} are of different competitions")
        if run.recipe.split.model_copy(update={"fold": 0}) != first.recipe.split.model_copy(update={"fold": 0}):
            raise UserError(f"{run.name} and {first.name} are not folds of one division; compare their split sections")
    test = first.recipe.split.test
    if test is None and data.valid is None:
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"{names} are folds: each was trained on what the others held out, so no images are left to score what is "
            f"made of them; hold out a test part when you train them: --set split.test=0.1"
        )
    unseen = {"folds": None, "fold": 0, "test": None, **({} if test is None else {"holdout": test})}
    return first.recipe.model_copy(update={"split": first.recipe.split.model_copy(update=unseen)})


def task(kind: str, first: Run, command: list[str]) -> RunRequest:
    """Return the request of a soup or an ensemble (its `kind`), which has its first member's settings."""
    metadata = first.metadata
    return RunRequest(
        kind, first.recipe, metadata.competition, first.competition, command, first.device, metadata.threads
    )


def write_history(folder: Path, runs: Sequence[Run]) -> None:
    """Write a history without epochs, since nothing was trained: the training time of all members together."""
    atomic.write_text(folder / "history.csv", f"seconds\n{60 * sum(run.minutes for run in runs)}\n")
