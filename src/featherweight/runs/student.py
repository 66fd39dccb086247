"""A student: one model under the limit, taught by several finished runs that may be over it together.

Folds teach out of fold: each training image has the prediction of the run that held it out, so that the student learns
what a model predicts for images that it was not trained on, wrong labels included. Runs of one split (seeds, other
networks) predict every batch as the student sees it, augmented and mixed (arXiv:2106.05237). Teachers do not ship.
"""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.config import load_recipe
from featherweight.config.merge import Override
from featherweight.runs import members
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run


def student(
    names: Sequence[str], recipe_name: str | None, changes: Sequence[str], name: str | None, command: list[str]
) -> Run:
    """Make the run of a student, not yet trained: the recipe called `recipe_name`, or that of the first teacher, with
    `changes`, taught by the runs. It holds out images that none of them was trained on.

    Raises UserError if there are no such images.
    """
    runs = members.finished(names)
    first = runs[0]
    recipe = first.recipe
    if len({run.recipe.split.fold for run in runs}) > 1:
        recipe = members.recipe_of_folds(runs, first.competition.load())
    split = recipe.split.model_dump(mode="json", exclude_none=True)
    settings: list[str | Override] = [
        Override("distill", {"teachers": [run.name for run in runs]}, "student"),
        Override("split", split, "student"),
        *changes,
    ]
    metadata = first.metadata
    task = RunRequest(
        recipe_name or "student",
        load_recipe(recipe_name, settings) if recipe_name else first.recipe_with(settings),
        metadata.competition,
        first.competition,
        command,
        first.device,
        metadata.threads,
    )
    return task.start(name)
